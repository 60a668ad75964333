"""MELD, seven emotions. Modalities that a file lacks are left out.

--config.data.label=sentiment takes its three sentiments instead.

python -m experiments.run --config=experiments/meld.py
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(ablations: str = "") -> ConfigDict:
    """The MELD experiment."""
    config = base.get_config()
    config.experiment = "meld"
    config.num_epochs = 20
    config.batch_size = 64
    config.data.name = "meld"
    return base.finish(config, ablations)

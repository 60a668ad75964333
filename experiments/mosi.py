"""CMU-MOSI, negative or positive, one video a monologue.

python -m experiments.run --config=experiments/mosi.py
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(ablations: str = "") -> ConfigDict:
    """The MOSI experiment."""
    config = base.get_config()
    config.experiment = "mosi"
    config.num_epochs = 30
    config.batch_size = 8
    config.data.name = "mosi"
    config.eval.select = "accuracy"
    return base.finish(config, ablations)

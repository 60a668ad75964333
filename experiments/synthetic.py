"""Learn generated conversations: four emotions, three modalities, no data needed.

python -m experiments.run --config=experiments/synthetic.py
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(ablations: str = "") -> ConfigDict:
    """Return the synthetic experiment."""
    config = base.get_config()
    config.experiment = "synthetic"
    config.num_epochs = 15
    config.data.name = "synthetic"
    config.data.generate = ConfigDict(dict(seed=0, dialogues=120, classes=4, separation=2.5, noise=1.0))
    return base.finish(config, ablations)

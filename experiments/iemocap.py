"""IEMOCAP, six emotions, one utterance a node.

python -m experiments.run --config=experiments/iemocap.py
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(ablations: str = "") -> ConfigDict:
    """The IEMOCAP experiment."""
    config = base.get_config()
    config.experiment = "iemocap"
    config.num_epochs = 30
    config.data.name = "iemocap"
    config.data.speaker_normalised = ("audio", "vocal")
    return base.finish(config, ablations)

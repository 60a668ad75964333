"""Learn your own conversations, or a published corpus as it comes: any file or folder that tools.prepare can read.

python -m experiments.run --config=experiments/own.py --config.data.path=PATH
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(ablations: str = "") -> ConfigDict:
    """Return the defaults with fewer epochs."""
    config = base.get_config()
    config.experiment = "own"
    config.num_epochs = 30
    return base.finish(config, ablations, **base.words())

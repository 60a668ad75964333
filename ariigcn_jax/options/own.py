"""Learn your own conversations, or a published corpus as it comes: any file or folder that tools.prepare can read.

python -m experiments.run --config=experiments/own.py --config.data.path=PATH

Transcripts without text features are encoded (model.text); `own.py:words` trains the text encoder along. Recordings
without audio features become eGeMAPS functionals (data.sound).
"""

from ml_collections import ConfigDict

from ariigcn_jax.options import base


def get_config(ablations: str = "") -> ConfigDict:
    """Return the defaults with fewer epochs."""
    config = base.get_config()
    config.experiment = "own"
    config.num_epochs = 30
    config.data.sound = "eGeMAPSv02"  # used where there are recordings and no audio features (extra `audio`)
    config.model.text.encoder = base.MINILM  # used where there are transcripts and no text features
    config.model.text.layers = base.LAST_LAYERS
    return base.finish(config, ablations, **base.words())

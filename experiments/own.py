"""Learn your own conversations, or a published corpus as it comes: any file or folder that tools.prepare can read.

python -m experiments.run --config=experiments/own.py --config.data.path=PATH

Transcripts without text features are encoded (model.text); `own.py:words` trains the text encoder along. Recordings
without audio features become eGeMAPS functionals (data.sound). `ariigcn train PATH` is the same; the options are in
ariigcn_jax/options/own.py.
"""

from ariigcn_jax.options.own import get_config

__all__ = ["get_config"]

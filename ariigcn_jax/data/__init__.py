"""Read or generate a Corpus, prepare it, and pack it into batches."""

from ariigcn_jax.data import labels, normalisation, prepare, splits, synthetic
from ariigcn_jax.data.find import digest, load, locate
from ariigcn_jax.data.normalisation import Normalisation
from ariigcn_jax.data.readers import conversations, layouts
from ariigcn_jax.data.readers.conversations import from_utterances
from ariigcn_jax.data.splits import carve
from ariigcn_jax.data.synthetic import generate

__all__ = [
    "Normalisation",
    "carve",
    "conversations",
    "digest",
    "from_utterances",
    "generate",
    "labels",
    "layouts",
    "load",
    "locate",
    "normalisation",
    "prepare",
    "splits",
    "synthetic",
]

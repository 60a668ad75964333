"""Every default of an experiment is in ariigcn_jax/options/base.py; experiments' files take it from here."""

from ariigcn_jax.options.base import LAST_LAYERS, MINILM, finish, get_config, words

__all__ = ["LAST_LAYERS", "MINILM", "finish", "get_config", "words"]

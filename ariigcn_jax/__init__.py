"""AR-IIGCN, emotion recognition in conversations, as pure functions in JAX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ariigcn_jax.commands.train import train as train
    from ariigcn_jax.data import from_utterances as from_utterances
    from ariigcn_jax.data import generate as generate
    from ariigcn_jax.data import load as load_corpus
    from ariigcn_jax.data.readers.conversations import read_jsonl as read_jsonl
    from ariigcn_jax.inference.export import write as export_model
    from ariigcn_jax.inference.model import TrainedModel as TrainedModel
    from ariigcn_jax.inference.model import load as load
    from ariigcn_jax.inference.prediction import Prediction as Prediction
    from ariigcn_jax.inference.prediction import UtteranceEmotion as UtteranceEmotion
    from ariigcn_jax.inference.streaming import Stream as Stream
    from ariigcn_jax.types import Corpus as Corpus
    from ariigcn_jax.types import UserError as UserError

__version__ = "0.2.0"

# The public names and their modules, imported at first use, so that `import ariigcn_jax` does not load JAX.
_PUBLIC = {
    "Corpus": ("types", "Corpus"),
    "Prediction": ("inference.prediction", "Prediction"),
    "Stream": ("inference.streaming", "Stream"),
    "TrainedModel": ("inference.model", "TrainedModel"),
    "UserError": ("types", "UserError"),
    "UtteranceEmotion": ("inference.prediction", "UtteranceEmotion"),
    "export_model": ("inference.export", "write"),
    "from_utterances": ("data", "from_utterances"),
    "generate": ("data", "generate"),
    "load": ("inference.model", "load"),
    "load_corpus": ("data", "load"),
    "train": ("commands.train", "train"),
    "read_jsonl": ("data.readers.conversations", "read_jsonl"),
}
__all__ = ["Corpus", "Prediction", "Stream", "TrainedModel", "UserError", "UtteranceEmotion", "__version__"]
__all__ += ["export_model", "from_utterances", "generate", "load", "load_corpus", "read_jsonl", "train"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

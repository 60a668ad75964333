"""AR-IIGCN, emotion recognition in conversations, as pure functions in JAX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ariigcn_jax.corpus import from_utterances as from_utterances
    from ariigcn_jax.corpus import generate as generate
    from ariigcn_jax.corpus import load as load_corpus
    from ariigcn_jax.corpus.conversation import read_jsonl as read_jsonl
    from ariigcn_jax.export import write as export_model
    from ariigcn_jax.inference import TrainedModel as TrainedModel
    from ariigcn_jax.inference import load as load
    from ariigcn_jax.prediction import Prediction as Prediction
    from ariigcn_jax.prediction import UtteranceEmotion as UtteranceEmotion
    from ariigcn_jax.streaming import Stream as Stream
    from ariigcn_jax.types import Corpus as Corpus
    from ariigcn_jax.types import UserError as UserError

__version__ = "0.1.0"

# What a user imports, and where it is; read when first asked for, so that `import ariigcn_jax` does not wait for JAX.
_PUBLIC = {
    "Corpus": ("types", "Corpus"),
    "Prediction": ("prediction", "Prediction"),
    "Stream": ("streaming", "Stream"),
    "TrainedModel": ("inference", "TrainedModel"),
    "UserError": ("types", "UserError"),
    "UtteranceEmotion": ("prediction", "UtteranceEmotion"),
    "export_model": ("export", "write"),
    "from_utterances": ("corpus", "from_utterances"),
    "generate": ("corpus", "generate"),
    "load": ("inference", "load"),
    "load_corpus": ("corpus", "load"),
    "read_jsonl": ("corpus.conversation", "read_jsonl"),
}
__all__ = [
    "Corpus",
    "Prediction",
    "Stream",
    "TrainedModel",
    "UserError",
    "UtteranceEmotion",
    "__version__",
    "export_model",
    "from_utterances",
    "generate",
    "load",
    "load_corpus",
    "read_jsonl",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

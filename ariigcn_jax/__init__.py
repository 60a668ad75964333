"""AR-IIGCN, emotion recognition in conversations, as pure functions in JAX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ariigcn_jax.inference import TrainedModel as TrainedModel
    from ariigcn_jax.inference import load as load
    from ariigcn_jax.types import Corpus as Corpus
    from ariigcn_jax.types import UserError as UserError

__version__ = "0.1.0"

# What a user imports; read when first asked for, so that `import ariigcn_jax` does not wait for JAX.
_PUBLIC = {
    "Corpus": "types",
    "TrainedModel": "inference",
    "UserError": "types",
    "load": "inference",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Import the packages of this project's extras when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from ariigcn_jax.types import UserError


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an extra of this project; raise UserError if it is not installed or cannot be loaded."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == module
        what = f"the package `{module}` is not installed" if missing else f"`{module}` cannot be loaded ({error})"
        remedy = f"pip install 'ariigcn-jax[{extra}]', or, in a checkout, pip install -e '.[{extra}]'"
        raise UserError(f"{what}. Install the extra `{extra}`: {remedy}.") from error

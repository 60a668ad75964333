"""Imports what only some encoders need, and says how to install it where it is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from ariigcn_jax.types import UserError


def require(module: str, extra: str) -> ModuleType:
    """Imports a module of an extra.

    Args:
      module: the module.
      extra: the extra of this project that installs it.

    Raises:
      UserError: it is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == module
        what = f"the package `{module}` is not installed" if missing else f"`{module}` cannot be loaded ({error})"
        raise UserError(
            f"The {extra} encoders need more packages: {what}. Install them with: pip install 'ariigcn-jax[{extra}]', "
            f"or, in a checkout, pip install -e '.[{extra}]'."
        ) from error

"""Import packages that only some encoders need; where one is missing, say how to install it."""

from __future__ import annotations

import importlib
from types import ModuleType

from ariigcn_jax.types import UserError


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an extra.

    Args:
      module: its name.
      extra: the extra of this project that installs it.

    Raises:
      UserError: the module is not installed, or cannot be loaded.
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

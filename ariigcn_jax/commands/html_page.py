"""Render self-contained HTML pages: jinja2 templates beside the code."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ariigcn_jax.types import UserError

# The page holds all that it needs; should something in it ever ask for more, the browser refuses.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def check_packages(*names: str) -> None:
    """Raise a UserError that names those packages of the extra `report` that are not installed."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise UserError(f"The page needs {' and '.join(missing)}. Install them with: pip install 'ariigcn-jax[report]'")


def render(template: Path, filters: Mapping[str, Callable[..., Any]] | None = None, **content: Any) -> str:
    """Fill a jinja2 template; return a complete HTML document, which needs no network.

    Strings are escaped. The template may insert `content` and `policy`, the content security policy; `filters` are
    functions that it applies to values.

    Raises:
      UserError: jinja2 is not installed.
    """
    check_packages("jinja2")
    import jinja2

    loader = jinja2.FileSystemLoader(template.parent)
    options: dict[str, Any] = dict(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, **options)
    environment.filters.update(filters or {})
    return environment.get_template(template.name).render(policy=POLICY, **content)

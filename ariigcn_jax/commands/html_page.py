"""Render self-contained HTML pages: jinja2 templates beside the code, with plotly's script inside."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ariigcn_jax.types import UserError

# The page holds all that it needs; should something in it ever ask for more, the browser refuses.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def check_packages() -> None:
    """Raise a UserError that names the packages of the extra `report` that are not installed."""
    if missing := [name for name in ("jinja2", "plotly") if importlib.util.find_spec(name) is None]:
        raise UserError(f"The page needs {' and '.join(missing)}. Install them with: pip install 'ariigcn-jax[report]'")


def render(template: Path, filters: Mapping[str, Callable[..., Any]] | None = None, **content: Any) -> str:
    """Fill a jinja2 template; return a complete HTML document, which needs no network.

    Strings are escaped. The template may insert `content`, `policy`, the content security policy, and `plotly`, the
    text of plotly's script; `filters` are functions that it applies to values.

    Raises:
      UserError: a package of the extra `report` is not installed.
    """
    check_packages()
    import jinja2
    from plotly.offline import get_plotlyjs

    loader = jinja2.FileSystemLoader(template.parent)
    options: dict[str, Any] = dict(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, **options)
    environment.filters.update(filters or {})
    return environment.get_template(template.name).render(policy=POLICY, plotly=get_plotlyjs(), **content)

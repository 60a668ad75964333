"""Pieces of the page: escaped text, tables, charts, and the whole. Every string of data passes `text` here or there."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

# Of Okabe and Ito: they stay apart for every common kind of colour blindness.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c8c00", "#444444", "#b03060")
QUIET = "#5f6672"
HEIGHT = 300
# Of a chart that needs no room for a legend.
NO_LEGEND: dict[str, Any] = dict(showlegend=False, margin=dict(l=55, r=15, t=42, b=40))
# The page holds all that it needs; should something in it ever ask for more, the browser refuses.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE = """
:root { color-scheme: light; --line: #dde1e7; --quiet: #5f6672; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1c2129; background: #fff; }
nav { position: sticky; top: 0; z-index: 5; padding: .6rem 2rem; background: #fffffff2;
  border-bottom: 1px solid var(--line); overflow-x: auto; white-space: nowrap; }
nav a { margin-right: 1.2rem; color: #0072b2; text-decoration: none; }
main { max-width: 1320px; margin: 0 auto; padding: 0 2rem 4rem; }
h1 { margin: 1.5rem 0 .2rem; font-size: 1.6rem; }
h2 { margin: 2.5rem 0 .6rem; font-size: 1.25rem; scroll-margin: 3rem; }
h3 { margin: 1.4rem 0 .4rem; font-size: 1.02rem; overflow-wrap: anywhere; }
p { max-width: 75ch; } .quiet { color: var(--quiet); font-size: .9rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; margin: .4rem 0 1rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; background: #f6f7f9; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.long { overflow-wrap: anywhere; max-width: 24rem; }
.grid { display: grid; gap: .4rem 1rem; grid-template-columns: repeat(auto-fill, minmax(400px, 1fr)); }
.grid.large { grid-template-columns: repeat(auto-fill, minmax(520px, 1fr)); }
.grid > div { min-width: 0; }
.warning, .fine { border-left: 4px solid; padding: .5rem .9rem; margin: .4rem 0; max-width: 80ch; }
.warning { border-color: #d55e00; background: #fdf3ec; } .fine { border-color: #009e73; background: #eef8f4; }
@media (max-width: 600px) { main, nav { padding-left: 1rem; padding-right: 1rem; }
  .grid, .grid.large { grid-template-columns: 1fr; } }
"""


def text(value: object) -> str:
    """Anything, safe inside HTML, inside an attribute and inside a chart, which reads HTML too."""
    return escape(str(value), quote=True)


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of plain words; `kind` is a class of STYLE."""
    return f'<p class="{kind}">{text(words)}</p>'


def heading(words: str) -> str:
    """A heading inside a section."""
    return f"<h3>{text(words)}</h3>"


def table(header: Sequence[object], rows: Iterable[Sequence[object]], words: int = 1) -> str:
    """A table of plain cells; all but the first `words` columns hold numbers."""

    def line(cells: Sequence[object], tag: str) -> str:
        kinds = [' class="long"' if k < words else ' class="n"' for k in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{k}>{text(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table><thead>{line(header, "th")}</thead><tbody>{body}</tbody></table></div>'


def grid(pieces: Iterable[str], kind: str = "") -> str:
    """Charts side by side, as many as fit; "large" ones two abreast."""
    return f'<div class="grid {text(kind)}">' + "".join(f"<div>{piece}</div>" for piece in pieces) + "</div>"


def chart(title: str, height: int = HEIGHT, **axes: Any) -> go.Figure:
    """An empty chart.

    Args:
      title: plain words.
      height: pixels.
      axes: further layout, as plotly takes it.
    """
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        title=dict(text=text(title), font=dict(size=14), x=0, xanchor="left", xref="paper"),
        height=height,
        margin=dict(l=55, r=15, t=42, b=75),
        font=dict(size=12),
        hoverlabel=dict(namelength=-1),
        legend=dict(
            orientation="h", yref="container", yanchor="bottom", y=0, x=0, font=dict(size=11), itemsizing="constant"
        ),
    )
    figure.update_xaxes(title_standoff=6)
    figure.update_layout(**axes)
    return figure


def band(
    figure: go.Figure, x: Sequence[Any] | np.ndarray, mean: Any, spread: Any, name: str, colour: str, legend: bool
) -> None:
    """A curve with a band of ± spread; where the spread is 0 everywhere, the curve alone."""
    label = text(name)
    if max(spread, default=0) > 0:
        around = [*(mean + spread), *(mean - spread)[::-1]]
        figure.add_scatter(
            x=[*x, *list(x)[::-1]],
            y=around,
            mode="lines",
            fill="toself",
            fillcolor=_faint(colour),
            line=dict(width=0),
            hoverinfo="skip",
            showlegend=False,
            legendgroup=label,
        )
    mode = "lines+markers" if len(x) < 12 else "lines"
    figure.add_scatter(
        x=list(x),
        y=list(mean),
        mode=mode,
        name=label,
        line=dict(color=colour, width=2),
        showlegend=legend,
        legendgroup=label,
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def colour(index: int) -> str:
    """One of COLOURS, in turn."""
    return COLOURS[index % len(COLOURS)]


_numbers = itertools.count(1)


def show(figure: go.Figure) -> str:
    """A chart as HTML; the page brings the library once."""
    return plotly.io.to_html(
        figure,
        include_plotlyjs=False,
        full_html=False,
        div_id=f"chart-{next(_numbers)}",
        config=dict(displayModeBar=False, responsive=True),
    )


def page(title: str, lead: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """The whole page.

    Args:
      title: plain words.
      lead: HTML below the title.
      sections: anchor, heading (plain words) and HTML of each.
    """
    links = "".join(f'<a href="#{anchor}">{text(words)}</a>' for anchor, words, _ in sections)
    body = "".join(
        f'<section><h2 id="{anchor}">{text(words)}</h2>{piece}</section>' for anchor, words, piece in sections
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{text(title)}</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><nav>{links}</nav><main><h1>{text(title)}</h1>{lead}{body}</main></body></html>\n"
    )

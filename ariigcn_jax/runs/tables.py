"""Format tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

Rows = Sequence[Sequence[str]]
LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "<": "$<$", ">": "$>$"},
    **{"Δ": r"$\Delta$", "β": r"$\beta$", "λ": r"$\lambda$", "τ": r"$\tau$"},
}


def markdown(header: Sequence[str], rows: Rows) -> str:
    """Return an aligned Markdown table without a last newline; the first column is to the left, the others right."""
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    lines = [[row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in cells]
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def comma_separated(rows: Iterable[Sequence[object]]) -> str:
    """Return rows, header first, as CSV (RFC 4180)."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def latex(header: Sequence[str], rows: Rows, caption: str) -> str:
    """Return a floating table for the LaTeX package booktabs, with special characters escaped."""
    first, *lines = ("    " + " & ".join(map(_escape, row)) + r" \\" for row in (header, *rows))
    return "\n".join(
        [
            "\\begin{table}\n  \\centering",
            f"  \\caption{{{_escape(caption)}}}",
            f"  \\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n    \\toprule",
            first,
            r"    \midrule",
            *lines,
            "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n",
        ]
    )


def _escape(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)

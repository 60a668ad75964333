"""Writes a table as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]
LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
    "Δ": r"$\Delta$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "τ": r"$\tau$",
}


def markdown(header: Sequence[str], rows: Rows) -> str:
    """Return a Markdown table whose source is aligned: the first column to the left, the others to the right.

    The last line has no end of line.
    """
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    lines = [[row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in cells]
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def comma_separated(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return CSV as in RFC 4180."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return text.getvalue()


def latex(header: Sequence[str], rows: Rows, caption: str) -> str:
    """Return a floating table for a paper, which needs the package booktabs. LaTeX's special characters are escaped."""
    body = [" & ".join(map(_escape, row)) + r" \\" for row in rows]
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_escape(caption)}}}",
        f"  \\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"    \toprule",
        "    " + " & ".join(map(_escape, header)) + r" \\",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)

"""One table in three languages, each read back."""

import csv
import io
import re

from ariigcn_jax.runs import tables

HEADER = ["name", "Δ", "95 %"]
ROWS = [["no_tgan|x", "−1.00 ± 2", "a, b"], ["full", "", '"q"']]


def test_markdown_is_aligned_and_escapes_its_bars():
    lines = tables.markdown(HEADER, ROWS).splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[2].startswith("| no_tgan\\|x |")
    assert set(lines[1]) == set("|-: ")
    assert lines[3].count("|") == 4


def test_csv_reads_back():
    read = list(csv.reader(io.StringIO(tables.comma_separated([HEADER, *ROWS, [1, 0.5, None]]), newline="")))
    assert read == [HEADER, *ROWS, ["1", "0.5", ""]]


def test_latex_escapes_and_has_a_cell_for_each_column():
    text = tables.latex(HEADER, ROWS, "50 % of {x} ~ y^2 \\ z & #1 $2")
    assert r"\begin{tabular}{lrr}" in text
    assert r"no\_tgan|x & $-$1.00 $\pm$ 2 & a, b \\" in text
    assert r"name & $\Delta$ & 95 \% \\" in text
    caption = re.search(r"\\caption\{(.*)\}", text).group(1)
    assert caption == (r"50 \% of \{x\} \textasciitilde{} y\textasciicircum{}2 \textbackslash{} z \& \#1 \$2")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if line.endswith("\\\\")] == [2, 2, 2]
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")

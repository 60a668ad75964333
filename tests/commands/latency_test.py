"""tools.latency: every row is measured, and a model that cannot stream is measured without streaming."""

import pytest

from ariigcn_jax import cli
from ariigcn_jax.commands import latency
from tests.support import runs


@pytest.mark.slow
@pytest.mark.parametrize("future", [0, -1])
def test_every_row_is_measured(tmp_path, capsys, monkeypatch, future):
    pytest.importorskip("safetensors", reason="safetensors is not installed (extra: export)")
    monkeypatch.setattr(latency, "CONVERSATIONS", (3,))
    monkeypatch.setattr(latency, "STREAMED", (4, 20))
    options = {
        "model.graph.future": future,
        "data.ranked": ("audio",),
        "data.dialogue_normalised": ("audio",) if future else (),
    }
    folder = runs.make(tmp_path / "run", options)
    assert cli.main(["latency", "--run", str(folder), "--repeats", "3"]) == 0
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if line.endswith(" 3")]
    assert all(0 < float(row[-7]) <= float(row[-5]) for row in rows)  # p50 ms p99 ms CPU ms calls
    names = [line[:40].strip() for line in said.splitlines() if line.endswith(" 3")]
    streamed = [] if future else [n for n in names if n.startswith(("streamed", "with contributions", "the whole"))]
    assert len(streamed) == (0 if future else 6)
    assert len(names) == 2 + len(streamed)
    assert ("this model cannot stream" in said) == bool(future)
    assert "first answer" in said.splitlines()[-1]

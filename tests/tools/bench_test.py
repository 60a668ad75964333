"""The benchmark: resized corpora, what is timed, and tables that hold what was measured."""

import dataclasses
import json
import subprocess
import time

import numpy as np
import pytest

from ariigcn_jax.commands import machine
from ariigcn_jax.options import base
from ariigcn_jax.types import UserError
from tests.support import builders
from tests.support.encoders import tiny_encoder
from tools.bench import __main__, corpora, epochs, report, sections, utterances
from tools.bench import words as encoders

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = {
    "batch_size": 4,
    "model.hidden": 4,
    "model.graph.layers": 1,
    "model.graph.heads": 2,
    "losses.imcl.weight": 0.0,
    "losses.adversarial.weight": 0.0,
}


def tiny(**changes):
    config = base.get_config()
    config.update_from_flattened_dict(TINY | changes)
    return config.lock()


def conversations():
    made = builders.corpus([5, 1, 3, 4], builders.widths(2), missing=0.2, unlabeled=0.2)
    return dataclasses.replace(made, split=np.where(made.dialogue == 3, "valid", "train"))


def test_resized_corpora():
    corpus = conversations()
    longer = corpora.resized(corpus, [4, 30], [3])
    assert corpora.lengths(longer, "train") == [4, 30]
    assert corpora.lengths(longer, "valid") == [3]
    assert len(longer) == len(longer.speaker) == len(longer.features["text"]) == len(longer.utterance_ids) == 37
    np.testing.assert_array_equal(longer.features["audio"][13:26], corpus.features["audio"])
    np.testing.assert_array_equal(longer.label[26:37], corpus.label[:11])
    assert corpora.lengths(corpora.of_size(corpus, 12), "train") == [5, 1, 3, 5]


def test_seconds_are_of_the_calls_that_count():
    calls = []
    taken = machine.samples(lambda: calls.append(time.sleep(0.01)), most=3, budget=10)
    assert len(calls) == 3 and taken.shape == (3, 2)
    assert taken[:, 0].min() >= 0.01 and taken[:, 1].max() < 0.01  # sleeping takes no processor time
    assert len(machine.samples(lambda: time.sleep(0.01), most=9, budget=0.0)) == 1
    assert len(machine.samples(lambda: time.sleep(0.01), most=9, budget=0.0, least=4)) == 4


@pytest.fixture(scope="module")
def measured(quick_compilation):
    """A benchmark of the sections that run in this process, on a tiny model."""
    bench = sections.Bench(tiny(), conversations(), quick=True)
    order = [name for name, _, _ in sections.measure(bench, ["epoch", "seeds", "latency"])]
    assert order == sorted(order, key=list(sections.SECTIONS).index)
    bench.rows["length"] = [{"point": "10", "failed": "out of memory"}]
    content = {"experiment": "tiny", "quick": True, "machine": machine.describe(), "sections": bench.rows}
    return json.loads(json.dumps(content))


@pytest.mark.slow
def test_rows_agree_with_each_other(measured):
    band, edges = measured["sections"]["epoch"]
    assert (band["point"], edges["point"]) == ("band kernel", "edges kernel")
    assert edges["times_first"] == pytest.approx(edges["epoch"]["wall"] / band["epoch"]["wall"])
    assert band["epoch"]["wall"] == pytest.approx(sum(band[k]["wall"] for k in ("train", "validate", "diagnose")))
    assert band["utterances_per_second"] == pytest.approx(9 / band["epoch"]["wall"])
    rows = measured["sections"]["seeds"]
    assert [row["point"] for row in rows] == ["1, sequence", "2, threads", "2, vmap", "2, sequence"]
    assert [row["auto"] for row in rows] == [True, True, False, False]
    assert rows[2]["times_first"] == pytest.approx(rows[2]["epoch"]["wall"] / rows[0]["epoch"]["wall"])
    assert rows[2]["utterances_per_second"] == pytest.approx(2 * 9 / rows[2]["epoch"]["wall"])
    assert all(row["median"] <= row["p95"] for row in measured["sections"]["latency"])


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.mark.slow
def test_tables_hold_what_was_measured(measured):
    table = report.table(measured)
    for row in (row for rows in measured["sections"].values() for row in rows):
        assert f"\n| {row['point']} " in table
    assert "do not quote" in table and "out of memory" in table
    first = measured["sections"]["epoch"][0]
    head, _, band = map(cells, table.split("## An epoch of one seed")[1].splitlines()[2:5])
    assert band[head.index("epoch wall s")] == report.number(first["epoch"]["wall"])


def test_a_column_is_shown_where_a_row_has_it():
    rows = [{"point": "10", "epoch": {"wall": 1234.5, "cpu": 0.01234}}, {"point": "20", "failed": "needs 9 GiB"}]
    machine = dict(devices=1, device="cpu", backend="cpu", processor="P", cores=2, load=None)
    table = report.table(dict(experiment="tiny", quick=False, machine=machine, sections={"length": rows, "start": []}))
    head, _, long, failed = map(cells, table.splitlines()[-4:])
    assert head == ["", "epoch wall s", "epoch CPU s", "not measured"]
    assert long == ["10", "1,234", "0.0123", "–"] and failed == ["20", "–", "–", "needs 9 GiB"]
    assert "quote" not in table and "command" not in table


def test_speed_is_of_the_splits_that_the_file_has():
    config = base.get_config()
    config.data.generate = dict(dialogues=12, utterances=(2, 3), classes=2, widths={"text": 3})
    config.members, config.data.cross_validation = 3, True
    bench = __main__.prepare(config.lock(), quick=True)
    assert bench.utterances > 0 and bench.corpus.fold is None


def test_options_are_checked():
    known = list(sections.SECTIONS)
    assert __main__.chosen(["length", "epoch"], known) == ["epoch", "length"]
    assert __main__.chosen([], known) == known
    with pytest.raises(UserError, match="no such section"):
        __main__.chosen(["epoch", "lenght"], known)


def test_a_program_that_does_not_fit_is_not_started(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 10)
    row = epochs.measure(tiny(), conversations(), most=1, budget=0.0)
    assert list(row) == ["failed"] and "0.0 GiB are free" in row["failed"]
    bench = sections.Bench(tiny(), conversations(), quick=True)
    assert "0.0 GiB are free" in next(iter(sections.corpus(bench).values()))()["failed"]


def test_a_process_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], -9, "", ""))
    assert epochs.probe({}) == {"failed": "ended by signal 9; out of memory?"}
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nUserError: no corpus\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert epochs.probe({}) == {"failed": "UserError: no corpus"}
    done = subprocess.CompletedProcess([], 0, 'a line\n{"total": 1.5}\n', "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert epochs.probe({}) == {"total": 1.5}


def test_an_encoder_is_timed_by_its_real_tokens(monkeypatch):
    monkeypatch.setattr(encoders.machine, "samples", lambda function, **_: np.array([[9.0, 2.0], [9.0, 4.0]]))
    ids, _ = utterances.draw(100)
    row = encoders.measure("tiny", "frozen", "float32", most=1, budget=0)
    assert row["tokens_per_cpu_second"] == pytest.approx(sum(map(len, ids)) / 3)
    assert 0 < row["padding"] < 0.5
    weights = 100 * 16 + 128 * 16 + 16 * 64 + 32 * 32  # tables, attention, the layer's second half
    assert row["step_memory"] > 3 * 4 * weights  # parameters and the two moments of AdamW
    assert encoders.measure("tiny", "memory", "float32", most=1, budget=0).keys() == {"padding", "step_memory"}


def test_an_encoder_of_a_folder_is_timed(tmp_path):
    bench = sections.Bench(tiny(), conversations(), quick=True, encoder=str(tiny_encoder(tmp_path)))
    [*points] = sections.words(bench).items()
    assert len(points) == 3 and all(str(tmp_path) in name for name, _ in points)
    assert points[1][1]()["tokens_per_cpu_second"] > 0

"""The benchmark: its reference equals the package, its counts are right, its table has what was measured."""

import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax.data import packing
from ariigcn_jax.objective import contrast
from ariigcn_jax.objective import terms as objective
from ariigcn_jax.training import train
from ariigcn_jax.types import UserError
from experiments import base
from tests.support import builders
from tools.bench import __main__, chart, clock, corpora, count, machine, reference, report, sections, training

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = {
    "batch_size": 4,
    "model.hidden": 4,
    "model.dropout": 0.0,
    "model.contrast_width": 3,
    "model.speakers": 2,
    "model.graph.layers": 2,
    "model.graph.heads": 2,
    "model.graph.past": 2,
    "model.graph.future": 1,
    "model.graph.block": 2,
    "model.gan.generator_hidden": 5,
    "model.gan.discriminator_hidden": 5,
    "optimizer.warmup_epochs": 0.0,
}


def tiny(**changes):
    config = base.get_config()
    config.update_from_flattened_dict(TINY | changes)
    return config.lock()


def conversations(**options):
    made = builders.corpus([5, 1, 3, 4], missing=0.2, unlabeled=0.2, **options)
    split = np.where(made.dialogue == 3, "valid", "train")
    return dataclasses.replace(made, split=split)


def both(config, corpus):
    """The package's players, state and packed batch, and the reference with the same dialogues in one batch."""
    layout, rows = packing.pack(corpus, "train", config.batch_size)
    players = train.make_players(config, corpus, layout.steps)
    batch = jax.tree.map(jnp.asarray, rows)
    state = jax.jit(lambda b: train.init_state(players, b, jax.random.key(0)))(batch)
    state = state.replace(
        params=builders.scattered(state.params), discriminators=builders.scattered(state.discriminators, seed=2)
    )
    other = reference.Reference(config, corpus)
    other.state = state
    window = config.model.graph
    padded = reference.collate(
        reference.dialogues(corpus, "train"), window.past, window.future, window.speaker_relations
    )
    return players, state, batch, other, jax.tree.map(jnp.asarray, padded)


CONFIGS = {
    "default": {},
    "dot, relations, GRU, latent, focal, hinge, margin": {
        "model.graph.score": "dot",
        "model.graph.relation_values": True,
        "model.graph.future": -1,
        "model.context": "gru",
        "model.gan.wiring": "latent",
        "losses.emotion.fn": "focal",
        "losses.adversarial.fn": "hinge",
        "losses.iccl.fn": "margin",
        "losses.imcl.fn": "margin",
    },
    "the speaker's mean": {"model.context": "speaker"},
    "the dialogue's mean": {"model.context": "speaker", "model.graph.speaker_relations": False},
    "uniform, two layers, one speaker, weighted, least squares, margin of similarity": {
        "model.graph.layers": 2,
        "model.graph.score": "uniform",
        "model.graph.speaker_relations": False,
        "losses.emotion.fn": "weighted_cross_entropy",
        "losses.emotion.smoothing": 0.1,
        "losses.unimodal.smoothing": 0.1,
        "losses.adversarial.fn": "least_squares",
        "losses.iccl.similarity_margin": 0.1,
        "losses.imcl.similarity_margin": 0.1,
    },
}


@pytest.mark.parametrize(
    "changes",
    [pytest.param(c, id=name, marks=[] if name == "default" else [pytest.mark.slow]) for name, c in CONFIGS.items()],
)
def test_reference_computes_the_same_logits_losses_and_gradients(changes):
    corpus = conversations(widths=builders.widths(2))
    players, state, batch, other, padded = both(tiny(**{"model.graph.layers": 1} | changes), corpus)

    @jax.jit
    def fast(state, batch):
        outputs = players.model.apply({"params": state.params}, batch, True, rngs={"dropout": state.key})
        real, judged = players.judge(state.discriminators, outputs, batch)
        judged = judged.replace(candidates=contrast.contrast_set(judged, batch, None))
        _, terms = objective.total(players.terms, judged, batch, None)
        terms["discriminator"] = objective.discriminator_total(players.terms, real, judged, batch, None)
        return outputs.logits, terms, train.train_step(players, state, batch, None)[1]

    @jax.jit
    def plain(state, batch):
        terms = other.losses(state.params, state.discriminators, batch, None)
        terms["discriminator"] = other.discriminator_loss(state.params, state.discriminators, batch, None)
        return reference.forward(players.model, state.params, batch, None).logits, terms

    expected_logits, expected, expected_logs = fast(state, batch)
    found_logits, found = plain(state, padded)

    order = np.argsort(np.asarray(padded.utterance)[np.asarray(padded.real)])
    logits = np.asarray(found_logits)[np.asarray(padded.real)][order]
    np.testing.assert_allclose(logits, builders.by_utterance(expected_logits, batch), rtol=1e-4, atol=1e-5)
    assert found.keys() == expected.keys() >= {"emotion", "unimodal", "adversarial", "iccl", "imcl", "discriminator"}
    for slot, value in expected.items():
        np.testing.assert_allclose(found[slot], value, rtol=1e-4, err_msg=slot)

    logs = other.step(padded)
    for name in ("total", "discriminator", "gradient_norm"):  # the total is that after the discriminators' update
        np.testing.assert_allclose(logs[name], expected_logs[name], rtol=1e-3, err_msg=name)


def test_edges_are_those_of_a_loop():
    def expected(speaker, past, future):
        found = {}
        for i, me in enumerate(speaker):
            for j, other in enumerate(speaker):
                if (past == -1 or i - j <= past) and (future == -1 or j - i <= future):
                    found[j, i] = (0 if j < i else 3) + (me != other) if j != i else 2
        return found

    speaker = [0, 1, 1, 0, 2, 0]
    for past, future in ((2, 1), (0, 3), (-1, 0), (1, -1), (9, 9)):
        senders, receivers, relation = reference.edges(speaker, past, future)
        found = dict(zip(zip(senders, receivers, strict=True), relation, strict=True))
        assert found == expected(speaker, past, future)
        assert len(found) == len(senders)
        corpus = builders.corpus([6, 1, 4])
        counted = count.shape(corpus, "train", 1, past, future).edges
        assert counted == sum(len(expected(range(n), past, future)) for n in (6, 1, 4))


def test_operations_of_a_small_model_by_hand():
    corpus = builders.corpus([3, 2], widths={"text": 7}, classes=3)
    config = tiny(**{"losses.iccl.weight": 0.0, "losses.imcl.weight": 0.0, "model.graph.layers": 1})
    costs = count.training(config, count.shape(corpus, "train", 1, 1, 0))
    # 5 utterances, 3 + 2 edges inside the dialogues and their 5 - 2 ones to the past; D = 4, H = 2, K = 5, C = 3
    assert costs["encoders"].flops == 2 * 5 * (2 * 7 * 4 + 3 * 4 * 4)
    assert costs["graph attention"].flops == 3 * 2 * 5 * 4 * (4 + 2 * 5 * 2) + (5 + 3) * (3 * 2 * 4 + 12 * 2)
    assert costs["classifier"].flops == 3 * 2 * 5 * (4 * 4 + 4 * 3)
    assert costs["encoders"].bytes == 4 * 5 * (2 * 7 + 2 * 4)
    assert set(costs) == {"encoders", "graph attention", "classifier", "parameters and optimizer"}  # no one to contrast


def test_count_is_near_that_of_the_compiler_where_nothing_is_padded():
    # wide layers, for which products are nearly all that there is to do, and dialogues that fill their rows
    wide = {"model.hidden": 64, "model.contrast_width": 64, "model.gan.generator_hidden": 64}
    config = tiny(**wide, **{"model.gan.discriminator_hidden": 64, "model.graph.past": 1})
    corpus = builders.corpus([40] * 4, widths={"text": 300, "audio": 200, "visual": 100})
    layout, rows = packing.pack(corpus, "train", config.batch_size)
    assert (layout.steps, layout.rows, layout.length) == (1, 4, 40)
    traced = count.step_by_compiler(config, corpus, layout, rows, compile=False)["traced"]
    by_hand = count.total(count.training(config, count.shape(corpus, "train", 1, 1, 1)))
    assert 0.7 < by_hand.flops / traced.flops < 1.0
    assert by_hand.bytes < traced.bytes


def test_resized_corpora():
    corpus = conversations(widths=builders.widths(2))
    longer = corpora.resized(corpus, [4, 30], [3])
    assert corpora.lengths(longer, "train") == [4, 30]
    assert corpora.lengths(longer, "valid") == [3]
    assert len(longer) == len(longer.speaker) == len(longer.features["text"]) == len(longer.utterance_ids) == 37
    np.testing.assert_array_equal(longer.features["audio"][13:26], corpus.features["audio"])
    np.testing.assert_array_equal(longer.label[26:37], corpus.label[:11])
    assert corpora.lengths(corpora.of_size(corpus, 12), "train") == [5, 1, 3, 5]
    more = corpora.with_modalities(corpus, 5)
    assert more.modalities == ("text", "audio", "text_2", "audio_2", "text_3")
    assert corpora.with_modalities(corpus, 1).modalities == ("text",)
    np.testing.assert_array_equal(more.features["audio_2"], corpus.features["audio"])


def test_seconds_are_of_the_calls_that_count():
    calls = []
    taken = clock.samples(lambda: calls.append(time.sleep(0.01)), most=3, budget=10)
    assert len(calls) == 4
    assert len(taken) == 3
    assert min(s.wall for s in taken) >= 0.01
    assert len(clock.samples(lambda: time.sleep(0.01), most=9, budget=0.0)) == 1
    assert clock.median([clock.Seconds(1, 5), clock.Seconds(9, 3), clock.Seconds(2, 4)]) == (2, 4)


@pytest.fixture(scope="module")
def measured(quick_compilation):
    """A benchmark of the in-process sections on a tiny model, against the reference."""
    config = tiny(**{"model.graph.layers": 1, "losses.imcl.weight": 0.0, "losses.adversarial.weight": 0.0})
    bench = sections.Bench(config, conversations(widths=builders.widths(2)), quick=True, against=True)
    order = [name for name, _, _ in sections.measure(bench, ["epoch", "floor", "seeds", "latency"])]
    assert order == sorted(order, key=list(sections.SECTIONS).index)
    bench.rows["length"] = [{"point": "10", "failed": "out of memory"}]
    described = machine.describe() | {"load": None}
    rows = {"quick": True, "machine": described, "rates": bench.rates._asdict(), "sections": bench.rows}
    return json.loads(json.dumps({"experiment": "tiny", **rows}))


@pytest.mark.slow
def test_rows_agree_with_each_other(measured):
    own, other = measured["sections"]["epoch"]
    assert own["nodes"] == other["nodes"] == 2 * 9
    assert own["share_of_floor"] == pytest.approx(own["floor"] / own["epoch"]["wall"])
    assert own["floor"] >= own["flops"] / measured["rates"]["matmul"]
    assert other["times_slower"] == pytest.approx(other["epoch"]["wall"] / own["epoch"]["wall"])
    assert own["epoch"]["wall"] == pytest.approx(sum(own[k]["wall"] for k in ("train", "validate", "diagnose")))
    rows = measured["sections"]["seeds"]
    assert [row["point"] for row in rows] == ["1, sequence", "2, threads", "2, vmap", "2, sequence"]
    assert [row["auto"] for row in rows] == [True, True, False, False]
    walls = [row["epoch"]["wall"] for row in rows]
    assert [row["fastest"] for row in rows] == [True, *(wall == min(walls[1:]) for wall in walls[1:])]
    assert rows[2]["each"]["cpu"] == pytest.approx(rows[2]["epoch"]["cpu"] / 2)
    assert rows[2]["times_one"] == pytest.approx(walls[2] / walls[0])
    parts = {row["point"]: row["flops"] for row in measured["sections"]["floor"]}
    names = [name for name in parts if "total" not in name and "XLA" not in name]
    assert parts["training, total"] == pytest.approx(sum(parts[name] for name in names))
    assert all(row["median"] <= row["p95"] for row in measured["sections"]["latency"])


@pytest.mark.slow
def test_table_and_picture(measured):
    table = report.table(measured)
    for row in (row for rows in measured["sections"].values() for row in rows):
        assert f"| {row['point']} |" in table
    assert "not figures to quote" in table
    assert "out of memory" in table
    lines = [line.count("|") for line in table.split("## An epoch of one seed")[1].split("##")[0].splitlines() if line]
    assert len(set(lines[1:])) == 1  # as many cells in each row
    assert chart.draw(measured).startswith(b"\x89PNG")


def test_speed_is_of_the_splits_that_the_file_has():
    config = base.get_config()
    config.data.generate = dict(dialogues=12, utterances=(2, 3), classes=2, widths={"text": 3})
    config.members, config.data.cross_validation = 3, True
    bench = __main__._bench(config.lock(), quick=True, against=False)
    assert bench.utterances > 0 and bench.corpus.part is None


def test_options_are_checked():
    known = list(sections.SECTIONS)
    assert __main__._chosen(["length", "epoch"], known, ()) == ["epoch", "length"]
    assert "run" not in __main__._chosen([], known, sections.SLOW)
    with pytest.raises(UserError, match="no such section"):
        __main__._chosen(["epoch", "lenght"], known, ())
    with pytest.raises(UserError, match=r"losses\.iccl\.fn=other"):
        config = tiny().copy_and_resolve_references()
        config.losses.iccl.fn = "other"
        reference.Reference(config, conversations())


def test_memory_that_is_not_there_is_said():
    training.check_fits(2**30, None)
    training.check_fits(2**30, 2**31)
    with pytest.raises(training.TooLargeError, match=r"needs 3\.0 GiB beside the data, 2\.0 GiB are free"):
        training.check_fits(3 * 2**30, 2**31)

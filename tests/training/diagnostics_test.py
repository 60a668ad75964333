"""Failure signatures: their numbers against loops in numpy, and each one provoked until its warning comes."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.nn.graph import SELF
from ariigcn_jax.options import base
from ariigcn_jax.runs import runner
from ariigcn_jax.training import build, diagnostics, seeds
from ariigcn_jax.training.diagnostics import PATIENCE, Watch
from ariigcn_jax.training.feed import Feed
from ariigcn_jax.types import Outputs
from tests.support import builders

TINY = {
    "batch_size": 8,
    "model.hidden": 8,
    "model.dropout": 0.0,
    "model.contrast_width": 4,
    "model.graph.layers": 1,
    "model.graph.heads": 2,
    "model.graph.past": 2,
    "model.graph.future": 2,
    "model.gan.generator_hidden": 8,
    "model.gan.discriminator_hidden": 8,
    "optimizer.warmup_epochs": 0.0,
}
HEAVY = {"losses.imcl.weight": 50.0, "losses.adversarial.weight": 0.0, "losses.unimodal.weight": 0.0}
SIZES = dict(dialogues=24, utterances=(4, 7), classes=3, widths={"text": 5, "audio": 3}, valid=0.1)


pytestmark = pytest.mark.usefixtures("quick_compilation")


def tiny(changes=()):
    config = base.get_config()
    config.update_from_flattened_dict(TINY | dict(changes))
    config.data.generate = SIZES
    return config.lock()


@pytest.fixture(scope="module")
def experiment():
    corpus = corpora.generate(**SIZES)
    return build.make(tiny(), corpora.normalisation.apply(corpus, corpora.normalisation.fit(corpus)))


@pytest.fixture(scope="module")
def heavy():
    """The same, but for a term that weighs 500 times as much, and without two others."""
    corpus = corpora.generate(**SIZES)
    return build.make(tiny(HEAVY), corpora.normalisation.apply(corpus, corpora.normalisation.fit(corpus)))


@pytest.fixture(scope="module")
def diagnose(experiment):
    """A state's diagnosis as plain numbers."""
    compiled = jax.jit(experiment.diagnose)

    def look(state):
        return jax.tree.map(float, compiled(state, experiment.data["train"].rows))

    return look


def changed(state, part, change):
    """The state with the arrays changed whose path in `params` or `discriminators` contains all words."""
    player, *words = part.split()

    def each(path, x):
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        return change(x) if all(w in place for w in words) else x

    return state.replace(**{player: jax.tree_util.tree_map_with_path(each, getattr(state, player))})


def warnings_of(diagnose, state):
    """What a watch says of a state that stays as it is; nothing before the last of PATIENCE looks, and each once."""
    watch = Watch()
    looks = [watch.see(diagnose(state.replace(step=jnp.int32(step)))) for step in range(PATIENCE + 2)]
    assert not any(looks[: PATIENCE - 1]) and not any(looks[PATIENCE:])
    return looks[PATIENCE - 1]


# --- Numbers ----------------------------------------------------------------------------------------------------------


def test_spread_ratios_are_those_of_a_loop_over_shared_rows():
    batch = builders.batch([[3, 2], [4]], missing=0.3, seed=3)
    random = np.random.default_rng(0)
    real = {m: jnp.asarray(random.normal(size=(2, 5, d))) for m, d in builders.WIDTHS.items()}
    made = {("audio", "text"): jnp.asarray(random.normal(size=(2, 5, 3)) * 0.4)}
    outputs = Outputs(jnp.zeros((2, 5, 3)), {}, {}, {}, made)
    found = diagnostics.generation(real, outputs, batch)

    def spreads(x):
        rows = [
            np.asarray(x)[place]
            for place in np.ndindex(2, 5)
            if batch.present["text"][place] and batch.present["audio"][place]
        ]
        assert 2 < len(rows) < 9
        mean = sum(rows) / len(rows)
        variance = sum(float((r - mean) @ (r - mean)) for r in rows) / len(rows)
        return variance, np.mean([np.linalg.norm(a - b) for a, b in itertools.combinations(rows, 2)])

    wanted = np.array(spreads(made["audio", "text"])) / spreads(real["text"])
    assert found["generated_variance"] == {"audio→text": pytest.approx(wanted[0], rel=1e-5)}
    assert found["generated_distance"] == {"audio→text": pytest.approx(wanted[1], rel=1e-5)}


def test_discriminator_accuracies_count_real_utterances_only():
    batch = builders.batch([[2], [1]], length=2)
    real = {"text": jnp.array([[1.0, -1.0], [1.0, 9.0]]), "audio": jnp.array([[1.0, 1.0], [1.0, -9.0]])}
    fakes = {("audio", "text"): jnp.array([[-1.0, 0.2], [-1.0, 9.0]]), ("text", "audio"): jnp.full((2, 2), 0.7)}
    outputs = Outputs(jnp.zeros((2, 2, 3)), {}, {}, {}, {}, fake_logits=fakes)
    found = jax.tree.map(float, diagnostics.discrimination(real, outputs, batch))
    assert found["real_accuracy"] == pytest.approx({"text": 2 / 3, "audio": 1})
    assert found["fake_accuracy"] == pytest.approx({"text": 2 / 3, "audio": 0})
    assert found["discriminator_accuracy"] == pytest.approx({"text": 2 / 3, "audio": 0.5})
    raised = jax.tree.map(float, diagnostics.discrimination(real, outputs, batch, boundary=0.8))
    assert raised["fake_accuracy"] == pytest.approx({"text": 1, "audio": 1})


def test_attention_leaves_out_padding_and_the_utterance_that_is_alone():
    batch = builders.batch([[2, 1]], length=4)
    entropy = jnp.array([[[0.2, 0.6, 1.0, 1.0]]])
    weights = jnp.zeros((1, 4, 3, 2)).at[0, :, 1].set(jnp.array([[0.1, 0.3], [0.5, 0.7], [1, 1], [1, 1]]))
    outputs = Outputs(
        jnp.zeros((1, 4, 3)), {}, {}, {}, {}, attention={"text": weights}, attention_entropy={"text": entropy}
    )
    found = jax.tree.map(float, diagnostics.attention(outputs, batch, 1))
    assert found == {
        "attention_entropy": {"text/0": pytest.approx(0.4)},
        "self_weight": {"text/0": pytest.approx(0.4)},
    }


def test_attention_leaves_out_who_could_hear_nobody():
    """A window of one before and one after: an utterance whose neighbours all lack the modality hears itself alone."""
    batch = builders.batch([[3]], length=3)
    weights = jnp.zeros((1, 3, 3, 1)).at[0, :, 1, 0].set(jnp.array([0.2, 0.4, 0.9]))
    entropy = jnp.array([[[0.3, 0.5, 0.7]]])
    outputs = Outputs(
        jnp.zeros((1, 3, 3)), {}, {}, {}, {}, attention={"text": weights}, attention_entropy={"text": entropy}
    )

    def self_weight(*present):
        found = diagnostics.attention(outputs, batch.replace(present={"text": jnp.array([present])}), 1)
        return float(found["self_weight"]["text/0"])

    assert self_weight(True, True, True) == pytest.approx(0.5)
    assert self_weight(True, True, False) == pytest.approx(0.5)  # the last one hears the second
    assert self_weight(True, False, True) == pytest.approx(0.4)  # the second alone hears others
    assert self_weight(False, False, True) == pytest.approx(0.4)


def test_gradient_norms_are_those_of_each_term_alone(experiment, heavy, diagnose):
    """A term's norm does not change with another's weight, and grows in proportion to its own."""
    a, b = diagnose(experiment.init(0)), jax.tree.map(float, heavy.diagnose(heavy.init(0), heavy.data["train"].rows))
    assert b["gradient_norm"]["imcl"] == pytest.approx(500 * a["gradient_norm"]["imcl"], rel=1e-4)
    assert b["gradient_norm"]["iccl"] == pytest.approx(a["gradient_norm"]["iccl"], rel=1e-4)
    for found in (a, b):
        norms = found["gradient_norm"]
        assert sum(found["share"].values()) == pytest.approx(1)
        assert all(norm > 0 for norm in norms.values())
        shares = {slot: norm / sum(norms.values()) for slot, norm in norms.items()}
        assert found["gradient_share"] == pytest.approx(shares, rel=1e-5)


# --- Signatures, each provoked ----------------------------------------------------------------------------------------


def test_generators_that_give_one_point_are_a_collapse(experiment, diagnose):
    state = changed(experiment.init(0), "params generator_ Dense_1 kernel", lambda x: 1e-3 * x)
    said = [w for w in warnings_of(diagnose, state) if w.startswith("mode collapse")]
    assert any("vary" in w for w in said) and any("far apart" in w for w in said)
    assert all("→" in w and "losses.adversarial.weight" in w for w in said)


def test_discriminator_that_always_wins_is_too_strong(experiment, diagnose):
    state = changed(experiment.init(0), "params generator_ Dense_1 kernel", lambda x: 0 * x)
    state = changed(state, "params generator_ Dense_1 bias", lambda x: x + 30)
    (untrained,) = {"strong" in " ".join(warnings_of(diagnose, state))}
    # what lies at 30 is generated: minus the sum of the features, leaky at both layers, plus a bias
    wins = changed(state, "discriminators Dense_0 kernel", lambda x: jnp.full_like(x, -1.0))
    wins = changed(wins, "discriminators Dense_0 bias", lambda x: jnp.full_like(x, 25.0))
    wins = changed(wins, "discriminators Dense_1 kernel", lambda x: jnp.eye(*x.shape))
    wins = changed(wins, "discriminators Dense_2 kernel", lambda x: jnp.ones_like(x))
    (said,) = [w for w in warnings_of(diagnose, wins) if "strong" in w]
    assert not untrained
    assert "100.0% of real and generated" in said and "discriminator.lr" in said


def test_edges_that_all_weigh_the_same_are_uniform(experiment, diagnose):
    state = changed(experiment.init(0), "params graph_ sender", lambda x: 0 * x)
    (said,) = [w for w in warnings_of(diagnose, changed(state, "params receiver", lambda x: 0 * x)) if "uniform" in w]
    assert "100.0% of that of equal weights" in said and "model.graph.score" in said


def test_edges_that_all_lead_back_are_self_attention(experiment, diagnose):
    state = changed(experiment.init(0), "params receiver bias", lambda x: x.at[SELF].set(20.0))
    (said,) = [w for w in warnings_of(diagnose, state) if "utterance itself" in w]
    assert "self_weight was above 0.9" in said


def test_heavy_term_dominates(experiment, heavy, diagnose):
    (said,) = warnings_of(lambda s: jax.tree.map(float, heavy.diagnose(s, heavy.data["train"].rows)), heavy.init(0))[
        -1:
    ]
    assert said.startswith("the term imcl dominates") and "losses.imcl.weight" in said
    assert not [w for w in warnings_of(diagnose, experiment.init(0)) if "dominates" in w]


# --- Watching ---------------------------------------------------------------------------------------------------------


def numbers(*values, measure="self_weight"):
    return {measure: {"text/0": list(values) if len(values) > 1 else values[0]}}


def test_an_interruption_begins_the_count_anew():
    watch = Watch()
    for value in [0.95] * (PATIENCE - 1) + [0.5] + [0.95] * (PATIENCE - 1):
        assert watch.see(numbers(value)) == []
    assert len(watch.see(numbers(0.95))) == 1


def test_seeds_count_apart_and_are_named_by_number():
    watch = Watch()
    said = [watch.see(numbers(0.95, 0.5, 0.91 if k % 2 else 0.2)) for k in range(PATIENCE)][-1]
    assert len(said) == 1 and "in 1 of 3 seeds" in said[0] and "95.0%" in said[0]


def test_missing_number_and_the_emotions_own_dominance_are_no_signature():
    watch = Watch()
    for _ in range(2 * PATIENCE):
        assert watch.see(numbers(None)) == []
        assert watch.see({"gradient_share": {"emotion": 0.99}}) == []


def test_history_counts_as_said():
    assert Watch([numbers(0.95)] * PATIENCE).see(numbers(0.95)) == []
    assert len(Watch([numbers(0.95)] * (PATIENCE - 1)).see(numbers(0.95))) == 1


def watched(every, rows=(), epochs=2 * PATIENCE):
    """What a run of `epochs` epochs logs and prints of two seeds whose attention stays at home."""
    logged = numbers(0.95, 0.5)
    look = jax.jit(lambda s, d: {"self_weight": {"text/0": s + 0 * d[0]}})
    experiment = build.Experiment(
        init=None,
        epoch=None,
        evaluate={},
        score=None,
        count=None,
        diagnose=look,
        step=None,
        data={"train": Feed(None, None, None, 1, 1, jnp.zeros(2))},
        layout={},
        index={},
        steps=1,
        num_devices=1,
    )
    both = seeds.Separate("sequence", (0, 1), experiment)
    states = both.place(np.float32(logged["self_weight"]["text/0"]))
    directory = SimpleNamespace(read_metrics=lambda: list(rows))
    printed = []
    bar = SimpleNamespace(write=lambda words, file: printed.append(words))
    look = runner._diagnosis(both, every, directory)
    return [look(states, epoch, bar) for epoch in range(1, epochs + 1)], printed


def test_run_logs_every_seed_and_warns_once():
    logged, printed = watched(1)
    assert logged == [{"diagnostics": {"self_weight": {"text/0": [pytest.approx(0.95), 0.5]}}}] * (2 * PATIENCE)
    assert len(printed) == 1 and printed[0].startswith("warning: attention stays") and "1 of 2 seeds" in printed[0]


def test_run_looks_as_often_as_asked():
    logged, printed = watched(3)
    assert [bool(row) for row in logged] == [epoch % 3 == 0 for epoch in range(1, 2 * PATIENCE + 1)]
    assert watched(0) == ([{}] * (2 * PATIENCE), []) and printed == []


def test_resumed_run_does_not_repeat_a_warning():
    rows = [{"epoch": k, "diagnostics": numbers(0.95, 0.5)} for k in range(PATIENCE)]
    assert watched(1, rows)[1] == []
    assert len(watched(1, rows[:-1], epochs=1)[1]) == 1

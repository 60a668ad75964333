"""A text encoder that is trained along: what of it moves and how fast, what reaches it and what does not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util

from ariigcn_jax.data import packing
from ariigcn_jax.nn.text_encoder import IDS, NAME, STATISTICS, TABLE
from ariigcn_jax.objective import terms as objective
from ariigcn_jax.runs import divergence, session
from ariigcn_jax.runs.checkpoint import Checkpoints
from ariigcn_jax.training import build, seeds
from ariigcn_jax.training.feed import steps_of_part
from ariigcn_jax.training.step import seen_batch
from ariigcn_jax.types import PADDING, UNLABELED, WORDS, UserError
from tests.support import spoken
from tests.support.builders import by_utterance, jit
from tests.support.encoders import tiny_encoder
from tests.support.training import LIGHT, batch_of, distance, random_state, tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")

PLAIN = LIGHT | {"losses.unimodal.weight": 0.0, "model.dropout": 0.0, "model.text.dropout": 0.0}
PLAIN |= {"model.text.precision": "float32"}
FAST = {"batch_size": 2, "optimizer.words.lr": 0.01, "optimizer.words.warmup_epochs": 0.0, "optimizer.average": 0.5}
LENGTHS = [4, 3, 5, 2, 4, 3, 4]
PARTS = {  # what is trained -> what the network is given, and the parts whose parameters it has
    "last_1": (1, {"layer_1"}),
    "full": (TABLE, {"positions", "types", "norm", "layer_0", "layer_1"}),
    "full, table": (IDS, {"words", "positions", "types", "norm", "layer_0", "layer_1"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("words") / "encoder")


def text_of(name):
    """`model.text` for a key of PARTS, or "frozen"."""
    train, _, table = name.partition(", ")
    return {"train": train, "train_table": bool(table)}


def config_of(name, **changes):
    text = {f"model.text.{key}": value for key, value in text_of(name).items()}
    return tiny({**PLAIN, **text, **changes})


@pytest.fixture(scope="module")
def make(folder):
    """Return a function of what is trained and of changes: players, corpus, the batch of train, and a random state."""
    corpora, states = {}, {}

    def made(name, lengths=LENGTHS, **changes):
        if (key := (name, tuple(lengths))) not in corpora:
            corpus = spoken.corpus(folder, lengths, text_of(name))
            corpora[key] = corpus, batch_of(corpus)
        corpus, batch = corpora[key]
        players = build.make_players(config_of(name, **changes), corpus.description, 1)
        key = (*key, players.model.further, players.model.options.graph.layers)
        if key not in states:
            states[key] = random_state(players, batch)
        return players, corpus, batch, states[key]

    return made


@functools.cache
def compiled(model, train):
    key = jax.random.key(0)
    return jit(lambda params, batch: model.apply({"params": params}, batch, train, rngs={"dropout": key}))


def outputs(players, params, batch, train=False):
    return compiled(players.model, train)(params, batch)


def answers(players, params, batch):
    return np.asarray(outputs(players, params, batch).logits)


def gradient(players, state):
    """Return a function of a batch: the gradient of all terms."""

    def loss(params, batch):
        made = players.model.apply({"params": params}, batch, True, rngs={"dropout": state.key})
        return objective.total(players.terms, made, batch, None)[0]

    of = jit(jax.grad(loss))
    return lambda batch: of(state.params, batch)


def same_training(one, other, tolerance):
    """Where a gradient is zero but for rounding, as that of the keys' biases, AdamW moves by the rounding."""
    kernels = [params[NAME]["layer_1"]["contract"]["kernel"] for params in (one, other)]
    return distance(*kernels) < tolerance


# --- What is trained --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
def test_only_what_is_trained_is_a_parameter(make, name):
    given, parts = PARTS[name]
    _, corpus, batch, state = make(name)
    assert corpus.description.encoder[1] == given and state.params[NAME].keys() == parts
    assert (batch.tokens.states is None) == (given == IDS) != (batch.tokens.ids is None)
    assert jax.tree.map(np.shape, state.params[NAME]) == jax.tree.map(np.shape, corpus.words.initial[NAME])


def test_a_frozen_encoder_is_no_part_of_the_network(make):
    _, corpus, batch, state = make("frozen")
    assert corpus.words is corpus.description.encoder is batch.tokens is None
    assert corpus.features[WORDS].any() and NAME not in state.params


@pytest.fixture(scope="module")
def experiment(folder):
    """An experiment of several steps an epoch, and its corpus."""
    corpus = spoken.corpus(folder, LENGTHS, text_of("last_1"))
    made = build.make(config_of("last_1", **FAST), corpus)
    return dataclasses.replace(made, step=jax.jit(made.step)), corpus  # traced once for all tests


def test_training_begins_with_the_pretrained_parameters_and_moves_them_all(experiment):
    made, corpus = experiment
    begun = jax.tree.map(np.asarray, made.init(0).params[NAME])
    jax.tree.map(np.testing.assert_array_equal, begun, corpus.words.initial[NAME])
    state, _ = made.epoch(made.init(0), made.data["train"].rows)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), begun, jax.tree.map(np.asarray, state.params[NAME]))
    assert all(size > 1e-6 for size in jax.tree.leaves(moved)), moved
    mean, scale = corpus.words.moments
    kept = jax.tree.map(np.asarray, state.params[STATISTICS])
    np.testing.assert_array_equal(kept["mean"], mean)
    np.testing.assert_array_equal(kept["scale"], scale)


def test_training_learns_what_is_said(experiment):
    made, _ = experiment
    state, losses = made.init(0), []
    for _ in range(12):
        state, logs = made.epoch(state, made.data["train"].rows)
        losses.append(float(logs["emotion"]))
    assert losses[-1] < 0.5 * losses[0]


def test_a_network_that_is_given_states_answers_as_the_whole_one(make):
    """Before training: what is not trained was computed beforehand."""
    rest, found = make("last_1")[3].params, []
    for name in ("last_1", "full, table"):
        players, corpus, batch, _ = make(name)
        found.append(answers(players, {**rest, NAME: corpus.words.initial[NAME]}, batch))
    assert np.ptp(found[1]) > 0.1
    np.testing.assert_allclose(*found, atol=1e-5)


def test_seeds_in_one_program_do_what_each_does_alone(experiment):
    made, _ = experiment
    several = seeds.Together("vmap", (0, 1), made)
    states, of_all = several.train(several.init())
    params = several.host(states).params
    mine = [jax.tree.map(lambda x, n=n: x[n], params) for n in (0, 1)]
    for number in (0, 1):
        alone, logs = made.epoch(made.init(number), made.data["train"].rows)
        assert float(logs["total"]) == pytest.approx(float(of_all["total"][number]), rel=1e-4)
        assert same_training(mine[number], alone.params, 1e-4)
    assert distance(mine[0][NAME], mine[1][NAME]) > 1e-3


# --- Rates ------------------------------------------------------------------------------------------------------------

SETTINGS = {
    "num_epochs": 4,
    "optimizer.lr": 0.1,
    "optimizer.warmup_epochs": 2.0,
    "optimizer.weight_decay": 0.5,
    "optimizer.clip": 0.0,
    "optimizer.words.lr": 0.01,
    "optimizer.words.decay": 0.5,
    "optimizer.words.warmup_epochs": 1.0,
    "optimizer.words.weight_decay": 0.2,
}


def rates(optimizer, params, count, gradient=0.0):
    """How far each update moves parameters of one: with no gradient by decay alone."""
    gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), params)

    def step(state, _):
        updates, state = optimizer.update(gradients, state, params)
        return state, jax.tree.map(lambda x: -x.reshape(-1)[0], updates)

    return jax.tree.map(np.asarray, jit(lambda s: jax.lax.scan(step, s, None, length=count)[1])(optimizer.init(params)))


def test_each_layer_has_its_rate_and_the_encoder_its_own_warm_up_and_decay():
    kernel = {"kernel": jnp.ones((1, 1))}
    encoder = {"positions": kernel, "norm": {"scale": jnp.ones(1)}, "layer_0": kernel, "layer_1": kernel}
    params = {NAME: encoder, "classifier": kernel}
    config, steps = tiny(SETTINGS), 10
    seen = rates(build.make_optimizer(config.optimizer, 4, steps, depth=2), params, 41)
    words = seen[NAME]
    assert not words["norm"]["scale"].any()  # a vector does not decay
    top, below, embeddings = (words[part]["kernel"] for part in ("layer_1", "layer_0", "positions"))
    np.testing.assert_allclose(below, 0.5 * top, rtol=1e-5)
    np.testing.assert_allclose(embeddings, 0.25 * top, rtol=1e-5)
    np.testing.assert_allclose(top[[0, 5, 10, 25, 40]], np.array([0, 0.5, 1, 0.5, 0]) * 0.01 * 0.2, atol=1e-8)
    rest = seen["classifier"]["kernel"]
    np.testing.assert_allclose(rest[[0, 10, 20, 30, 40]], np.array([0, 0.5, 1, 0.5, 0]) * 0.1 * 0.5, atol=1e-7)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_discriminators_never_learn_faster_than_generators(folder, schedule, accumulate):
    """Over a run whose number of steps the accumulation does not divide; a gradient of one shows Adam's rate."""
    changes = {"optimizer.accumulate": accumulate, "optimizer.schedule": schedule, "discriminator.lr": 0.1}
    config = config_of("last_1", **SETTINGS | changes | {"optimizer.weight_decay": 0.0})
    description = spoken.corpus(folder, [2, 2, 2], text_of("last_1")).description
    steps = 5
    players, params = build.make_players(config, description, steps), {"classifier": jnp.ones((1, 1))}
    ours = rates(players.optimizer, params, 4 * steps + 1, gradient=1.0)["classifier"]
    theirs = rates(players.discriminator_optimizer, params, 4 * steps + 1, gradient=1.0)["classifier"]
    assert (theirs <= ours * (1 + 1e-4)).all() and ours.max() > 0.09
    assert np.count_nonzero(theirs) == np.count_nonzero(ours) <= (4 * steps + 1) / accumulate
    if schedule == "cosine":
        assert ours[-1] < 0.2 * ours.max()


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_accumulated_steps_update_once_by_the_mean_gradient(clip):
    """Clipping counts for the mean, too."""
    random = np.random.default_rng(0)
    params = {NAME: {"layer_0": {"kernel": jnp.ones((2, 3))}}, "classifier": {"bias": jnp.ones(3)}}
    gradients = [
        jax.tree.map(lambda x, size=size: jnp.asarray(size * random.normal(size=x.shape), jnp.float32), params)
        for size in (0.1, 1.0, 10.0)
    ]
    changes = SETTINGS | {"optimizer.clip": clip, "optimizer.warmup_epochs": 0.0, "optimizer.words.warmup_epochs": 0.0}
    once, thrice = (
        build.make_optimizer(tiny(changes | {"optimizer.accumulate": k}).optimizer, 4, 6, depth=1) for k in (1, 3)
    )
    mean = jax.tree.map(lambda *x: sum(x) / 3, *gradients)
    expected, _ = once.update(mean, once.init(params), params)
    state, moved = thrice.init(params), []
    for gradient in gradients:
        updates, state = thrice.update(gradient, state, params)
        moved.append(updates)
    assert not any(x.any() for x in jax.tree.leaves(moved[:2]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), moved[2], expected)


def test_the_mean_gradient_of_accumulated_steps_is_that_of_their_joined_batch(make):
    """As many labels in each, a loss without pairs, and no dropout."""
    players, corpus, _, state = make("last_1")
    _, where = packing.index(corpus, "train", 1)
    empty = len(where.source) - 1
    found = []
    for rows in ([0, empty], [empty, 1], [0, 1]):
        batch = jax.tree.map(jnp.asarray, packing.collect(corpus, where, np.array(rows)))
        found.append(batch.replace(label=batch.label.at[:, 2:].set(UNLABELED)))
    assert [int((batch.label >= 0).sum()) for batch in found] == [2, 2, 4]
    first, second, whole = map(gradient(players, state), found)
    assert distance(jax.tree.map(lambda a, b: (a + b) / 2, first, second), whole) < 1e-6 < distance(first, whole)


# --- What reaches the encoder -----------------------------------------------------------------------------------------


def test_dropout_of_features_and_of_modalities_leaves_tokens_alone(make):
    players, _, batch, state = make("full, table")
    dropping, *_ = make("full, table", **{"model.input_dropout": 0.9, "model.modality_dropout": 0.5})
    seen = seen_batch(dropping, jax.random.key(1), batch, state)
    assert (seen.present[WORDS] != batch.present[WORDS]).any()
    jax.tree.map(np.testing.assert_array_equal, seen.tokens, batch.tokens)
    plain, dropped = outputs(players, state.params, batch), outputs(dropping, state.params, batch, True)
    np.testing.assert_allclose(plain.encoded[WORDS], dropped.encoded[WORDS], atol=1e-6)
    assert distance(plain.codes[WORDS], dropped.codes[WORDS]) > 1e-3


def other_tokens(tokens, where):
    """The same tokens with other contents at `where` [R, Q, S] bool."""
    ids = None if tokens.ids is None else jnp.where(where, (tokens.ids + 7) % 60, tokens.ids)
    states = None if tokens.states is None else jnp.where(where[..., None], 3 - tokens.states, tokens.states)
    return tokens.replace(ids=ids, states=states)


@pytest.mark.parametrize("name", ["last_1", "full, table"])
def test_what_padding_holds_changes_no_gradient(make, name):
    players, _, batch, state = make(name)
    padding = batch.tokens.slot == PADDING
    assert padding.any()
    tokens = other_tokens(batch.tokens, padding)
    tokens = tokens.replace(pooled=tokens.pooled | padding, position=jnp.where(padding, 5, tokens.position))
    of = gradient(players, state)
    one, two = of(batch), of(batch.replace(tokens=tokens))
    assert distance(one, two) == 0
    assert all(x.any() for x in jax.tree.leaves(one[NAME]))


@pytest.mark.parametrize("name", ["last_1", "full, table"])
def test_words_reach_their_own_utterance_alone(make, name):
    """Without a graph: not those beside them in a row of tokens, of their dialogue or of another."""
    players, _, batch, state = make(name)
    before = by_utterance(answers(players, state.params, batch), batch)
    row, slot = np.argwhere((batch.utterance != PADDING) & batch.present[WORDS])[3]
    own = np.asarray(batch.utterance)[row, slot]
    tokens = other_tokens(batch.tokens, (batch.tokens.slot == slot) & (np.arange(len(batch.row)) == row)[:, None, None])
    after = by_utterance(answers(players, state.params, batch.replace(tokens=tokens)), batch)
    assert (before != after).any(axis=-1).nonzero()[0].tolist() == [own]


def test_dialogues_packed_together_are_answered_as_apart(make):
    players, corpus, _, state = make("last_1")
    found, shapes = [], []
    for size in (1, 100):
        _, batch = packing.pack(corpus, "train", size)
        shapes.append(batch.tokens.slot.shape)
        found.append(by_utterance(answers(players, state.params, batch), batch))
    assert shapes[0] != shapes[1] and np.ptp(found[0]) > 0.1
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_a_missing_transcript_is_a_missing_modality(make, tmp_path):
    corpus = session.load(spoken.options(tmp_path, {"model.text.train": "last_1"}))
    silent = np.array([not text.strip() for text in corpus.transcript])
    assert 0 < silent.sum() < len(corpus)
    np.testing.assert_array_equal(corpus.present[WORDS], ~silent)
    np.testing.assert_array_equal(corpus.words.lengths == 0, silent)
    players, _, batch, state = make("last_1")
    codes = outputs(players, state.params, batch).codes[WORDS][np.asarray(batch.real & ~batch.present[WORDS])]
    assert len(codes) and (codes == state.params[f"encoder_{WORDS}"]["missing"]).all()


# --- The game ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["ranked", "speaker_normalised", "dialogue_normalised"])
def test_words_that_are_trained_along_are_neither_ranked_nor_copied(tmp_path, option):
    with pytest.raises(UserError, match=f"data.{option} names 'words', whose encoder is trained along"):
        session.load(spoken.options(tmp_path, {"model.text.train": "last_1", f"data.{option}": ("wor",)}))


def test_discriminators_judge_vectors_of_words_as_constants(make):
    """Real are the encoder's vectors, never token ids, and no gradient of L_D goes to the encoder through them; that of
    the generators' loss goes to it through the code that another modality is generated from."""
    players, corpus, batch, state = make("full, table", **{"losses.adversarial.weight": 0.5})

    def real_term(made):
        fixed = made.replace(generated=jax.lax.stop_gradient(made.generated))
        real, judged = players.judge(state.discriminators, fixed, batch)
        return objective.discriminator_total(players.terms, real, judged, batch, None)

    def generators_term(made):
        judged = players.judge(state.discriminators, made, batch)[1]
        return objective.total({"adversarial": players.terms["adversarial"]}, judged, batch, None)[0]

    @jit
    def look(params):
        made, pullback = jax.vjp(lambda p: players.model.apply({"params": p}, batch, False), params)
        value, cotangent = jax.value_and_grad(real_term)(made)
        real, encoded = players.real(made, batch), made.encoded
        return value, real, encoded, pullback(cotangent)[0], pullback(jax.grad(generators_term)(made))[0]

    value, real, encoded, of_real, of_generated = look(state.params)
    assert real.keys() == {WORDS, "audio"} and real[WORDS].shape[-1] == corpus.words.width
    np.testing.assert_array_equal(real[WORDS], encoded[WORDS])
    assert value > 0 and not any(x.any() for x in jax.tree.leaves(of_real))
    assert all(x.any() for x in jax.tree.leaves(of_generated[NAME]["layer_1"]["contract"]))


# --- A run ------------------------------------------------------------------------------------------------------------


def test_streamed_tokens_give_what_those_on_the_device_give(experiment):
    made, corpus = experiment
    whole, logs = made.epoch(made.init(0), made.data["train"].rows)
    streamed = build.make(config_of("last_1", **FAST, **{"data.device_megabytes": 1e-4}), corpus)
    assert streamed.streamed and streamed.data["train"].steps == 1 < streamed.steps
    state = streamed.init(0)
    state, others = streamed.training(state)[0](state, streamed.data["train"])
    assert float(others["emotion"]) == pytest.approx(float(logs["emotion"]), rel=1e-6)
    assert same_training(whole.params, state.params, 1e-6)


@pytest.mark.parametrize("name", ["last_1", "full, table"])
def test_tokens_count_among_what_a_device_may_hold(make, name):
    _, corpus, _, _ = make(name)
    layout, where = packing.index(corpus, "train", 2)
    for steps in range(1, layout.steps + 1):
        part = packing.collect(corpus, where, np.arange(steps * layout.rows))
        size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(part.replace(n_node=None, row=None)))
        assert steps_of_part(2.02 * size, corpus, layout, where) == steps


def test_a_dialogue_with_a_broken_token_is_named_alone(experiment):
    made, corpus = experiment
    u = np.flatnonzero((corpus.split == "train") & (corpus.words.lengths > 0))[4]
    states = corpus.words.states.copy()
    states[corpus.words.start[u]] = np.nan
    broken = dataclasses.replace(corpus, words=dataclasses.replace(corpus.words, states=states))
    fault = divergence.locate(made, broken, made.init(0))
    assert fault.dialogues == (corpus.dialogue_ids[corpus.dialogue[u]],) and fault.among > 1
    assert NAME in fault.gradients and "emotion" in fault.terms


def test_an_encoder_that_diverges_is_named_with_its_own_rate(make):
    _, _, batch, state = make("last_1")
    for module, rate in ((NAME, "optimizer.words.lr"), ("classifier", "optimizer.lr")):
        params = {**state.params, module: jax.tree.map(lambda x: x * 1e30, state.params[module])}
        fault = divergence.Fault(1, ("emotion",), (module,), (), ("a", "b"), 2, state.replace(params=params), batch)
        said = divergence.words(fault, 2)
        assert f"in {module}. Lower {rate} or losses.emotion.weight" in said


def restored(made, state, folder):
    """The state as a checkpoint keeps it, and the checkpoint's folder."""
    keeps = seeds.Separate("sequence", (0,), made)
    items = {"last": keeps.host([state]), "best": {"params": keeps.host([state.weights])}, "data": {"x": np.zeros(1)}}
    checkpoints = Checkpoints(folder, 1)
    checkpoints.save(1, items)
    checkpoints.wait()
    like = {**items, "last": keeps.host([made.init(1)])}
    last = checkpoints.restore(1, like)["last"]
    checkpoints.finish()
    return keeps.place(last.replace(key=jax.random.wrap_key_data(last.key)))[0], folder / "checkpoints" / "1"


def test_a_checkpoint_holds_the_trained_layers_once_and_goes_on_to_the_same_bits(experiment, tmp_path):
    made, _ = experiment
    rows = made.data["train"].rows
    state, _ = made.epoch(made.init(0), rows)
    again, folder = restored(made, state, tmp_path)
    with ocp.StandardCheckpointer() as reader:
        last, best = (reader.restore(folder / item) for item in ("last", "best"))
    assert last["params"][NAME].keys() == last["average"][NAME].keys() == best["params"][NAME].keys() == {"layer_1"}
    jax.tree.map(np.testing.assert_array_equal, best["params"], last["average"])
    paths = [path for path in traverse_util.flatten_dict(last, sep="/") if NAME in path]
    assert all(f"{NAME}/layer_1/" in path for path in paths)
    ends = [made.epoch(begun, rows) for begun in (state, again)]
    assert jax.tree.map(float, ends[0][1]) == jax.tree.map(float, ends[1][1])
    for field in ("params", "average", "optimizer"):
        jax.tree.map(np.testing.assert_array_equal, *(getattr(end, field) for end, _ in ends))


def test_the_average_begins_at_the_pretrained_parameters_and_is_what_is_evaluated(experiment):
    made, corpus = experiment
    begun = made.init(0)
    jax.tree.map(np.testing.assert_array_equal, begun.average[NAME], corpus.words.initial[NAME])
    state, _ = made.epoch(begun, made.data["train"].rows)
    assert state.weights is state.average
    assert distance(state.average[NAME], state.params[NAME]) > 1e-4
    assert distance(state.average[NAME], corpus.words.initial[NAME]) > 1e-4

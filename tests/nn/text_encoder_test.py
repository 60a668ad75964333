"""The encoder against a plain numpy reference, family by family, one utterance at a time."""

import dataclasses
import json
import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ariigcn_jax.data import packing
from ariigcn_jax.nn import pretrained, text_encoder
from ariigcn_jax.nn.text_encoder import IDS, TABLE, Linear, TextEncoder
from ariigcn_jax.types import PADDING, Words
from tests.support.encoders import tiny_encoder

LENGTHS = (5, 3, 0, 9, 1, 4)
ERF = np.vectorize(math.erf)
FORMS = {
    "gelu": lambda x: x * (1 + ERF(x / math.sqrt(2))) / 2,
    "gelu_new": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: np.where(x > 0, x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}
FAMILIES = ("bert", "distilbert", "roberta", "xlm-roberta", "camembert")


def family_folder(path, family, seed=0, **changes):
    """CamemBERT is RoBERTa under another name."""
    folder = tiny_encoder(path, "roberta" if family == "camembert" else family, seed)
    config = {**json.loads((folder / "config.json").read_text()), "model_type": family, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def reference(folder, ids):
    """The hidden states [T, d] of one text, in float64, as the papers have them, by the names in the file."""
    w = {name: np.asarray(x, np.float64) for name, x in load_file(folder / "model.safetensors").items()}
    config = json.loads((folder / "config.json").read_text())
    distilled = config["model_type"] == "distilbert"
    heads, depth = (config["n_heads"], config["n_layers"]) if distilled else (config["num_attention_heads"], 2)
    epsilon, form = config.get("layer_norm_eps", 1e-12), FORMS[config["activation" if distilled else "hidden_act"]]
    roberta = config["model_type"] in ("roberta", "xlm-roberta", "camembert")
    first = config["pad_token_id"] + 1 if roberta else 0

    def norm(x, name):
        spread = np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
        return (x - x.mean(axis=-1, keepdims=True)) / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][first : first + len(ids)]
    if not distilled:
        x = x + w["embeddings.token_type_embeddings.weight"][0]
    states = [norm(x, "embeddings.LayerNorm")]
    for k in range(depth):
        x = states[-1]
        at = f"transformer.layer.{k}." if distilled else f"encoder.layer.{k}."
        names = [f"attention.{part}_lin" for part in "qkv"] if distilled else []
        names = names or [f"attention.self.{part}" for part in ("query", "key", "value")]
        q, key, v = (np.split(linear(x, at + name), heads, axis=-1) for name in names)
        mixed = []
        for h in range(heads):
            scores = q[h] @ key[h].T / math.sqrt(q[h].shape[-1])
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed.append(weights / weights.sum(axis=-1, keepdims=True) @ v[h])
        out = "attention.out_lin" if distilled else "attention.output.dense"
        x = x + linear(np.concatenate(mixed, axis=-1), at + out)
        x = norm(x, at + ("sa_layer_norm" if distilled else "attention.output.LayerNorm"))
        halves = ("ffn.lin1", "ffn.lin2") if distilled else ("intermediate.dense", "output.dense")
        made = linear(form(linear(x, at + halves[0])), at + halves[1])
        states.append(norm(x + made, at + ("output_layer_norm" if distilled else "output.LayerNorm")))
    return states


def some_words(lengths=LENGTHS, vocabulary=60, **fields):
    start = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.random.default_rng(1).integers(0, vocabulary, start[-1]).astype(np.int32)
    return Words(ids, start, np.ones(len(ids), bool), **{"first_position": 0, **fields})


def pack(words, length=12):
    """The tokens of all utterances in one row of a batch, whose slots are the utterances' numbers."""
    row = [(u, u) for u, size in enumerate(words.lengths) if size]
    token, slot = packing.token_rows(words, [row], length)
    return token, packing.tokens(words, token, slot)


def run(network, params, tokens, train=False, key=0):
    rows = jnp.arange(tokens.slot.shape[0])
    return network.apply({"params": params}, tokens, rows, train, rngs={"dropout": jax.random.key(key)})


def check(folder, tolerance=2e-5):
    encoder = pretrained.read(folder)
    words = some_words(first_position=encoder.architecture.first_position)
    token, tokens = pack(words)
    states = run(TextEncoder(encoder.architecture), encoder.params(), tokens)
    ends = zip(words.start, words.start[1:], strict=False)
    expected = [reference(folder, words.ids[a:b]) for a, b in ends if a < b]
    assert len(states) == 3
    for k, state in enumerate(states):
        whole = np.concatenate([one[k] for one in expected])
        np.testing.assert_allclose(np.asarray(state)[token != PADDING], whole[token[token != PADDING]], atol=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_what_the_reference_gives(family, tmp_path):
    check(family_folder(tmp_path, family))


@pytest.mark.parametrize("form", FORMS)
def test_activations(form, tmp_path):
    check(family_folder(tmp_path, "bert", hidden_act=form))


def test_the_epsilon_is_the_configurations(tmp_path):
    check(family_folder(tmp_path, "bert", layer_norm_eps=0.1))


def test_roberta_counts_from_behind_its_padding(tmp_path):
    folder = family_folder(tmp_path, "roberta", pad_token_id=3)
    assert pretrained.read(folder).architecture.first_position == 4
    assert pretrained.read(folder).architecture.longest == 62
    check(folder)


def test_what_is_computed_beforehand_changes_nothing(tmp_path):
    encoder = pretrained.read(tiny_encoder(tmp_path))
    params, words = encoder.params(), some_words()
    token, tokens = pack(words)
    whole = run(TextEncoder(encoder.architecture), params, tokens)
    real = token != PADDING
    for given in (TABLE, 0, 1):
        below = params["words"]["embedding"][words.ids]
        if given >= 0:
            below = np.zeros_like(below)
            below[token[real]] = np.asarray(whole[given])[real]
        _, stated = pack(dataclasses.replace(words, states=below))
        states = run(TextEncoder(encoder.architecture, given), params, stated)
        assert len(states) == 3 - max(given, 0)
        for mine, theirs in zip(states, whole[max(given, 0) :], strict=True):
            np.testing.assert_allclose(np.asarray(mine)[real], np.asarray(theirs)[real], atol=1e-6)
    assert len(run(TextEncoder(encoder.architecture, IDS, last=1), params, tokens)) == 2


def test_neighbours_in_a_row_and_padding_change_nothing(tmp_path):
    encoder = pretrained.read(tiny_encoder(tmp_path))
    network, params, words = TextEncoder(encoder.architecture), encoder.params(), some_words()
    _, together = pack(words, 22)
    vectors = text_encoder.pool(run(network, params, together)[-1], together, len(LENGTHS), "mean")
    for u, size in [(u, size) for u, size in enumerate(LENGTHS) if size]:
        _, alone = pack(words.take(np.array([u])), size)
        expected = text_encoder.pool(run(network, params, alone)[-1], alone, 1, "mean")[0, 0]
        np.testing.assert_allclose(vectors[0, u], expected, atol=1e-6)
    assert not vectors[0, 2].any()  # it has no tokens


@pytest.mark.parametrize("how", text_encoder.POOLINGS)
def test_pooling(how):
    words = some_words()
    pooled = np.ones(len(words.ids), bool)
    pooled[[0, 6]] = False
    token, tokens = pack(dataclasses.replace(words, pooled=pooled))
    states = np.random.default_rng(0).normal(size=(*token.shape, 3)).astype(np.float32) - 3
    found = text_encoder.pool(jnp.asarray(states), tokens, 7, how)
    assert found.shape == (1, 7, 3)
    flat = np.zeros((len(pooled), 3))
    flat[token[token != PADDING]] = states[token != PADDING]
    for u in range(7):
        own = flat[words.start[u] : words.start[u + 1]][pooled[words.start[u] : words.start[u + 1]]] if u < 6 else []
        expected = (np.max if how == "max" else np.mean)(own, axis=0) if len(own) else np.zeros(3)
        np.testing.assert_allclose(found[0, u], expected, atol=1e-6)


def test_layers_are_joined_in_the_order_asked_for():
    _, tokens = pack(some_words())
    states = {k: jnp.full((*tokens.slot.shape, 2), float(k)) for k in range(3)}
    assert text_encoder.numbers((-1, 0, 1), 2) == (2, 0, 1)
    made = text_encoder.joined(states, tokens, 6, (2, 0, 1), "mean")
    assert made[0, 0].tolist() == [2, 2, 0, 0, 1, 1]


def test_vectors_are_standardised_by_statistics_that_are_not_trained():
    known = {"params": {"mean": jnp.array([1.0, 2.0]), "scale": jnp.array([2.0, 1e-3])}}
    network, x = text_encoder.Standard(), jnp.array([[1.0, 2.0], [3.0, 5.0]])
    np.testing.assert_allclose(network.apply(known, x), [[0, 0], [1, 10]])  # clipped
    slopes = jax.grad(lambda known: network.apply(known, x).sum())(known)
    assert not any(np.any(slope) for slope in jax.tree.leaves(slopes))


def test_dropout_drops_only_in_training(tmp_path):
    encoder = pretrained.read(tiny_encoder(tmp_path))
    params, (_, tokens) = encoder.params(), pack(some_words())
    network = TextEncoder(encoder.architecture, dropout=0.5)
    plain = run(TextEncoder(encoder.architecture), params, tokens)[-1]
    np.testing.assert_array_equal(run(network, params, tokens)[-1], plain)
    one, two, again = (run(network, params, tokens, True, key)[-1] for key in (1, 2, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, two) and not np.allclose(one, plain)


def test_remat_changes_nothing_but_memory(tmp_path):
    encoder = pretrained.read(tiny_encoder(tmp_path))
    params, (_, tokens) = encoder.params(), pack(some_words())

    def gradient(remat):
        network = TextEncoder(encoder.architecture, dropout=0.3, remat=remat)
        return jax.jit(jax.grad(lambda p: jnp.square(run(network, p, tokens, True)[-1]).mean()))(params)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient(True), gradient(False))


def relative(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("axes", [None, (0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("remat", [False, True])
def test_products_in_bfloat16_are_close_to_float32(turned, axes, remat):
    """In a scan as in training, alone and for two seeds at once: where XLA may fold a transpose into a product."""
    random = np.random.default_rng(0)
    w = jnp.asarray(random.normal(size=(32, 96) if turned else (96, 32)) * 0.1, jnp.float32)
    x = jnp.asarray(random.normal(size=(64, 96)), jnp.float32)

    def made(multiply):
        def loss(w, x):
            inner = (jax.checkpoint(multiply) if remat else multiply)(jnp.tanh(x), w)
            return jnp.square(jnp.tanh(inner)).sum() / 100

        def steps(w, x):
            def step(w, _):
                of_w, of_x = jax.grad(loss, argnums=(0, 1))(w, x)
                return w - 0.01 * of_w, (of_w, of_x)

            return jax.lax.scan(step, w, None, length=2)[1]

        given = [jnp.stack([v, 0.9 * v]) if axes and axes[n] == 0 else v for n, v in enumerate((w, x))]
        return jax.jit(jax.vmap(steps, axes) if axes else steps)(*given)

    close = made(lambda x, w: text_encoder.product(x, w, turned))
    exact = made(lambda x, w: x @ (w.T if turned else w))
    for a, b in zip(close, exact, strict=True):
        assert a.shape == b.shape and 1e-6 < relative(a, b) < 0.01


@pytest.mark.parametrize("out", [8, 200])
def test_a_linear_map_is_the_same_in_both_precisions(out):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 64)), jnp.float32)
    params = Linear(out).init(jax.random.key(0), x)
    assert params["params"]["kernel"].shape == (min(out, 64), max(out, 64))
    assert relative(Linear(out, "bfloat16").apply(params, x), Linear(out).apply(params, x)) < 0.01


def test_gradients_of_the_network_in_bfloat16(tmp_path):
    encoder = pretrained.read(tiny_encoder(tmp_path))
    params, (_, tokens) = encoder.params(), pack(some_words())
    wanted = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 16)), jnp.float32)

    def gradient(precision):
        network = TextEncoder(encoder.architecture, precision=precision, remat=True)

        def loss(p):
            return (text_encoder.pool(run(network, p, tokens, True)[-1], tokens, 6, "mean") * wanted).mean()

        seeds = jax.tree.map(lambda v: jnp.stack([v, v]), params)
        return jax.jit(jax.vmap(jax.grad(loss)))(seeds)

    close, exact = (jax.flatten_util.ravel_pytree(gradient(precision))[0] for precision in ("bfloat16", "float32"))
    assert relative(close, exact) < 0.03

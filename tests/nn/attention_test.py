"""The edge-list kernel against loops written from the method's equations; the band kernel against the edge-list one."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax.nn import attention, graph
from ariigcn_jax.types import PADDING
from tests.support import builders

HEADS, WIDTH = 2, 2
RELATIONS = len(graph.RELATIONS)


def drawn(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


class Nodes(NamedTuple):
    """What the nodes of a batch [R, L] contribute, node by node; how the kernels want it laid out is said once below.

    Attributes:
      receiver: [R, L, K, H], or queries [R, L, H, D/H] for dot scores.
      sender: the same; or keys.
      value: [R, L, K, H, D/H], K = 1 where relations share W.
      bias: [K, H].
    """

    receiver: jax.Array
    sender: jax.Array
    value: jax.Array
    bias: jax.Array


def project(shape, score, relation_values, seed=0):
    """Random contributions of nodes [R, L]."""
    ends = (HEADS, WIDTH) if score == "dot" else (RELATIONS, HEADS)
    used = 0.0 if score == "uniform" else 1.5
    return Nodes(
        receiver=used * drawn(seed, *shape, *ends),
        sender=used * drawn(seed + 1, *shape, *ends),
        value=drawn(seed + 2, *shape, RELATIONS if relation_values else 1, HEADS, WIDTH),
        bias=(score == "dot") * drawn(seed + 3, RELATIONS, HEADS),
    )


def laid_out(nodes, score):
    """Nodes as the kernels take them."""
    order = (2, 0, 1, 3) if score == "dot" else (2, 3, 0, 1)
    receiver, sender = (jnp.transpose(x, order) for x in (nodes.receiver, nodes.sender))
    value = tuple(jnp.transpose(nodes.value[:, :, r], (2, 0, 1, 3)) for r in range(nodes.value.shape[2]))
    return attention.Projected(receiver, sender, value, nodes.bias)


def graph_of(batch, past, future, modality="text"):
    shared = graph.conversation_graph(batch, past, future)
    nodes = batch.dialogue.size
    return graph.modality_graph(shared, jnp.zeros((nodes, HEADS * WIDTH)), batch.present[modality].reshape(-1))


def kernel(batch, nodes, window, block, kind):
    """The edge-list kernel for block None, else the band kernel."""
    g, projected = graph_of(batch, *window), laid_out(nodes, kind)
    if block is None:
        return attention.attend_edges(g, projected, kind)
    return attention.attend_band(g, projected, kind, block)


@functools.partial(builders.jit, static_argnums=(2, 3, 4))
def gradient_on_device(batch, nodes, window, block, kind):
    def functional(nodes):
        attended = kernel(batch, nodes, window, block, kind)
        grid = attended.weights.reshape(*batch.real.shape, -1)
        parts = (attended.message.reshape(*batch.real.shape, -1), grid, attended.entropy[..., None])
        drawn_parts = [x * drawn(9 + k, *x.shape) for k, x in enumerate(parts)]
        return sum(jnp.sum(jnp.where(batch.real[..., None], x, 0)) for x in drawn_parts), attended

    return jax.grad(functional, has_aux=True)(nodes)


kernel_on_device = builders.jit(kernel, static_argnums=(2, 3, 4))


def attend(batch, nodes, window, block, kind="additive"):
    """What a kernel returns, on the host."""
    return jax.device_get(kernel_on_device(batch, nodes, window, block, kind))


def gradient(batch, nodes, window, block, kind="additive"):
    """The gradient of a random functional of a kernel's results by the nodes, and the results."""
    return jax.device_get(gradient_on_device(batch, nodes, window, block, kind))


# --- The reference: loops over utterances and relations ---------------------------------------------------------------


def relation_of(batch, row, i, j):
    if i == j:
        return graph.RELATIONS.index("self")
    same = "same" if batch.speaker[row, i] == batch.speaker[row, j] else "other"
    return graph.RELATIONS.index(f"{same} speaker, {'past' if j < i else 'future'}")


def neighbours(batch, row, i, past, future):
    """j ∈ N(i): in the same dialogue, in the window, and with the modality unless it is i itself."""
    past, future = (math.inf if n == -1 else n for n in (past, future))
    return [
        j
        for j in range(batch.dialogue.shape[1])
        if batch.dialogue[row, j] == batch.dialogue[row, i]
        and i - past <= j <= i + future
        and (j == i or batch.present["text"][row, j])
    ]


def loop_softmax(scores):
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / sum(powers) for p in powers]


def loop_attention(batch, past, future, score, value):
    """message {(row, i, head): [D/H]}, weights {(row, i, j, head): α} and entropy {(row, i): ·} of real utterances.

    `score` maps (row, i, j, relation, head) to e_ij, and `value` maps (row, j, relation, head) to W_r h_j.
    """
    message, weights, entropy = {}, {}, {}
    for row, i in zip(*np.nonzero(batch.utterance != PADDING), strict=True):
        near, entropies = neighbours(batch, row, i, past, future), []
        relation = {j: relation_of(batch, row, i, j) for j in near}
        for h in range(HEADS):
            alpha = loop_softmax([score(row, i, j, relation[j], h) for j in near])
            message[row, i, h] = sum(a * value(row, j, relation[j], h) for a, j in zip(alpha, near, strict=True))
            weights |= {(row, i, j, h): a for a, j in zip(alpha, near, strict=True)}
            entropies.append(-sum(a * math.log(a) for a in alpha))
        entropy[row, i] = np.mean(entropies) / math.log(len(near)) if len(near) > 1 else 1.0
    return message, weights, entropy


def leaky(x, slope=0.2):
    return x if x > 0 else slope * x


def assert_attended(batch, past, future, attended, expected):
    message, weights, entropy = expected
    length = batch.dialogue.shape[1]
    before, after = (length - 1 if n == -1 else min(n, length - 1) for n in (past, future))
    found = {}
    for (row, i, h), m in message.items():
        np.testing.assert_allclose(attended.message[row, i, h], m, atol=1e-5)
        grid = attended.weights[row * length + i, :, h]
        assert len(grid) == before + 1 + after
        found |= {(row, i, i + w - before, h): a for w, a in enumerate(grid) if a != 0}
    assert found.keys() == weights.keys()
    np.testing.assert_allclose([found[k] for k in weights], list(weights.values()), atol=1e-5)
    for place, value in entropy.items():
        np.testing.assert_allclose(attended.entropy[place], value, atol=1e-5)


def host(batch):
    return jax.device_get(batch)


def conversations(**options):
    """Two rows of 7 slots: two dialogues and no padding; one dialogue and padding. Some utterances lack text."""
    return builders.batch([[3, 4], [5]], length=7, **(dict(missing=0.25, seed=2, speakers=3) | options))


@pytest.mark.parametrize("past, future", [(2, 1), (-1, -1)])
@pytest.mark.parametrize("relation_values", [True, False])
@pytest.mark.parametrize("kind", attention.SCORES)
def test_edges_kernel_is_the_equations(kind, relation_values, past, future):
    batch = conversations()
    assert not batch.present["text"][:, :5].all()
    nodes = project(batch.dialogue.shape, kind, relation_values)
    p = jax.device_get(nodes)

    def score(row, i, j, r, h):
        if kind == "additive":
            return leaky(float(p.receiver[row, i, r, h]) + float(p.sender[row, j, r, h]))
        if kind == "dot":
            products = [float(q) * float(k) for q, k in zip(p.receiver[row, i, h], p.sender[row, j, h], strict=True)]
            return sum(products) / math.sqrt(WIDTH) + float(p.bias[r, h])
        return 0.0

    def value(row, j, r, h):
        return np.float64(p.value[row, j, r if relation_values else 0, h])

    attended = attend(batch, nodes, (past, future), None, kind)
    assert_attended(host(batch), past, future, attended, loop_attention(host(batch), past, future, score, value))


# --- The layer --------------------------------------------------------------------------------------------------------


def layer(**options):
    defaults = dict(heads=HEADS, score="additive", relation_values=True, kernel="edges", block=0, dropout=0.0)
    return attention.GraphAttention(**(defaults | options))


@functools.partial(builders.jit, static_argnums=0)
def apply(module, params, g, rows):
    return module.apply({"params": params}, g, rows, False)


def with_hidden(batch, past=2, future=1, seed=5):
    g = graph_of(batch, past, future)
    return g._replace(nodes={**g.nodes, "hidden": drawn(seed, batch.dialogue.size, HEADS * WIDTH)})


def normed(x):
    """LayerNorm with its initial scale and bias."""
    x = np.float64(x)
    return (x - x.mean()) / math.sqrt(x.var() + 1e-6)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def paper_parameters(a, W, W_r):
    """The layer's parameters that amount to the paper's a [K, H, 2 D/H], W [H, D, D/H] and W_r [K, H, D, D/H]."""
    D = HEADS * WIDTH
    receiver, sender = np.zeros((D, RELATIONS, HEADS)), np.zeros((D, RELATIONS, HEADS))
    for r in range(RELATIONS):
        for h in range(HEADS):
            receiver[:, r, h], sender[:, r, h] = W[h] @ a[r, h, :WIDTH], W[h] @ a[r, h, WIDTH:]
    values = {f"value_{r}": np.moveaxis(W_r[r], 0, 1) for r in range(RELATIONS)}
    kernels = {"receiver": receiver, "sender": sender, **values}
    made = {name: {"kernel": jnp.asarray(k, jnp.float32)} for name, k in kernels.items()}
    made["receiver"]["bias"] = jnp.zeros((RELATIONS, HEADS))
    return {**made, "LayerNorm_0": {"scale": jnp.ones(D), "bias": jnp.zeros(D)}}


@pytest.mark.parametrize("kernel", attention.KERNELS)
def test_layer_is_the_papers_equations(kernel):
    batch = conversations()
    g = with_hidden(batch)
    random = np.random.default_rng(0)
    D = HEADS * WIDTH
    a, W = random.normal(size=(RELATIONS, HEADS, 2 * WIDTH)), random.normal(size=(HEADS, D, WIDTH))
    W_r = random.normal(size=(RELATIONS, HEADS, D, WIDTH))
    hidden = np.asarray(g.nodes["hidden"]).reshape(2, 7, D)
    x = {place: normed(hidden[place]) for place in np.ndindex(2, 7)}

    def score(row, i, j, r, h):
        return leaky(a[r, h] @ np.concatenate([W[h].T @ x[row, i], W[h].T @ x[row, j]]))

    def value(row, j, r, h):
        return W_r[r, h].T @ x[row, j]

    message, weights, entropy = loop_attention(host(batch), 2, 1, score, value)
    out = apply(layer(kernel=kernel), paper_parameters(a, W, W_r), g, batch.row)
    for (row, i), expected in entropy.items():
        heard = np.concatenate([message[row, i, h] for h in range(HEADS)])
        node = row * 7 + i
        np.testing.assert_allclose(out.nodes["hidden"][node], hidden[row, i] + gelu(heard), atol=1e-5)
        np.testing.assert_allclose(out.nodes["attention_entropy"][node], expected, atol=1e-5)
    alpha = np.asarray(out.edges["attention"]).reshape(14, 4, HEADS)
    for (row, i, j, h), expected in weights.items():
        np.testing.assert_allclose(alpha[row * 7 + i, j - i + 2, h], expected, atol=1e-5)


@pytest.mark.parametrize("score, relation_values", [("additive", False), ("dot", True), ("uniform", True)])
def test_layers_kernels_agree(score, relation_values):
    batch = conversations()
    g = with_hidden(batch)
    edges, band = (
        layer(score=score, relation_values=relation_values, kernel=k, block=2) for k in attention.KERNELS[::-1]
    )
    _, params = builders.init(edges, g, batch.row, False)
    params = builders.scattered(params)
    expected, found = (apply(module, params, g, batch.row) for module in (edges, band))
    np.testing.assert_allclose(found.nodes["hidden"], expected.nodes["hidden"], atol=1e-5)
    np.testing.assert_allclose(found.edges["attention"], expected.edges["attention"], atol=1e-5)


def other_edges(g, change):
    """A graph with each relation but "self" changed to the other speaker's, or without every third edge between two."""
    relation, mask = g.edges["relation"], g.edges["mask"]
    if change == "relations":
        relation = jnp.array([1, 0, 2, 4, 3])[relation]
    else:
        mask = mask & ((jnp.arange(len(mask)) % 3 > 0) | (g.senders == g.receivers))
    return g._replace(edges={**g.edges, "relation": relation, "mask": mask})


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("change", ["window", "relations", "mask"])
def test_both_kernels_follow_the_graph_that_they_are_given(change, block):
    batch = conversations()
    g = with_hidden(batch)
    changed = with_hidden(batch, 1, 3) if change == "window" else other_edges(g, change)
    edges, band = (layer(kernel=name, block=block) for name in ("edges", "band"))
    params = builders.scattered(builders.init(edges, g, batch.row, False)[1])
    before, expected, found = (
        apply(module, params, graph, batch.row) for module, graph in ((band, g), (edges, changed), (band, changed))
    )
    assert not np.allclose(expected.nodes["hidden"], before.nodes["hidden"], atol=1e-3)
    np.testing.assert_allclose(found.nodes["hidden"], expected.nodes["hidden"], atol=1e-5)
    np.testing.assert_allclose(found.edges["attention"], expected.edges["attention"], atol=1e-5)


# --- Band against edges -----------------------------------------------------------------------------------------------

LAYOUTS = {  # rows with one, several and no dialogue
    8: [[5, 3], [8], [1, 2], []],
    11: [[4, 3, 2, 1], [11], [6], []],
    17: [[9, 8], [1, 14]],
    1: [[1]],
}
KINDS = [(score, relation_values) for score in attention.SCORES for relation_values in (True, False)]
# score, relation_values, window, slots of a row, slots of a block
VALUES = [
    *[("additive", True, window, 11, 0) for window in ((2, 3), (10, 10), (0, 1))],
    *[("additive", True, (2, 3), 11, 8), ("additive", True, (0, 1), 11, 4), ("additive", True, (2, 3), 17, 4)],
    *[("dot", True, (1, 2), 17, 8), ("dot", False, (5, 5), 17, 1), ("additive", True, (-1, 2), 1, 4)],
]
GRADIENTS = [
    *[("additive", True, window, 11, 4) for window in ((0, 0), (-1, -1), (3, 0))],
    *[(*kind, (2, 3), 8, 4) for kind in KINDS],
    ("additive", True, (2, 1), 1, 0),
]


def case(score, relation_values, length):
    batch = builders.batch(LAYOUTS[length], length=length, missing=0.2, speakers=3, seed=4)
    return batch, project(batch.dialogue.shape, score, relation_values)


@functools.cache
def expected_of(score, relation_values, window, length):
    """What the edge-list kernel computes; shared by block sizes."""
    return attend(*case(score, relation_values, length), window, None, score)


def assert_same(found, expected, batch):
    real = np.asarray(batch.real)
    for name, where in (("message", real), ("weights", real.ravel()), ("entropy", real)):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.shape == b.shape, name
        np.testing.assert_allclose(a[where], b[where], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("score, relation_values, window, length, block", VALUES)
def test_band_is_edges(score, relation_values, window, length, block):
    batch, nodes = case(score, relation_values, length)
    found = attend(batch, nodes, window, block, score)
    assert_same(found, expected_of(score, relation_values, window, length), batch)


@pytest.mark.parametrize("score, relation_values, window, length, block", GRADIENTS)
def test_band_and_its_gradient_are_those_of_edges(score, relation_values, window, length, block):
    batch, nodes = case(score, relation_values, length)
    expected_gradient, expected = gradient(batch, nodes, window, None, score)
    found_gradient, found = gradient(batch, nodes, window, block, score)
    assert_same(found, expected, batch)
    for name in Nodes._fields:
        a, b = getattr(found_gradient, name), getattr(expected_gradient, name)
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4, err_msg=name)


# --- What both kernels keep -------------------------------------------------------------------------------------------

BLOCKS = [None, 2]  # None: the edge-list kernel


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("kind", attention.SCORES)
def test_weights_of_a_node_sum_to_one(kind, block):
    batch = conversations()
    attended = attend(batch, project((2, 7), kind, True), (2, 1), block, kind)
    np.testing.assert_allclose(attended.weights.sum(axis=1), 1, atol=1e-6)
    assert (attended.weights >= 0).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_uniform_attention_has_entropy_one(block):
    attended = attend(conversations(), project((2, 7), "uniform", True), (2, 1), block, "uniform")
    np.testing.assert_allclose(attended.entropy, 1, atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_one_sided_attention_has_entropy_zero(block):
    nodes = project((2, 7), "additive", True)
    sender = jnp.zeros_like(nodes.sender).at[0, 4].set(100.0)  # all that its dialogue then hears
    attended = attend(conversations(missing=0), nodes._replace(sender=sender), (-1, -1), block)
    np.testing.assert_allclose(attended.entropy[0, 3:], 0, atol=1e-5)
    assert (attended.entropy[0, :3] > 0.1).all()


def disturbed(nodes, where):
    """Other contributions of the nodes `where` [R, L]."""
    changed = [jnp.where(where.reshape(2, 7, *[1] * (x.ndim - 2)), 3 - 2 * x, x) for x in nodes[:3]]
    return Nodes(*changed, nodes.bias)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("kind", ["additive", "dot"])
def test_other_dialogues_and_padding_change_nothing(kind, block):
    batch, nodes = conversations(), project((2, 7), kind, True)
    own = np.zeros((2, 7), bool)
    own[0, 3:] = True  # the second dialogue of the first row
    before = attend(batch, nodes, (-1, -1), block, kind)
    after = attend(batch, disturbed(nodes, jnp.asarray(~own)), (-1, -1), block, kind)
    np.testing.assert_allclose(after.message[own], before.message[own], atol=1e-6)
    np.testing.assert_allclose(after.entropy[own], before.entropy[own], atol=1e-6)
    np.testing.assert_allclose(after.weights[own.ravel()], before.weights[own.ravel()], atol=1e-6)
    assert not np.allclose(after.message[~own], before.message[~own])


@pytest.mark.parametrize("block", BLOCKS)
def test_without_a_future_window_nothing_comes_from_the_future(block):
    batch, nodes = conversations(missing=0), project((2, 7), "additive", True)
    later = jnp.zeros((2, 7), bool).at[:, 5:].set(True)
    before, after = (attend(batch, p, (-1, 0), block) for p in (nodes, disturbed(nodes, later)))
    np.testing.assert_allclose(after.message[:, :5], before.message[:, :5], atol=1e-6)
    assert not np.allclose(after.message[0, 5:], before.message[0, 5:])


@pytest.mark.parametrize("block", BLOCKS)
def test_a_missing_utterance_hears_and_is_not_heard(block):
    batch, nodes = conversations(missing=0), project((2, 7), "additive", True)
    missing = jnp.zeros((2, 7), bool).at[0, 4].set(True)
    batch = batch.replace(present={"text": ~missing})
    before, after = (attend(batch, p, (-1, -1), block) for p in (nodes, disturbed(nodes, missing)))
    others = np.asarray(~missing)
    np.testing.assert_allclose(after.message[others], before.message[others], atol=1e-6)
    heard = before.weights[4].max(axis=1)
    assert (heard > 0).sum() == 4, "it hears its dialogue, itself included"


@pytest.mark.parametrize("block", BLOCKS)
def test_finite_where_everything_is_missing(block):
    batch = builders.batch([[1, 2], [3], []], length=7, missing=1.0)
    nodes = project((3, 7), "additive", True)
    slope, attended = gradient(batch, nodes, (2, 1), block)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((attended, slope)))
    np.testing.assert_allclose(attended.entropy[np.asarray(batch.real)], 1)  # each hears itself alone
    own = [nodes.value[0, 0, graph.RELATIONS.index("self")], attended.message[0, 0]]
    np.testing.assert_allclose(*own, atol=1e-6)

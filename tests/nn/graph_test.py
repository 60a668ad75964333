"""Packing and graphs against plain loops over dialogues."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ariigcn_jax.data import packing
from ariigcn_jax.nn import graph
from ariigcn_jax.types import PADDING, UNLABELED
from tests.support import builders

# --- Packing ----------------------------------------------------------------------------------------------------------


def realistic(seed, count=120):
    return np.random.default_rng(seed).integers(8, 111, count).tolist()


def assert_holds(corpus, chosen, layout, rows):
    """Every dialogue of `chosen` lies whole, in order and once in `rows`; all else is padding."""
    assert rows.dialogue.shape == (layout.steps * layout.rows + 1, layout.length)
    seen = []
    for row in range(len(rows.dialogue)):
        end = 0
        for number, size in enumerate(rows.n_node[row, :-1]):
            members = rows.utterance[row, end : end + size]
            if size:
                d = corpus.dialogue[members[0]]
                np.testing.assert_array_equal(members, np.flatnonzero(corpus.dialogue == d))
                seen.append(d)
            np.testing.assert_array_equal(rows.dialogue[row, end : end + size], number)
            end += size
        np.testing.assert_array_equal(rows.utterance[row, end:], PADDING)
        np.testing.assert_array_equal(rows.dialogue[row, end:], PADDING)
        assert rows.n_node[row, -1] == layout.length - end
    assert sorted(seen) == sorted(chosen)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch_size", [1, 16, 1000])
def test_every_dialogue_lies_whole_in_one_row(seed, batch_size):
    corpus = builders.corpus(realistic(seed, 40))
    layout, rows = packing.pack(corpus, "train", batch_size)
    # Steps of one row, as long as the longest dialogue, cannot be smaller without more padding.
    most = int(len(corpus) / (0.85 * np.bincount(corpus.dialogue).max()))
    assert layout.steps == min(max(1, round(40 / batch_size)), most)
    assert_holds(corpus, range(40), layout, rows)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("batch_size", [8, 16, 32])
def test_realistic_rows_are_full(seed, batch_size):
    _, rows = packing.pack(builders.corpus(realistic(seed), {"text": 1}), "train", batch_size)
    real = sum(u != PADDING for u in rows.utterance.ravel())
    share = real / rows.utterance[:-1].size
    assert share >= 0.85
    np.testing.assert_allclose(packing.fill(rows), share)


@pytest.mark.parametrize("lengths", [[5], [1], [1] * 7, [2, 9, 2]])
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_small_corpora(lengths, batch_size):
    corpus = builders.corpus(lengths)
    layout, rows = packing.pack(corpus, "train", batch_size)
    assert_holds(corpus, range(len(lengths)), layout, rows)


def test_one_dialogue_has_no_padding():
    layout, rows = packing.pack(builders.corpus([6]), "train", 16)
    assert layout == (1, 1, 6)
    assert packing.fill(rows) == 1


def test_packs_the_asked_split_alone():
    corpus = builders.corpus([3, 4, 2, 5, 3])
    corpus.split[corpus.dialogue == 1] = "valid"
    corpus.split[corpus.dialogue == 3] = "valid"
    for split, chosen in (("train", [0, 2, 4]), ("valid", [1, 3]), ("test", [])):
        layout, rows = packing.pack(corpus, split, 2)
        assert_holds(corpus, chosen, layout, rows)


def test_values_follow_their_utterance():
    corpus = builders.corpus([3, 4, 2, 6], missing=0.4, unlabeled=0.4)
    corpus.features["text"][~corpus.present["text"]] = 7.0  # what stands where a modality is missing must not pass
    _, rows = packing.pack(corpus, "train", 2)
    assert not corpus.present["text"].all() and (corpus.label == UNLABELED).any()
    for place, u in np.ndenumerate(rows.utterance):
        assert rows.label[place] == (UNLABELED if u == PADDING else corpus.label[u])
        assert rows.speaker[place] == (0 if u == PADDING else corpus.speaker[u])
        for m in corpus.modalities:
            there = u != PADDING and corpus.present[m][u]
            assert rows.present[m][place] == there
            np.testing.assert_array_equal(rows.features[m][place], corpus.features[m][u] if there else 0)
    np.testing.assert_array_equal(rows.real, rows.utterance != PADDING)


def test_last_row_is_empty_and_rows_are_numbered():
    _, rows = packing.pack(builders.corpus([4] * 9, missing=0.2), "train", 3)
    np.testing.assert_array_equal(rows.row, np.arange(len(rows.dialogue)))
    np.testing.assert_array_equal(rows.utterance[-1], PADDING)
    np.testing.assert_array_equal(rows.label[-1], UNLABELED)
    for m in rows.features:
        assert not rows.present[m][-1].any() and not rows.features[m][-1].any()


def test_dtypes_are_those_of_a_batch():
    _, rows = packing.pack(builders.corpus([3, 2]), "train", 1)
    for name in ("dialogue", "speaker", "label", "n_node", "row", "utterance"):
        assert getattr(rows, name).dtype == np.int32, name
    assert all(x.dtype == bool for x in rows.present.values())


@pytest.mark.parametrize("seed", range(3))
def test_fill_rows_uses_each_dialogue_once_and_overfills_no_row(seed):
    lengths = np.random.default_rng(seed).integers(0, 21, 50).tolist()
    rows = packing.fill_rows(lengths, 20)
    assert sorted(index for row in rows for index in row) == list(range(50))
    assert max(sum(lengths[index] for index in row) for row in rows) <= 20


# --- Long dialogues ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[1], [7], [8], [9, 3], [100, 8, 31]])
@pytest.mark.parametrize("before, after", [(0, 0), (2, 1), (0, 3)])
def test_pieces_own_every_utterance_once_and_lie_with_all_that_it_hears(lengths, before, after):
    owners = [np.zeros(n, int) for n in lengths]
    for d, first, begin, end, last in packing.pieces(lengths, 8, before, after):
        owners[d][begin:end] += 1
        assert first == max(begin - before, 0) and last == min(end + after, lengths[d])
        assert last - first <= 8
        if lengths[d] <= 8:
            assert (first, last) == (0, lengths[d])
    assert all((o == 1).all() for o in owners)


def test_nothing_is_cut_without_a_limit_or_a_window():
    corpus = builders.corpus([30, 5])
    for longest, reach in ((0, (1, 1)), (10, None)):
        layout, rows = packing.pack(corpus, "train", 1, longest, reach)
        assert_holds(corpus, [0, 1], layout, rows)


def test_context_of_a_piece_is_heard_and_not_counted():
    corpus = builders.corpus([30, 5, 4])
    ratings = np.arange(78, dtype=np.float32).reshape(39, 2)
    ratings[3] = np.nan
    corpus = dataclasses.replace(corpus, ratings=ratings)
    layout, where = packing.index(corpus, "train", 1, 10, (1, 1))
    _, rows = packing.pack(corpus, "train", 1, 10, (1, 1))
    assert layout.length <= 20
    counted = where.utterance[where.utterance != PADDING]
    assert sorted(counted) == list(range(39))
    context = (where.source != PADDING) & (where.utterance == PADDING)
    assert context.sum() > 2
    assert (rows.label[context] == UNLABELED).all()
    np.testing.assert_array_equal(rows.rated, ~np.isin(where.utterance, (PADDING, 3)))
    np.testing.assert_array_equal(rows.ratings[rows.rated], ratings[where.utterance[rows.rated]])
    assert (rows.ratings[~rows.rated] == 0).all()
    assert (rows.dialogue[context] != PADDING).all() and rows.present["text"][context].all()
    for m, x in rows.features.items():
        np.testing.assert_array_equal(x[context], corpus.features[m][where.source[context]])
    np.testing.assert_array_equal(rows.counted, where.utterance != PADDING)
    for row, number in zip(*np.nonzero(where.n_node[:, :-1]), strict=True):  # a piece goes on without a gap
        members = where.source[row][where.dialogue[row] == number]
        np.testing.assert_array_equal(np.diff(members), 1)
        assert len(set(corpus.dialogue[members])) == 1


@pytest.mark.parametrize("reach, share", [((20, 20), 0.6), (None, 0.2)])
def test_one_huge_dialogue_among_small_ones_does_not_blow_up_the_padding(reach, share):
    """Steps of 16 dialogues in rows as long as the longest would compute 30 slots for an utterance."""
    corpus = builders.corpus([20_000, *[20] * 1000], {"text": 1})
    layout, rows = packing.pack(corpus, "train", 16, 1024, reach)
    assert packing.fill(rows) >= share
    assert (layout.length <= 2048) == (reach is not None)


# --- Graphs -----------------------------------------------------------------------------------------------------------

WINDOWS = [(2, 2), (3, 1), (0, 2), (0, 0), (-1, -1), (-1, 0), (50, 50), (1, -1)]


def tiny():
    """Two rows of 7 slots, three dialogues and padding."""
    return builders.batch([[3, 4], [5]], length=7, speakers=3, seed=3)


def relation_name(batch, row, i, j):
    if i == j:
        return "self"
    same = batch.speaker[row, i] == batch.speaker[row, j]
    return f"{'same' if same else 'other'} speaker, {'past' if j < i else 'future'}"


def loop_edges(batch, past, future):
    """{(sender, receiver): relation} of the real utterances, from METHOD's words alone."""
    batch, edges = jax.device_get(batch), {}
    rows, length = batch.dialogue.shape
    for row in range(rows):
        real = [i for i in range(length) if batch.utterance[row, i] != PADDING]
        for i in real:
            for j in real:
                before, after = i - j, j - i
                near = (past == -1 or before <= past) and (future == -1 or after <= future)
                if near and batch.dialogue[row, i] == batch.dialogue[row, j]:
                    edges[row * length + j, row * length + i] = relation_name(batch, row, i, j)
    return edges


def unmasked(g):
    """{(sender, receiver): relation} of the graph's edges that count, between real utterances."""
    g, kept = jax.device_get(g), {}
    for s, r, k, m in zip(g.senders, g.receivers, g.edges["relation"], g.edges["mask"], strict=True):
        if m and g.nodes["real"][r]:
            assert (int(s), int(r)) not in kept, "an edge twice"
            kept[int(s), int(r)] = graph.RELATIONS[int(k)]
    return kept


@pytest.mark.parametrize("past, future", WINDOWS)
def test_edges_are_those_of_a_loop(past, future):
    batch = tiny()
    assert unmasked(graph.conversation_graph(batch, past, future)) == loop_edges(batch, past, future)


@pytest.mark.parametrize("past, future", WINDOWS)
def test_graph_keeps_jraphs_invariants(past, future):
    batch = tiny()
    g = graph.conversation_graph(batch, past, future)
    senders, receivers, n_node, n_edge = (np.asarray(x) for x in (g.senders, g.receivers, g.n_node, g.n_edge))
    assert {x.dtype for x in (senders, receivers, n_node, n_edge)} == {np.dtype(np.int32)}
    assert n_node.sum() == batch.dialogue.size == len(g.nodes["real"])
    assert n_edge.sum() == len(senders) == len(receivers) == len(g.edges["mask"])
    assert (np.diff(receivers) >= 0).all()
    node = edge = 0  # jraph: each graph owns the next n_node nodes and n_edge edges
    for nodes, edges in zip(n_node, n_edge, strict=True):
        for ends in (senders, receivers):
            own = ends[edge : edge + edges]
            assert ((own >= node) & (own < node + nodes)).all()
        node, edge = node + nodes, edge + edges


@pytest.mark.parametrize(
    "layers, past, future, context, expected",
    [
        (2, 3, 1, "none", (6, 2)),
        (2, 0, 4, "none", (0, 8)),
        (2, -1, 1, "none", None),
        (2, 1, -1, "none", None),
        (0, 3, 1, "none", (0, 0)),
        (0, -1, -1, "none", (0, 0)),
        (0, 3, 1, "gru", None),
        (2, 3, 1, "speaker", None),
    ],
)
def test_reach_is_all_layers_windows_or_the_whole_dialogue(layers, past, future, context, expected):
    options = ConfigDict({"context": context, "graph": {"layers": layers, "past": past, "future": future}})
    assert graph.reach(options) == expected
    assert graph.attended(options.graph) == ((past, future) if layers else (0, 0))


def test_masked_slots_are_self_loops():
    g = graph.conversation_graph(tiny(), 2, 3)
    masked = ~np.asarray(g.edges["mask"])
    assert masked.any()
    np.testing.assert_array_equal(np.asarray(g.senders)[masked], np.asarray(g.receivers)[masked])


def test_edge_slots_are_places_of_the_window():
    past, future = 2, 1
    g = jax.device_get(graph.conversation_graph(tiny(), past, future))
    width = past + 1 + future
    for e in range(len(g.senders)):
        assert g.receivers[e] == e // width
        if g.edges["mask"][e]:
            assert g.senders[e] == e // width + e % width - past


def test_nodes_carry_their_utterance():
    batch = tiny()
    nodes = jax.device_get(graph.conversation_graph(batch, 1, 1).nodes)
    for n, (row, slot) in enumerate(np.ndindex(*batch.dialogue.shape)):
        assert nodes["dialogue"][n] == batch.dialogue[row, slot]
        assert nodes["speaker"][n] == batch.speaker[row, slot]
        assert nodes["real"][n] == (batch.utterance[row, slot] != PADDING)


def test_one_utterance():
    g = graph.conversation_graph(builders.batch([[1]]), 10, -1)
    assert g.senders.tolist() == g.receivers.tolist() == [0]
    assert g.edges["mask"].tolist() == [True]
    assert graph.RELATIONS[int(g.edges["relation"][0])] == "self"


def test_graph_of_packed_rows():
    """What pack makes is what conversation_graph needs, the empty row included."""
    corpus = builders.corpus([3, 1, 4, 2])
    _, rows = packing.pack(corpus, "train", 2)
    g = graph.conversation_graph(rows, 1, 2)
    edges = unmasked(g)
    assert edges == loop_edges(rows, 1, 2)
    assert len(edges) == sum(min(i, 1) + 1 + min(n - 1 - i, 2) for n in (3, 1, 4, 2) for i in range(n))


def test_a_missing_utterance_is_heard_by_itself_alone():
    batch = builders.batch([[3, 4], [5]], length=7, missing=0.5, seed=2)
    shared = graph.conversation_graph(batch, 2, 1)
    present = np.asarray(batch.present["audio"]).reshape(-1)
    hidden = jnp.arange(28.0).reshape(14, 2)
    g = graph.modality_graph(shared, hidden, batch.present["audio"].reshape(-1))
    expected = {e: r for e, r in loop_edges(batch, 2, 1).items() if present[e[0]] or e[0] == e[1]}
    assert unmasked(g) == expected
    assert len(expected) < len(loop_edges(batch, 2, 1))
    np.testing.assert_array_equal(g.nodes["hidden"], hidden)
    np.testing.assert_array_equal(g.nodes["present"], present)
    np.testing.assert_array_equal(g.nodes["speaker"], shared.nodes["speaker"])
    np.testing.assert_array_equal(g.n_edge, shared.n_edge)


# --- What we use of jraph ---------------------------------------------------------------------------------------------


def test_jraphs_segment_functions_against_loops():
    g = graph.conversation_graph(tiny(), 2, 1)
    receivers, nodes = np.asarray(g.receivers), len(g.nodes["real"])
    x = np.random.default_rng(0).normal(size=(len(receivers), 2)).astype(np.float32) * 30
    softmax, total = np.zeros_like(x), np.zeros((nodes, 2))
    for n in range(nodes):
        mine = [e for e in range(len(receivers)) if receivers[e] == n]
        for h in range(2):
            powers = [np.exp(np.float64(x[e, h]) - max(x[k, h] for k in mine)) for e in mine]
            softmax[mine, h] = np.array(powers) / sum(powers)
            total[n, h] = sum(np.float64(x[e, h]) for e in mine)
    np.testing.assert_allclose(graph.segment_softmax(jnp.asarray(x), g.receivers, nodes), softmax, atol=1e-6)
    np.testing.assert_allclose(graph.segment_sum(jnp.asarray(x), g.receivers, nodes), total, atol=1e-4)


def test_one_module_imports_jraph():
    root = Path(graph.__file__).resolve().parents[2]
    files = [path for folder in ("ariigcn_jax", "experiments", "tools") for path in (root / folder).rglob("*.py")]
    assert [p.name for p in files if re.search(r"^\s*(import|from) jraph", p.read_text(), re.M)] == ["graph.py"]

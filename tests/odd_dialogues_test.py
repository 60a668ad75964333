"""Conversations that are unlike IEMOCAP's: through reading, packing, the graph and an epoch of training."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.data import packing, prepare
from ariigcn_jax.data.readers import folder
from ariigcn_jax.nn import graph
from ariigcn_jax.training import build
from ariigcn_jax.types import PADDING, UNLABELED
from tests.runs.runner_test import tiny
from tests.support.layout_files import conversations

pytestmark = pytest.mark.usefixtures("quick_compilation")


def generated(**options):
    return conversations(classes=3, **({"valid": 0.25, "test": 0.25} | options))


def one_epoch(corpus, **changes):
    """The experiment after one epoch, and what it says of the test split; all that training holds must be finite."""
    config = tiny({"num_epochs": 1, **changes})
    prepared, _ = prepare.standardise(corpus)
    experiment = build.make(config, prepared)
    state, logs = experiment.epoch(experiment.init(0), experiment.data["train"].rows)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, logs)))
    outcome = experiment.evaluation("test", state.params)(state.params, experiment.data["test"])
    assert np.isfinite(outcome["probabilities"]).all()
    return experiment, outcome


def through_the_disk(corpus, place):
    return corpora.load(folder.write(corpus, place / "made"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """One utterance; one speaker; 11 speakers; no words at all; many utterances, and all of a dialogue, unlabelled."""
    parts = [
        generated(dialogues=12, utterances=(1, 1), seed=1),
        generated(dialogues=8, speakers=1, seed=2),
        generated(dialogues=8, speakers=11, utterances=(25, 30), seed=3),
    ]
    corpus = functools.reduce(joined, parts)
    hidden = np.random.default_rng(0).random(len(corpus)) < 0.4
    first = corpus.dialogue == 12
    corpus = dataclasses.replace(
        corpus,
        label=np.where(hidden | first, UNLABELED, corpus.label).astype(np.int32),
        transcript=np.full(len(corpus), ""),
    )
    return through_the_disk(corpus, tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def trained(odd):
    """One compilation for all of them, with a speaker embedding that has fewer rows than there are speakers."""
    return one_epoch(odd, **{"model.speakers": 2, "losses.adversarial.weight": 0.0, "losses.imcl.weight": 0.0})


def test_odd_dialogues_are_what_they_should_be(odd):
    lengths = np.bincount(odd.dialogue)
    speakers = [len(set(odd.speaker[odd.dialogue == d].tolist())) for d in range(len(lengths))]
    assert (lengths == 1).sum() >= 12 and speakers[12:20] == [1] * 8 and max(speakers) >= 9
    assert (odd.label[odd.dialogue == 12] == UNLABELED).all()
    assert set(odd.transcript.tolist()) == {""}


def test_unlabelled_utterances_are_not_measured(odd, trained):
    tested = (odd.split == "test") & (odd.label != UNLABELED)
    assert np.asarray(trained[1]["confusion"]).sum() == tested.sum() < (odd.split == "test").sum()


def test_unlabelled_utterances_are_heard(odd, trained):
    batch = jax.tree.map(np.asarray, trained[0].data["train"].rows)
    hidden = (batch.utterance != PADDING) & (batch.label == UNLABELED)
    assert hidden.sum() == ((odd.split == "train") & (odd.label == UNLABELED)).sum() > 0
    made = graph.conversation_graph(trained[0].data["train"].rows, 2, 2)
    receivers, senders = np.asarray(made.receivers), np.asarray(made.senders)
    heard = senders[np.asarray(made.edges["mask"]) & (senders != receivers)]
    alone = np.bincount(odd.dialogue)[odd.dialogue[np.maximum(batch.utterance, 0)]] == 1
    assert np.isin(np.flatnonzero((hidden & ~alone).reshape(-1)), heard).all()


def test_every_utterance_is_in_the_graph_once(odd, trained):
    for split, feed in trained[0].data.items():
        utterance = np.asarray(feed.rows.utterance)
        np.testing.assert_array_equal(np.sort(utterance[utterance != PADDING]), np.flatnonzero(odd.split == split))


def test_utterances_that_overlap_in_time(tmp_path):
    """Sorted by their start, equal ones as they come; every row is kept and packed."""
    lines = ["dialogue_id,start,end,speaker,label,text_0,text_1,split"]
    for d, split in enumerate(["train"] * 6 + ["valid", "test"]):
        for u, start in enumerate((3.0, 0.0, 0.0, 2.9)):
            lines.append(f"d{d},{start},{start + 5},{'XYZ'[u % 3]},{u % 2},{u},{d + u},{split}")
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    corpus = corpora.load(tmp_path / "mine.csv")
    assert corpus.features["text"][:4, 0].tolist() == [1, 2, 3, 0]
    _, batch = packing.pack(corpus, "train", 2)
    assert np.isin(np.flatnonzero(corpus.split == "train"), batch.utterance).all()


@pytest.mark.slow
def test_dialogue_of_10000_utterances(tmp_path):
    """Linear in the dialogue's length but for the contrast terms, which compare all pairs of a batch."""
    short = generated(dialogues=12, utterances=(3, 5))
    long = generated(dialogues=4, utterances=(10_000, 10_000), seed=1)
    corpus = through_the_disk(joined(short, long), tmp_path)
    assert np.bincount(corpus.dialogue).max() == 10_000
    weights = {"losses.iccl.weight": 0.0, "losses.imcl.weight": 0.0, "model.graph.block": 16}
    experiment, outcome = one_epoch(corpus, **weights)
    assert experiment.layout["train"].length >= 10_000
    assert np.asarray(outcome["confusion"]).sum() == (corpus.split == "test").sum()


def test_10000_utterances_pack_without_loss(tmp_path):
    long = through_the_disk(generated(dialogues=4, utterances=(10_000, 10_000)), tmp_path)
    layout, batch = packing.pack(long, "train", 2)
    placed = batch.utterance[batch.utterance != PADDING]
    np.testing.assert_array_equal(np.sort(placed), np.flatnonzero(long.split == "train"))
    assert layout.length == 10_000


def joined(one, other):
    """Two corpora as one."""
    both = {
        f: np.concatenate([getattr(one, f), getattr(other, f)]) for f in ("label", "split", "speaker", "transcript")
    }
    return dataclasses.replace(
        one,
        features={m: np.concatenate([one.features[m], other.features[m]]) for m in one.features},
        present={m: np.concatenate([one.present[m], other.present[m]]) for m in one.present},
        dialogue=np.concatenate([one.dialogue, other.dialogue + len(one.dialogue_ids)]),
        dialogue_ids=(*one.dialogue_ids, *(f"{len(one)} {d}" for d in other.dialogue_ids)),
        utterance_ids=(*one.utterance_ids, *(f"{len(one)} {u}" for u in other.utterance_ids)),
        speaker_names=np.concatenate([one.speaker_names, other.speaker_names]),
        **both,
    )

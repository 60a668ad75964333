"""Conversations that are unlike IEMOCAP's: through reading, packing, the graph and an epoch of training."""

import dataclasses

import jax
import numpy as np
import pytest
from layout_files import conversations
from runner_test import tiny

from ariigcn_jax import corpus as corpora
from ariigcn_jax import graph, runner, train
from ariigcn_jax.corpus import columnar
from ariigcn_jax.types import PADDING, UNLABELED


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def generated(**options):
    made = conversations(classes=3, valid=0.25, test=0.25, **options)
    return made


def one_epoch(corpus, **changes):
    """Mean loss of one epoch; everything that training holds must be finite after it."""
    config = tiny({"num_epochs": 1, **changes})
    prepared, _ = runner.prepare(corpus)
    experiment = train.make(config, prepared)
    state, logs = experiment.epoch(experiment.init(0), experiment.data["train"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, logs)))
    outcome = experiment.evaluation("test", state.params)(state.params, experiment.data["test"])
    assert np.isfinite(outcome["probabilities"]).all()
    return experiment, {name: float(value) for name, value in logs.items()}, outcome


def through_the_disk(corpus, tmp_path):
    return corpora.load(columnar.write(corpus, tmp_path / "made"))


def test_dialogues_of_one_utterance(tmp_path):
    corpus = through_the_disk(generated(dialogues=16, utterances=(1, 1)), tmp_path)
    assert len(corpus.dialogue_ids) == len(corpus)
    one_epoch(corpus)


def test_one_speaker(tmp_path):
    corpus = through_the_disk(generated(dialogues=12, speakers=1), tmp_path)
    assert corpus.speaker.max() == 0
    one_epoch(corpus)


def test_eleven_speakers_and_more_than_the_embedding_has(tmp_path):
    corpus = through_the_disk(generated(dialogues=8, speakers=11, utterances=(20, 30)), tmp_path)
    assert corpus.speaker.max() >= 9
    one_epoch(corpus, **{"model.speakers": 2})


def test_empty_transcripts(tmp_path):
    made = generated(dialogues=8)
    made = dataclasses.replace(made, transcript=np.full(len(made), ""))
    corpus = through_the_disk(made, tmp_path)
    assert set(corpus.transcript.tolist()) == {""}
    one_epoch(corpus)


def test_unlabeled_utterances_are_context_only(tmp_path):
    """In the graph, not in the loss and not in the confusion matrix."""
    made = generated(dialogues=16, utterances=(6, 8))
    hidden = np.random.default_rng(0).random(len(made)) < 0.4
    corpus = through_the_disk(dataclasses.replace(made, label=np.where(hidden, UNLABELED, made.label)), tmp_path)
    experiment, _, outcome = one_epoch(corpus)
    tested = (corpus.split == "test") & (corpus.label != UNLABELED)
    assert np.asarray(outcome["confusion"]).sum() == tested.sum() < (corpus.split == "test").sum()
    batch = jax.tree.map(np.asarray, experiment.data["train"])
    hidden_here = (batch.utterance != PADDING) & (batch.label == UNLABELED)
    assert hidden_here.sum() == ((corpus.split == "train") & (corpus.label == UNLABELED)).sum() > 0
    made_graph = graph.conversation_graph(experiment.data["train"], 2, 2)
    heard = np.asarray(made_graph.senders)[np.asarray(made_graph.edges["mask"])]
    assert np.isin(np.flatnonzero(hidden_here.reshape(-1)), heard).all()


def test_dialogue_without_any_label(tmp_path):
    made = generated(dialogues=12)
    label = np.where(made.dialogue == 0, UNLABELED, made.label)
    one_epoch(through_the_disk(dataclasses.replace(made, label=label), tmp_path))


def test_utterances_that_overlap_in_time(tmp_path):
    """Equal and reversed starts: sorted by start, equal ones as they come; every row is kept."""
    lines = ["dialogue_id,start,end,speaker,label,text_0,text_1,split"]
    for d, split in enumerate(["train"] * 6 + ["valid", "test"]):
        for u, start in enumerate((3.0, 0.0, 0.0, 2.9)):
            lines.append(f"d{d},{start},{start + 5},{'XYZ'[u % 3]},{u % 2},{u},{d + u},{split}")
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    corpus = corpora.load(tmp_path / "mine.csv")
    assert corpus.features["text"][:4, 0].tolist() == [1, 2, 3, 0]
    one_epoch(corpus)


@pytest.mark.slow
def test_dialogue_of_10000_utterances(tmp_path):
    """Linear in the dialogue's length but for the contrast terms, which compare all pairs of a batch."""
    short = generated(dialogues=12, utterances=(3, 5))
    long = generated(dialogues=4, utterances=(10_000, 10_000), seed=1)
    corpus = through_the_disk(joined(short, long), tmp_path)
    assert np.bincount(corpus.dialogue).max() == 10_000
    weights = {"losses.iccl.weight": 0.0, "losses.imcl.weight": 0.0, "model.graph.block": 16}
    experiment, _, outcome = one_epoch(corpus, **weights)
    assert experiment.layout["train"].length >= 10_000
    assert np.asarray(outcome["confusion"]).sum() == (corpus.split == "test").sum()


def test_10000_utterances_pack_without_loss(tmp_path):
    long = through_the_disk(generated(dialogues=4, utterances=(10_000, 10_000)), tmp_path)
    layout, batch = graph.pack(long, "train", 2)
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
        dialogue_ids=(*one.dialogue_ids, *(f"long {d}" for d in other.dialogue_ids)),
        utterance_ids=(*one.utterance_ids, *(f"long {u}" for u in other.utterance_ids)),
        speaker_names=np.concatenate([one.speaker_names, other.speaker_names]),
        **both,
    )

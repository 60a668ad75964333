"""What is found in a corpus that has a fault put in, and nothing of the kind in one that has not."""

import dataclasses

import numpy as np
import pytest

from ariigcn_jax.data import quality, synthetic
from ariigcn_jax.types import UNLABELED
from tests.support.layout_files import conversations


def clean(**options):
    made = conversations(**({"dialogues": 40, "classes": 3, "separation": 6.0, "noise": 0.3} | options))
    names = np.array([f"{split} {name}" for split, name in zip(made.split, made.speaker_names, strict=True)])
    return dataclasses.replace(made, speaker_names=names)


def changed(corpus, **arrays):
    return dataclasses.replace(corpus, **arrays)


def found(corpus):
    return quality.examine(corpus).findings


def with_features(corpus, modality, edit):
    features = {m: x.copy() for m, x in corpus.features.items()}
    edit(features[modality])
    return changed(corpus, features=features)


def test_clean_corpus():
    assert found(clean()) == ()


def test_counts():
    made = clean()
    report = quality.examine(made)
    head, *rows = report.tables["Splits"]
    by_name = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    for split in ("train", "valid", "test"):
        chosen = made.split == split
        assert by_name[split]["utterances"] == str(chosen.sum())
        assert by_name[split]["dialogues"] == str(len(set(made.dialogue[chosen].tolist())))
    _, *rows = report.tables["Labels (share of the labelled utterances)"]
    for c, row in enumerate(rows):
        assert row[0] == made.label_names[c]
        assert row[1] == str(((made.split == "train") & (made.label == c)).sum())
    lines = report.text().splitlines()
    assert lines[0] == "Splits" and lines[-1] == "  nothing"
    assert len({len(line) for line in lines[1:6]}) == 1


def test_features_that_were_made_with_the_train_labels():
    def leak(x):
        x[train] += 8 * np.eye(x.shape[1])[made.label[train]]

    made = clean(dialogues=60, separation=1.0, utterances=(8, 12))
    train = made.split == "train"
    (finding,) = [f for f in found(with_features(made, made.modalities[0], leak)) if "made with" in f]
    assert finding.startswith(f"{made.modalities[0]}: ") and "test spreads 0." in finding
    assert not any("made with" in f for f in found(made))


def test_each_of_several_labels_is_counted():
    made = conversations(dialogues=20, classes=3, task="multilabel")
    target, train = np.tile(np.float32([1, 0]), (len(made), 1)), np.flatnonzero(made.split == "train")
    target[train[:2]] = [[1, 1], [0, 0]]
    report = quality.examine(changed(made, target=target, label_names=("Joy", "joy", "none")))
    rows, number = report.tables["Labels (share of the labelled utterances)"][1:], len(train)
    assert [row[1] for row in rows] == [str(number - 1), "1", "1"]
    assert rows[0][2] == f"{100 * (number - 1) / number:.1f}"
    assert f"the classes are unbalanced: joy has 1 train utterances and Joy {number - 1}" in report.findings
    assert "Joy, joy may be one class" in report.findings


def test_unlabelled_and_silent_are_counted():
    made = clean()
    label, words = made.label.copy(), made.transcript.astype(object)
    label[:3], words[:2] = UNLABELED, " "
    head, *rows = quality.examine(changed(made, label=label, transcript=words)).tables["Splits"]
    everything = dict(zip(head, rows[-1], strict=True))
    assert (everything["unlabelled"], everything["no words"]) == ("3", "2")


def rows_of(corpus, split):
    return np.flatnonzero(corpus.split == split)


def same_words(corpus):
    words = corpus.transcript.copy()
    words[rows_of(corpus, "test")[0]] = words[rows_of(corpus, "train")[0]]
    return changed(corpus, transcript=words)


def same_words_other_label(corpus):
    one = rows_of(corpus, "train")[0]
    other = next(u for u in rows_of(corpus, "train") if corpus.label[u] != corpus.label[one])
    words = corpus.transcript.copy()
    words[other] = words[one]
    return changed(corpus, transcript=words)


def copied_dialogue(corpus):
    d, e = corpus.dialogue[rows_of(corpus, "train")[0]], corpus.dialogue[rows_of(corpus, "test")[0]]
    one, other = (np.flatnonzero(corpus.dialogue == k) for k in (d, e))
    words, count = corpus.transcript.copy(), min(len(one), len(other))
    words[other[:count]] = words[one[:count]]
    return changed(corpus, transcript=words)


def uneven_gaps(corpus):
    present = {m: x.copy() for m, x in corpus.present.items()}
    present["audio"][corpus.label == 1] = False
    return changed(corpus, present=present)


def wrong_label(corpus):
    label = corpus.label.copy()
    one = rows_of(corpus, "train")[5]
    label[one] = (label[one] + 1) % 3
    return changed(corpus, label=label)


def shuffled(corpus):
    order = np.random.default_rng(0).permutation(len(corpus))
    return changed(corpus, features={m: x[order] for m, x in corpus.features.items()})


FAULTS = {
    "visual: 1 of 3 features are constant in train": lambda c: with_features(
        c, "visual", lambda x: x.__setitem__((slice(None), 1), 7)
    ),
    "audio: some features have long tails (kurtosis above 10)": lambda c: with_features(
        c, "audio", lambda x: x.__setitem__((slice(None), 1), np.exp(3 * x[:, 1]))
    ),
    "text: unscaled": lambda c: with_features(c, "text", lambda x: x.__setitem__((slice(None), 2), x[:, 2] * 1e5)),
    "1 of 1 speakers of test are in train too (X)": lambda c: changed(c, speaker_names=np.full(len(c), "X")),
    "1 group of them in several splits, 1 test utterances seen in train": same_words,
    "label noise: 1 of 1 groups of utterances with the same words have different labels": same_words_other_label,
    "1 pair of dialogues in different splits are copies": copied_dialogue,
    "and unevenly": uneven_gaps,
    "have a label that at least 9 of their 10 nearest neighbours contradict": wrong_label,
    "features that do not tell the classes apart": shuffled,
    "no test utterance is labelled emotion_1": lambda c: changed(
        c, label=np.where((c.split == "test") & (c.label == 1), 0, c.label)
    ),
    'emotion_0, Emotion 0 may be one class; --config.data.relabel="Emotion 0=emotion_0" makes them one': lambda c: (
        changed(c, label_names=("emotion_0", "Emotion 0", "emotion_2"))
    ),
    "there is no test split": lambda c: changed(c, split=np.where(c.split == "test", "train", c.split)),
    "every dialogue has one utterance": lambda c: changed(
        c, dialogue=np.arange(len(c)), dialogue_ids=c.utterance_ids, transcript=None
    ),
}


@pytest.mark.parametrize("words", FAULTS)
def test_fault_is_found(words):
    assert any(words in finding for finding in found(FAULTS[words](clean()))), found(FAULTS[words](clean()))


def test_rare_class():
    made = clean(dialogues=200, imbalance=0.85)
    assert any("the classes are unbalanced: emotion_2" in f for f in found(made))


def test_small_and_memory_mapped_corpora_are_looked_at_too(tmp_path):
    from ariigcn_jax.data import load
    from ariigcn_jax.data.readers import folder

    small = clean(dialogues=3, utterances=(1, 1), valid=0.3, test=0.3)
    assert quality.examine(load(folder.write(small, tmp_path / "made"))).text()


def test_directions_are_those_that_the_means_differ_in():
    on_a_line = np.array([[0, 0, 0], [1, 1, 0], [2, 2, 0], [9, 9, 9]], np.float64)
    (axis,) = quality.directions(on_a_line, np.array([0, 1, 2, UNLABELED]))
    np.testing.assert_allclose(np.abs(axis), [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-12)
    assert quality.directions(np.ones((4, 3)), np.array([0, 1, 0, 1])).shape == (0, 3)
    assert quality.directions(on_a_line, np.zeros(4, int)).shape == (0, 3)


def test_test_is_narrower_where_train_was_told_its_labels():
    made = synthetic.generate(dialogues=120, utterances=(8, 12), classes=2, separation=1.0, missing=0.1)
    name, told = made.modalities[0], made.split != "test"
    known = made.present[name] & told & (made.label != UNLABELED)
    assert quality.relative_width(made, name, known) == pytest.approx(1, abs=0.1)
    x = made.features[name].copy()
    x[told] += 6 * np.eye(x.shape[1])[made.label[told]]
    leaky = dataclasses.replace(made, features={**made.features, name: x})
    assert quality.relative_width(leaky, name, known) < 0.9
    # though 400 directions fit the labels of their own rows
    noise = np.random.default_rng(0).normal(size=(len(made), 400)).astype(np.float32)
    wide = dataclasses.replace(made, features={**made.features, name: noise})
    assert quality.relative_width(wide, name, known) == pytest.approx(1, abs=0.1)
    assert quality.relative_width(made, name, np.zeros(len(made), bool)) == 1

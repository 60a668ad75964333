"""Generated conversations have the structure that they are said to have."""

import numpy as np
import pytest

from ariigcn_jax.data import generate
from ariigcn_jax.types import UserError

WIDTHS = {"text": 48, "audio": 24, "visual": 16}


def balanced_accuracy(features, corpus):
    """Of a linear classifier with a bias, fitted by least squares on train, on test."""
    x = np.hstack([features, np.ones((len(corpus), 1))])
    train, test = corpus.split == "train", corpus.split == "test"
    weights = np.linalg.lstsq(x[train], np.eye(corpus.num_classes)[corpus.label[train]], rcond=None)[0]
    right = (x[test] @ weights).argmax(1) == corpus.label[test]
    return np.mean([right[corpus.label[test] == c].mean() for c in range(corpus.num_classes)])


def pairs(corpus, own):
    """Emotions of each turn and of the last one of the same speaker, or of the last one of another speaker."""
    found = []
    for i in range(len(corpus)):
        for j in range(i - 1, -1, -1):
            if corpus.dialogue[j] != corpus.dialogue[i]:
                break
            if (corpus.speaker[j] == corpus.speaker[i]) == own:
                found.append((corpus.label[i], corpus.label[j]))
                break
    return np.array(found)


def test_fields_fit_together():
    corpus = generate(dialogues=20, utterances=(3, 7), speakers=3, missing=0.3)
    u = len(corpus)
    assert corpus.widths == WIDTHS
    assert all(x.shape == (u, WIDTHS[m]) and x.dtype == np.float32 for m, x in corpus.features.items())
    assert all(np.isfinite(x).all() for x in corpus.features.values())
    assert corpus.speaker.shape == corpus.label.shape == corpus.split.shape == corpus.speaker_names.shape == (u,)
    assert {a.dtype for a in (corpus.dialogue, corpus.speaker, corpus.label)} == {np.dtype(np.int32)}
    assert len(set(corpus.utterance_ids)) == u and len(corpus.dialogue_ids) == 20
    lengths = np.bincount(corpus.dialogue)
    assert set(lengths) == {3, 4, 5, 6, 7}
    assert (np.diff(corpus.dialogue) >= 0).all()
    assert corpus.label_names == ("emotion_0", "emotion_1", "emotion_2", "emotion_3")


def test_speakers_are_numbered_by_first_appearance():
    corpus = generate(dialogues=30, utterances=(1, 12), speakers=4)
    for d in range(30):
        speakers = corpus.speaker[corpus.dialogue == d].tolist()
        assert list(dict.fromkeys(speakers)) == list(range(len(set(speakers))))
    assert set(corpus.speaker) == {0, 1, 2, 3}


def test_splits_are_whole_dialogues_of_the_shares_asked_for():
    corpus = generate(dialogues=40, utterances=(2, 4), valid=0.15, test=0.2)
    owners = {s: set(corpus.dialogue[corpus.split == s]) for s in ("train", "valid", "test")}
    assert {s: len(d) for s, d in owners.items()} == {"train": 26, "valid": 6, "test": 8}
    assert len(set.union(*owners.values())) == 40


def test_same_seed_same_corpus():
    first, second, other = (generate(seed=s, dialogues=5) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.label, second.label)
    for modality in WIDTHS:
        np.testing.assert_array_equal(first.features[modality], second.features[modality])
    assert len(other) != len(first) or (other.label != first.label).any()


def test_missing_rate_changes_nothing_else():
    full, gaps = generate(dialogues=30), generate(dialogues=30, missing=0.3)
    np.testing.assert_array_equal(full.label, gaps.label)
    assert all(mask.all() for mask in full.present.values())
    for modality, mask in gaps.present.items():
        assert mask.mean() == pytest.approx(0.7, abs=0.06)
        np.testing.assert_array_equal(gaps.features[modality], full.features[modality] * mask[:, None])
    assert (gaps.present["text"] != gaps.present["audio"]).any()


def test_inertia_and_contagion_are_the_rates_of_repeats():
    # A fresh draw, of 4 equally likely classes, repeats by chance a quarter of the time.
    settings = dict(dialogues=150, imbalance=0.0)
    own = pairs(generate(inertia=0.6, contagion=0.0, **settings), own=True)
    assert np.mean(own[:, 0] == own[:, 1]) == pytest.approx(0.6 + 0.4 / 4, abs=0.03)
    for speakers in (2, 3):
        other = pairs(generate(inertia=0.0, contagion=0.6, speakers=speakers, **settings), own=False)
        assert np.mean(other[:, 0] == other[:, 1]) == pytest.approx(0.6 + 0.4 / 4, abs=0.03)
    neither = generate(inertia=0.0, contagion=0.0, **settings)
    for found in (pairs(neither, own=True), pairs(neither, own=False)):
        assert np.mean(found[:, 0] == found[:, 1]) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("speakers", [2, 3])
def test_another_one_speaks_next_four_times_in_five(speakers):
    corpus = generate(speakers=speakers)
    same = corpus.dialogue[1:] == corpus.dialogue[:-1]
    assert np.mean(corpus.speaker[1:][same] != corpus.speaker[:-1][same]) == pytest.approx(0.8, abs=0.03)


def test_imbalance():
    shares = [np.bincount(generate(dialogues=150, imbalance=i, inertia=0.0, contagion=0.0).label) for i in (0.0, 0.5)]
    assert shares[0] / shares[0].sum() == pytest.approx([0.25] * 4, abs=0.03)
    assert shares[1] / shares[1].sum() == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15], abs=0.03)


def test_modalities_complement_each_other():
    corpus = generate(separation=4.0, imbalance=0.0)
    alone = [balanced_accuracy(x, corpus) for x in corpus.features.values()]
    together = balanced_accuracy(np.hstack(list(corpus.features.values())), corpus)
    assert max(alone) < 0.85
    assert min(alone) > 0.35
    assert together > max(alone) + 0.1


def test_context_helps():
    corpus = generate(separation=1.5, inertia=0.7, contagion=0.2)
    features = np.hstack(list(corpus.features.values()))
    same = corpus.dialogue[1:] == corpus.dialogue[:-1]
    before, after = np.zeros_like(features), np.zeros_like(features)
    before[1:], after[:-1] = features[:-1] * same[:, None], features[1:] * same[:, None]
    context = balanced_accuracy(np.hstack([features, before, after]), corpus)
    assert context > balanced_accuracy(features, corpus) + 0.03


def test_no_separation_leaves_nothing_to_learn():
    corpus = generate(separation=0.0, imbalance=0.0, inertia=0.0, contagion=0.0)
    assert balanced_accuracy(np.hstack(list(corpus.features.values())), corpus) == pytest.approx(0.25, abs=0.07)


def test_no_noise_leaves_one_point_a_class():
    corpus = generate(noise=0.0, dialogues=10, classes=3)
    # Modality i of 3 shows class i alone and puts the other two in one place.
    for i, x in enumerate(corpus.features.values()):
        points = [np.unique(x[corpus.label == c], axis=0) for c in range(3)]
        assert [len(p) for p in points] == [1, 1, 1]
        hidden = [c for c in range(3) if c != i]
        np.testing.assert_array_equal(points[hidden[0]], points[hidden[1]])
        assert (points[i] != points[hidden[0]]).any()


def common(**changes):
    """Views of one space of the same width, noiseless unless told."""
    return generate(**dict(common=True, widths=dict.fromkeys("abc", 12), noise=0.0, warp=0.0, shared=1.0) | changes)


def test_common_space_without_differences_is_the_same_features():
    corpus = common(dialogues=20)
    for modality in "bc":
        np.testing.assert_array_equal(corpus.features["a"], corpus.features[modality])


@pytest.mark.parametrize("rotation", [0.0, 0.25, 0.5, 1.0])
def test_rotation_turns_latent_vectors_by_its_angle(rotation):
    """Eight latent dimensions seen through twelve features; the map is undone with what rotation 0 shows."""
    plain, turned = common(), common(rotation=rotation)
    np.testing.assert_array_equal(plain.features["a"], turned.features["a"])
    # the Gram matrix of the map, from which lengths and angles in latent space follow, is that of the noise
    noisy = common(noise=1.0, separation=0.0, dialogues=400, warp=0.0)
    metric = np.linalg.pinv(np.cov(noisy.features["a"].T, bias=True), rcond=0.02, hermitian=True)
    for modality in "bc":
        x, y = plain.features[modality].astype(float), turned.features[modality].astype(float)
        dot = np.einsum("ui,ij,uj->u", x, metric, y)
        length = [np.sqrt(np.einsum("ui,ij,uj->u", v, metric, v)) for v in (x, y)]
        np.testing.assert_allclose(dot / (length[0] * length[1]), np.cos(rotation * np.pi / 2), atol=0.1)
        np.testing.assert_allclose(length[0], length[1], rtol=0.1)


def test_shift_displaces_every_utterance_alike_but_not_in_the_first_modality():
    plain, moved, further = common(), common(shift=1.0), common(shift=2.0)
    np.testing.assert_array_equal(plain.features["a"], moved.features["a"])
    step = moved.features["b"] - plain.features["b"]
    np.testing.assert_allclose(step, np.broadcast_to(step[0], step.shape), atol=1e-5)
    assert np.abs(step[0]).max() > 0.1
    np.testing.assert_allclose(further.features["b"] - plain.features["b"], 2 * step, atol=1e-5)


def test_warp_differs_between_views_of_a_common_space():
    plain, warped = common().features["a"], common(warp=0.7)
    for modality, form in (("a", np.tanh), ("b", lambda y: np.sin(2 * y)), ("c", lambda y: np.abs(y) - 1)):
        np.testing.assert_allclose(warped.features[modality], plain + 0.7 * form(plain), atol=1e-5)


def test_shared_classes_let_every_modality_tell_all_apart():
    scores = [
        [balanced_accuracy(x, corpus) for x in corpus.features.values()]
        for corpus in (generate(shared=s, separation=4.0, imbalance=0.0) for s in (0.0, 0.5, 1.0))
    ]
    assert max(scores[0]) < 0.85 and min(scores[2]) > 0.9
    assert np.all(np.diff(scores, axis=0) > 0)


def test_label_noise_leaves_validation_and_test_true():
    true, noisy = generate(imbalance=0.0), generate(imbalance=0.0, label_noise=0.4)
    wrong = true.label != noisy.label
    train = true.split == "train"
    assert wrong[train].mean() == pytest.approx(0.4 * 3 / 4, abs=0.03)
    assert not wrong[~train].any()
    np.testing.assert_array_equal(true.features["text"], noisy.features["text"])


@pytest.mark.parametrize(
    "sizes",
    [
        dict(dialogues=1, valid=0.0, test=0.0),
        dict(utterances=(1, 1), speakers=1),
        dict(widths={"text": 1}),
        dict(classes=2),
        dict(classes=9, widths={"a": 2, "b": 3}),
    ],
    ids=str,
)
def test_smallest_sizes(sizes):
    corpus = generate(**({"dialogues": 6} | sizes))
    assert (corpus.split == "train").any()
    assert all(np.isfinite(x).all() for x in corpus.features.values())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dict(seed=-1), "seed = -1: must be a whole number of at least 0"),
        (dict(dialogues=0), "dialogues = 0: must be a whole number of at least 1"),
        (dict(dialogues=2.5), "dialogues = 2.5: must be a whole number"),
        (dict(utterances=(0, 3)), "the fewest utterances = 0: must be a whole number of at least 1"),
        (dict(utterances=(5, 3)), "the most utterances = 3: must be a whole number of at least 5"),
        (dict(utterances=(5,)), r"utterances = \(5,\): must be two numbers"),
        (dict(speakers=0), "speakers = 0: must be a whole number of at least 1"),
        (dict(classes=1), "classes = 1: must be a whole number of at least 2"),
        (dict(widths={}), "widths names no modality"),
        (dict(widths={"text": 0}), "the width of 'text' = 0: must be a whole number of at least 1"),
        (dict(separation=-1), "separation = -1: must be a finite number of at least 0"),
        (dict(noise=float("inf")), "noise = inf: must be a finite number"),
        (dict(noise=float("nan")), "noise = nan: must be a finite number"),
        (dict(inertia=1.5), r"inertia = 1.5: must lie in \[0, 1\]"),
        (dict(contagion=-0.5), r"contagion = -0.5: must lie in \[0, 1\]"),
        (dict(inertia=0.7, contagion=0.7), "inertia = 0.7 and contagion = 0.7 add up to more than 1"),
        (dict(imbalance=1.0), "imbalance = 1.0: must be at least 0 and less than 1"),
        (dict(missing=1.0), "missing = 1.0: must be at least 0 and less than 1"),
        (dict(label_noise=1.0), "label_noise = 1.0: must be at least 0 and less than 1"),
        (dict(shared=1.1), r"shared = 1.1: must lie in \[0, 1\]"),
        (dict(rotation=-1), r"rotation = -1: must lie in \[0, 1\]"),
        (dict(shift=-1), "shift = -1: must be a finite number of at least 0"),
        (dict(warp=float("inf")), "warp = inf: must be a finite number"),
        (dict(valid=-0.1), "valid = -0.1: must be at least 0 and less than 1"),
        (dict(valid=0.5, test=0.5), "valid = 0.5 and test = 0.5 leave none of the 120 dialogues for training"),
    ],
    ids=str,
)
def test_bad_value(bad, message):
    with pytest.raises(UserError, match=message):
        generate(**bad)

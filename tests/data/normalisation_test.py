"""Standardisation uses the present train rows and nothing else."""

import dataclasses

import numpy as np
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.data import Normalisation, normalisation, synthetic
from ariigcn_jax.types import Corpus, UserError

SPLIT = np.array(["train", "train", "train", "valid", "test"])

NO_COPIES: dict[str, tuple[str, ...]] = {"speaker_normalised": (), "dialogue_normalised": ()}


def corpus(x, present=(True,) * 5, **others):
    features = {"text": np.asarray(x, np.float32), **others}
    masks = {m: np.ones(5, bool) for m in features} | {"text": np.array(present)}
    numbers = np.zeros(5, np.int32)
    dialogue = np.arange(5, dtype=np.int32)
    names = tuple("abcde")
    return Corpus("toy", features, masks, dialogue, numbers, numbers, SPLIT, ("one",), names, names)


def test_hand_numbers():
    # Train rows 1, 2, 6: mean 3, deviations -2, -1, 3, variance 14 / 3.
    found = normalisation.fit(corpus([[1], [2], [6], [100], [-100]]))
    assert found.mean["text"] == pytest.approx([3])
    assert found.scale["text"] == pytest.approx([np.sqrt(14 / 3)])


def test_missing_rows_neither_count_nor_change():
    toy = corpus([[1], [3], [0], [5], [0]], present=(True, True, False, True, False))
    found = normalisation.fit(toy)
    assert (found.mean["text"], found.scale["text"]) == (pytest.approx([2]), pytest.approx([1]))
    np.testing.assert_array_equal(normalisation.apply(toy, found).features["text"], [[-1], [1], [0], [3], [0]])


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3e5])
def test_constant_feature_becomes_zero(value):
    toy = corpus(np.full((5, 1), value))
    found = normalisation.fit(toy)
    assert found.scale["text"] == [1]
    assert not normalisation.apply(toy, found).features["text"].any()


@pytest.mark.parametrize(("deviation", "scale"), [(1e-9, 1), (1e-5, 1e-5)])
def test_floor(deviation, scale):
    found = normalisation.fit(corpus(np.array([[1], [-1], [0], [0], [0]]) * deviation * np.sqrt(1.5)))
    assert found.scale["text"] == pytest.approx([scale])


def test_modality_without_train_rows_stays_as_it_is():
    toy = corpus([[0, 0], [0, 0], [0, 0], [2, -3], [4, 5]], present=(False, False, False, True, True))
    found = normalisation.fit(toy)
    assert (found.mean["text"].tolist(), found.scale["text"].tolist()) == ([0, 0], [1, 1])
    np.testing.assert_array_equal(normalisation.apply(toy, found).features["text"], toy.features["text"])


def test_clips_and_gives_float32():
    toy = corpus([[-1], [0], [1], [1e30], [-1e30]])
    result = normalisation.apply(toy, normalisation.fit(toy)).features["text"]
    assert result.dtype == np.float32
    assert result[3:].tolist() == [[10], [-10]]


def test_large_means_lose_no_precision():
    x = 1e6 + np.array([[0.5], [1.0], [1.5], [1.0], [1.0]])
    toy = corpus(x)
    found = normalisation.fit(toy)
    expected = (np.asarray(x, np.float32).astype(float) - found.mean["text"]) / found.scale["text"]
    np.testing.assert_allclose(normalisation.apply(toy, found).features["text"], expected, rtol=1e-6)
    assert found.scale["text"] == pytest.approx([np.sqrt(1 / 6)], rel=1e-6)


def test_leaves_the_corpus_alone():
    toy = corpus([[1], [2], [6], [4], [5]])
    before = toy.features["text"].copy()
    result = normalisation.apply(toy, normalisation.fit(toy))
    np.testing.assert_array_equal(toy.features["text"], before)
    assert dataclasses.replace(result, features=toy.features) == toy


def test_arrays_round_trip():
    found = normalisation.fit(corpus(np.eye(5, 3), audio=np.ones((5, 2), np.float32)))
    arrays = found.to_arrays()
    assert set(arrays) == {"text/mean", "text/scale", "audio/mean", "audio/scale"}
    assert {a.dtype for a in arrays.values()} == {np.dtype(np.float32)}
    back = Normalisation.from_arrays(arrays)
    for part in ("mean", "scale"):
        for modality in ("text", "audio"):
            np.testing.assert_array_equal(getattr(back, part)[modality], getattr(found, part)[modality])


def test_incomplete_arrays():
    arrays = normalisation.fit(corpus(np.eye(5, 3))).to_arrays()
    with pytest.raises(UserError, match="lacks 'text/scale': the checkpoint is incomplete"):
        Normalisation.from_arrays({"text/mean": arrays["text/mean"]})
    with pytest.raises(UserError, match="mean and scale of the modality 'text' have different shapes"):
        Normalisation.from_arrays(arrays | {"text/scale": np.ones(2)})


def test_unknown_modality():
    found = normalisation.fit(corpus(np.eye(5, 3)))
    with pytest.raises(
        UserError, match="'audio' of the corpus 'toy' has no stored mean and scale; there are some for text"
    ):
        normalisation.apply(corpus(np.eye(5, 3), audio=np.ones((5, 2), np.float32)), found)


def test_other_width():
    found = normalisation.fit(corpus(np.eye(5, 3)))
    with pytest.raises(UserError, match="'text' of the corpus 'toy' has 4 features, but the stored mean has 3"):
        normalisation.apply(corpus(np.eye(5, 4)), found)


@pytest.mark.parametrize("option", ["speaker_normalised", "dialogue_normalised"])
def test_a_normalised_copy_equals_a_loop(option):
    corpus = synthetic.generate(dialogues=5, utterances=(1, 6), missing=0.3, valid=0.2, test=0.2)
    twice = normalisation.with_copies(corpus, NO_COPIES | {option: ("aud", "smell")})
    assert twice.widths == {**corpus.widths, "audio": 2 * corpus.widths["audio"]}
    width = corpus.widths["audio"]
    np.testing.assert_array_equal(twice.features["audio"][:, :width], corpus.features["audio"])
    for u in range(len(corpus)):
        mine = [
            v
            for v in range(len(corpus))
            if corpus.dialogue[v] == corpus.dialogue[u]
            and (option == "dialogue_normalised" or corpus.speaker[v] == corpus.speaker[u])
            and corpus.present["audio"][v]
        ]
        rows = corpus.features["audio"][mine].astype(np.float64)
        expected = np.zeros(width)
        if corpus.present["audio"][u] and len(mine) > 1:
            expected = (corpus.features["audio"][u] - rows.mean(axis=0)) / rows.std(axis=0)
        np.testing.assert_allclose(twice.features["audio"][u, width:], expected, atol=1e-4)


def test_copies_follow_the_features_that_they_are_of():
    corpus = synthetic.generate(dialogues=5, utterances=(2, 6))
    options = {"dialogue_normalised": ("audio",), "speaker_normalised": ("a", "text")}
    assert normalisation.copies("audio", options) == ("speaker", "dialogue")
    assert normalisation.copies("visual", options) == ()
    both = normalisation.with_copies(corpus, options).features["audio"]
    one, other = (normalisation.with_copies(corpus, NO_COPIES | {k: v}).features["audio"] for k, v in options.items())
    width = corpus.widths["audio"]
    np.testing.assert_array_equal(both, np.concatenate([other, one[:, width:]], axis=1))


def test_rank_is_the_share_of_train_below():
    known = np.array([[0], [1], [1], [1], [5]], np.float32)
    values = np.array([[-7.0], [0], [0.5], [1], [2], [3], [5], [np.inf]])
    wanted = [[0], [0], [0.125], [0.5], [0.8125], [0.875], [1], [1]]
    np.testing.assert_allclose(normalisation.rank(values, known), wanted)
    np.testing.assert_allclose(normalisation.rank(values[None], known), [wanted])
    constant = np.full((3, 1), 2, np.float32)
    np.testing.assert_array_equal(normalisation.rank(np.array([1, 2, 3])[:, None], constant), [[0.5]] * 3)


def test_an_utterance_alone_has_the_ranks_that_it_has_among_others():
    draw = np.random.default_rng(0)
    values = np.round(draw.normal(size=(60, 5)), 1).astype(np.float32)  # some of them are quantiles, several times over
    known = np.quantile(values[:40], np.linspace(0, 1, 33), axis=0).astype(np.float32)
    alone = np.concatenate([normalisation.rank(row[None], known) for row in values])
    np.testing.assert_array_equal(alone, normalisation.rank(values, known))


def test_ranks_take_the_place_of_features_and_not_of_their_copies():
    corpus = synthetic.generate(dialogues=40, utterances=(2, 9), missing=0.1, valid=0.2, test=0.2)
    options = NO_COPIES | {"dialogue_normalised": ("audio",)}
    width, here = corpus.widths["audio"], corpus.present["audio"]
    whole = normalisation.with_copies(normalisation.ranked(corpus, ("audio",)), options)
    assert whole.ranked == {"audio": width}
    found = normalisation.fit(whole)
    assert list(found.quantiles) == ["audio"]
    result = normalisation.apply(whole, found).features
    plain = normalisation.with_copies(corpus, options)
    unranked = normalisation.apply(plain, normalisation.fit(plain)).features
    np.testing.assert_array_equal(result["audio"][:, width:], unranked["audio"][:, width:])
    np.testing.assert_array_equal(result["text"], unranked["text"])
    train = corpus.training & here
    raw, ranks = corpus.features["audio"][train], result["audio"][train][:, :width]
    for feature in range(width):  # uniform over train, in the order of the features
        order = np.argsort(raw[:, feature])
        np.testing.assert_allclose(ranks[order, feature], np.linspace(-(3**0.5), 3**0.5, train.sum()), atol=0.02)
    assert not result["audio"][~here].any()
    stretched = dataclasses.replace(corpus, features={**corpus.features, "audio": np.exp(corpus.features["audio"])})
    whole = normalisation.ranked(stretched, ("audio",))
    again = normalisation.apply(whole, normalisation.fit(whole)).features["audio"]
    np.testing.assert_allclose(again[train], ranks, atol=0.02)  # ranks are deaf to how features are scaled


def test_ranks_of_a_constant_feature_are_zero():
    toy = normalisation.ranked(corpus(1e-9 * np.arange(5)[:, None]), ("text",))
    result = normalisation.apply(toy, normalisation.fit(toy))
    assert not result.features["text"].any()
    assert result.ranked == {}  # or a second fit would take ranks of ranks


@pytest.mark.parametrize("sample", [400, 100_000])
def test_ranks_of_many_utterances_are_between_few_quantiles(monkeypatch, sample):
    """Of a sample, where there are more than that; speakers who take turns do not make it a sample of one of them."""
    monkeypatch.setattr(normalisation, "_SAMPLE", sample)
    many = synthetic.generate(dialogues=90, utterances=(10, 20), widths={"text": 3, "audio": 2}, valid=0.1, test=0.1)
    turns = np.arange(len(many))[:, None] % 2 * 10
    many = dataclasses.replace(many, features={**many.features, "audio": many.features["audio"] + turns})
    known = normalisation.fit(normalisation.ranked(many, ("audio",))).quantiles["audio"]
    train = np.sort(many.features["audio"][many.training], axis=0)
    assert known.shape == (257, 2) and len(train) > 800
    wanted = (np.arange(len(train)) + 0.5) / len(train)
    np.testing.assert_allclose(normalisation.rank(train, known)[:, 0], wanted, atol=0.1 if sample == 400 else 0.005)


def test_ranks_are_of_the_modalities_that_are_kept():
    marked = normalisation.ranked(synthetic.generate(dialogues=9), ("audio", "text"))
    assert list(corpora.prepare.modalities(marked, ("text",)).ranked) == ["text"]


def test_quantiles_are_kept_with_the_model_and_checked():
    found = normalisation.fit(normalisation.ranked(corpus(np.eye(5, 3)), ("te",)))
    arrays = found.to_arrays()
    assert set(arrays) == {"text/mean", "text/scale", "text/quantiles"}
    np.testing.assert_array_equal(Normalisation.from_arrays(arrays).quantiles["text"], found.quantiles["text"])
    with pytest.raises(UserError, match="quantiles of the modality 'text' do not fit"):
        Normalisation.from_arrays(arrays | {"text/quantiles": np.zeros((4, 7))})


def test_a_modality_that_train_has_not_has_no_ranks():
    toy = normalisation.ranked(corpus(np.zeros((5, 2)), present=(False,) * 5), ("text",))
    assert not normalisation.apply(toy, normalisation.fit(toy)).features["text"].any()


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_memory_mapped_rows_are_standardised_when_they_are_read(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(normalisation, "_CHUNK", chunk)
    corpus = synthetic.generate(dialogues=9, utterances=(2, 6), widths={"text": 5, "audio": 3}, missing=0.2)
    features = {}
    for m, x in corpus.features.items():
        np.save(tmp_path / f"{m}.npy", x)
        features[m] = np.load(tmp_path / f"{m}.npy", mmap_mode="r")
    corpus = normalisation.ranked(corpus, ("audio",))
    on_disk = dataclasses.replace(corpus, features=features)
    one, two = (normalisation.apply(c, normalisation.fit(c)) for c in (corpus, on_disk))
    index = np.array([[3, 1], [-1, 3]])
    for m, x in corpus.features.items():
        if m == "audio":
            x = normalisation.rank(x, normalisation.fit(corpus).quantiles[m])
        train = x[(corpus.split == "train") & corpus.present[m]].astype(float)
        wanted = np.where(corpus.present[m][:, None], (x - train.mean(axis=0)) / train.std(axis=0), 0)
        np.testing.assert_allclose(one.features[m], wanted, atol=1e-5)
        assert isinstance(two.features[m], normalisation.Standardised)
        assert two.features[m].shape == x.shape
        np.testing.assert_array_equal(two.features[m][index], one.features[m][index])
        np.testing.assert_array_equal(np.asarray(two.features[m]), one.features[m])
    assert one.widths == two.widths

"""Carved splits depend on names alone; what a user holds out is the test split, and classes are merged by name."""

import dataclasses
import hashlib

import numpy as np
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.data import carve, splits
from ariigcn_jax.types import UNLABELED, UserError

NAMES = [f"dialogue_{i}" for i in range(40)]


def test_picks_the_smallest_hashes():
    digests = {name: hashlib.sha256(b"valid/" + name.encode()).hexdigest() for name in NAMES}
    assert carve(NAMES, 0.1, "valid") == {n for n in NAMES if sum(digests[o] < digests[n] for o in NAMES) < 4}


def test_keeps_its_choice_between_versions():
    # By `printf valid/a | sha256sum` and so on.
    assert carve(["a", "b", "c", "d", "e", "f"], 1 / 3, "valid") == {"a", "d"}


def test_order_and_repetition_change_nothing():
    assert carve(NAMES[::-1] + NAMES, 0.3, "valid") == carve(NAMES, 0.3, "valid")


def test_salts_pick_differently():
    assert carve(NAMES, 0.3, "valid") != carve(NAMES, 0.3, "test")


def test_most_of_a_choice_outlives_a_new_dialogue():
    before, after = carve(NAMES, 0.25, "valid"), carve([*NAMES, "another"], 0.25, "valid")
    assert len(before & after) >= len(before) - 1


@pytest.mark.parametrize(
    ("n", "fraction", "picked"),
    [(40, 0.1, 4), (62, 0.1, 6), (40, 0.001, 1), (2, 0.9, 1), (40, 0.999, 39), (1, 0.5, 0), (0, 0.5, 0), (40, 0.0, 0)],
)
def test_number_picked(n, fraction, picked):
    assert len(carve([str(i) for i in range(n)], fraction, "valid")) == picked


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 3, float("nan")])
def test_fraction_out_of_range(fraction):
    with pytest.raises(UserError, match=r"share of the dialogues for 'valid' is .*at least 0 and less than 1"):
        carve(NAMES, fraction, "valid")


# --- What is held out -------------------------------------------------------------------------------------------------

# Two people in each of twelve dialogues, three sessions of four dialogues, people of a session never in another one.
DIALOGUES = [f"Ses0{s}F_{d}" for s in (1, 2, 3) for d in range(4)]
ACTORS = [f"{name[:5]}{who}" for name in DIALOGUES for who in "FM"]
EMOTIONS = ("happy", "sad", "excited", "bored")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "acted.npz"
    split = np.repeat(["train", "train", "test"], 8)  # the third session
    fields = dict(dialogue_id=np.repeat(DIALOGUES, 2), speaker=["F", "M"] * 12, actor=ACTORS, split=split)
    np.savez(path, **fields, label=[0, 1, 2, 3] * 6, label_names=EMOTIONS, text=np.arange(24.0)[:, None] + [1, 2])
    return path


def members(corpus, split):
    return {corpus.dialogue_ids[d] for d in corpus.dialogue[corpus.split == split]}


def test_session_held_out_and_validation_carved_out_of_the_others(file):
    for number in (1, 2, 3):
        corpus = corpora.load(file, split=f"session{number}", valid_fraction=0.25)
        session = {name for name in DIALOGUES if name.startswith(f"Ses0{number}")}
        assert members(corpus, "test") == session
        assert members(corpus, "valid") == carve(set(DIALOGUES) - session, 0.25, "valid")
        assert members(corpus, "train") == set(DIALOGUES) - session - members(corpus, "valid")
        assert f"data.split=session{number}: 4 of 12 dialogues became the test split" in corpus.notes
        assert not any("in the other dialogues too" in note for note in corpus.notes)


def published(path, people, split, field="speaker", dialogues=None, **more):
    """Write a file with a given split; `people` are those of each dialogue, an utterance each."""
    dialogues = dialogues or [f"d{number}" for number in range(len(people))]
    count = [len(names) for names in people]
    fields = {"dialogue_id": np.repeat(dialogues, count), "split": np.repeat(split, count)}
    fields[field] = np.concatenate([np.array(list(names)) for names in people])
    np.savez(
        path,
        **fields,
        label=np.arange(sum(count)) % 2,
        text=np.random.default_rng(0).normal(size=(sum(count), 2)),
        **more,
    )
    return path


# Eight pairs of people with five dialogues each, two pairs in test.
PAIRS = [(f"{letter}1", f"{letter}2") for letter in "abcdefgh" for _ in range(5)]
OFFICIAL = ["train"] * 30 + ["test"] * 10


@pytest.mark.parametrize(
    ("field", "dialogues", "people"),
    [
        ("speaker", None, PAIRS),
        ("actor", None, PAIRS),
        ("session", None, [(pair[0][0],) * 2 for pair in PAIRS]),
        ("session", None, np.repeat(np.arange(8), 10).reshape(40, 2)),
        ("speaker", [f"Ses{1 + d // 5:02}F_{d}" for d in range(40)], ["FM"] * 40),  # the names of the dialogues say it
        ("speaker", None, [(*pair, "") for pair in PAIRS]),  # an utterance without a name
    ],
)
def test_validation_takes_whole_speakers_where_those_of_test_are_new(tmp_path, field, dialogues, people):
    corpus = corpora.load(published(tmp_path / "mine.npz", people, OFFICIAL, field, dialogues))
    order = {name: place // 5 for place, name in enumerate(dialogues or [f"d{n}" for n in range(40)])}
    groups = {split: {order[name] for name in members(corpus, split)} for split in ("train", "valid", "test")}
    assert {split: len(found) for split, found in groups.items()} == {"train": 5, "valid": 1, "test": 2}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values()))  # nobody is in two splits
    word = "session" if dialogues else field
    note = f"5 of 30 labelled train dialogues became the valid split, each `{word}` as a whole, because no `{word}` of"
    assert any(note in n for n in corpus.notes)


@pytest.mark.parametrize(
    ("people", "warned"),
    [
        ([("Joey", "Ross"), ("Ross", "Rachel")] * 20, False),  # the same people in train and test
        (["MF"] * 40, False),
        ([(f"person {d}",) * 2 for d in range(40)], False),  # each dialogue has people of its own
        ([("host", f"guest {d}") for d in range(40)], False),
        ([("Ann", "Bob")] * 30 + [("Cleo", "Dan")] * 10, True),  # all of train belongs together
        ([("Ann", "Bob")] * 15 + [("Eve", "Tom")] * 15 + [("Cleo", "Dan")] * 10, True),  # half of train is too much
        ([("", "")] * 40, False),
    ],
)
def test_validation_stays_a_choice_by_names_where_speakers_show_nothing_or_are_few(tmp_path, people, warned):
    corpus = corpora.load(published(tmp_path / "mine.npz", people, OFFICIAL))
    assert members(corpus, "valid") == carve({f"d{n}" for n in range(30)}, 0.1, "valid")
    note = next(n for n in corpus.notes if "became the valid split" in n)
    assert "chosen by a hash of their names" in note
    assert ("no `speaker` of the test split is in train, so scores on test may be lower" in note) == warned


def test_named_validation_stays_as_it_is(tmp_path):
    split = ["train"] * 28 + ["valid"] * 2 + ["test"] * 10
    corpus = corpora.load(published(tmp_path / "mine.npz", PAIRS, split))
    assert members(corpus, "valid") == {"d28", "d29"} and not any("valid split" in note for note in corpus.notes)


def test_field_of_numbers_named_session_is_no_session(tmp_path):
    corpus = corpora.load(published(tmp_path / "mine.npz", ["MF"] * 40, OFFICIAL, session=np.full((80, 2), 0.5)))
    assert members(corpus, "valid") == carve({f"d{n}" for n in range(30)}, 0.1, "valid")


def test_speakers_without_a_label_go_with_their_dialogues(tmp_path):
    path = published(tmp_path / "mine.npz", PAIRS, OFFICIAL)
    with np.load(path) as file:
        fields = dict(file)
    fields["label"][::10] = fields["label"][1::10] = -1  # the first dialogue of each pair
    np.savez(path, **fields)
    valid = members(corpora.load(path), "valid")
    assert len(valid) == 5 and len({int(name[1:]) // 5 for name in valid}) == 1


@pytest.mark.parametrize(
    ("sizes", "fraction", "numbers"),
    [
        ([1] * 40, 0.1, 4),
        ([4] * 10, 0.1, 4),
        ([2] * 20, 0.1, 4),
        ([3] * 13, 0.1, 6),
        ([30, 28, 32, 30], 0.1, 28),  # the smallest one
        ([35, 1, 1, 1, 1, 1], 0.1, 4),  # never the large one
        ([39, 1], 0.2, 0),
        ([20, 20], 0.1, 0),
        ([1, 1], 0.999, 1),
        ([4] * 10, 0.0, 0),
    ],
)
def test_number_of_dialogues_in_picked_groups(sizes, fraction, numbers):
    group = dict(zip(map(str, range(sum(sizes))), np.repeat(np.arange(len(sizes)), sizes).tolist(), strict=True))
    picked = splits.carve_groups(group, fraction, "valid")
    assert len(picked) == numbers
    assert all(
        (other in picked) == (name in picked) for name in group for other in group if group[name] == group[other]
    )
    assert picked == splits.carve_groups(dict(reversed(group.items())), fraction, "valid")


def test_one_value_of_a_field_held_out_names_people_on_both_sides(file):
    corpus = corpora.load(file, split="dialogue_id=*F_[01]")
    assert members(corpus, "test") == {name for name in DIALOGUES if name[-1] in "01"}
    assert any("6 of 6 names in the `actor` of the test split are in the other dialogues" in n for n in corpus.notes)
    assert members(corpora.load(file, split="actor=Ses02M"), "test") == {n for n in DIALOGUES if "Ses02" in n}


def test_dialogues_left_out_are_nowhere_and_the_others_are_as_they_were(file):
    whole, rest = corpora.load(file), corpora.load(file, without="session3", split="session1")
    here = np.flatnonzero([not whole.dialogue_ids[d].startswith("Ses03") for d in whole.dialogue])
    assert rest.dialogue_ids == tuple(name for name in whole.dialogue_ids if not name.startswith("Ses03"))
    assert rest.utterance_ids == tuple(whole.utterance_ids[u] for u in here)
    np.testing.assert_array_equal(rest.features["text"], whole.features["text"][here])
    np.testing.assert_array_equal(rest.label, whole.label[here])
    assert rest.dialogue.max() == 7 and (np.diff(rest.dialogue) >= 0).all()
    assert members(rest, "test") == {name for name in DIALOGUES if name.startswith("Ses01")}
    assert "data.without=session3: 4 of 12 dialogues are left out" in rest.notes
    parts = [members(corpora.load(file, without="session3", split=name), "test") for name in splits.expand(["4folds"])]
    assert sorted(name for part in parts for name in part) == list(rest.dialogue_ids) and {*map(len, parts)} == {2}
    assert "the file without session3 names no test split" in corpora.load(file, without="session3").notes
    with pytest.raises(UserError, match=r"data\.without=session4: no `dialogue_id` fits"):
        corpora.load(file, without="session4")
    with pytest.raises(UserError, match=r"data\.without=dialogue_id=Ses0\[12\]\*: no dialogue is left"):
        corpora.load(file, without="dialogue_id=Ses0[12]*")


def test_folds_are_a_partition_and_groups_stay_together(file):
    parts = [members(corpora.load(file, split=name), "test") for name in splits.expand(["5folds"])]
    assert sorted(name for part in parts for name in part) == sorted(DIALOGUES)
    assert {len(part) for part in parts} == {2, 3}
    by_actor = [members(corpora.load(file, split=name), "test") for name in splits.expand(["3folds:actor"])]
    assert sorted(map(sorted, by_actor)) == [DIALOGUES[:4], DIALOGUES[4:8], DIALOGUES[8:]]


def test_folds_keep_their_choice_between_versions():
    # By `printf fold/a | sha256sum` and so on the order is c f e a b d.
    names = list("abcdef")
    held = [splits.hold_out(splits.parse(f"fold{k}of3"), np.arange(6), np.array(names), names) for k in (1, 2, 3)]
    assert [[name for name, chosen in zip(names, part, strict=True) if chosen] for part in held] == [
        ["a", "c"],
        ["b", "f"],
        ["d", "e"],
    ]


def test_unknown_people_join_nothing():
    people = np.array(["", "Ann", "", "Bob", "Cleo", ""])
    held = [
        splits.hold_out(splits.parse(f"fold{k}of3:speaker"), np.arange(6) // 2, people, list("abc")) for k in (1, 2, 3)
    ]
    assert np.sum(held, axis=0).tolist() == [1, 1, 1]


def test_dialogues_are_joined_through_others():
    dialogue, value = np.array([0, 0, 1, 2, 2, 3]), np.array([3, 1, 0, 2, 1, 2])  # 0 – 2 – 3 by 1 and 2; 1 alone
    assert splits._groups(dialogue, value, 4, 4).tolist() == [0, 1, 0, 0]


def test_names_of_several_splits():
    assert splits.expand(["sessions", "session2"]) == [f"session{n}" for n in range(1, 6)]
    assert splits.expand(["2folds:speaker", "speaker=Ann"]) == ["fold1of2:speaker", "fold2of2:speaker", "speaker=Ann"]


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("session4", r"no `dialogue_id` fits Ses04\*, so nothing is held out. It has Ses01F_0"),
        ("speaker=F", "fits F, so nothing is left to train on"),
        ("fold4of3", "folds count from 1"),
        ("fold1of1", "at least two"),
        ("fold1of4:actor", r"fall into 3 group\(s\) that share no `actor`"),
        ("fold1of2:speaker", r"fall into 1 group\(s\)"),
        ("Ses01", "write what is held out"),
        ("actr=x", "Did you mean `actor`"),
    ],
)
def test_nothing_to_train_or_test_on(file, split, words):
    with pytest.raises(UserError, match=words):
        corpora.load(file, split=split)


# --- Folds that models leave out --------------------------------------------------------------------------------------


def test_each_model_leaves_out_another_fold_of_what_is_not_for_testing(file):
    read = corpora.load(file, split="session3", valid_fraction=0.25)
    corpus = splits.cross_validated(read, 3)
    out = [{corpus.dialogue_ids[d] for d in corpus.dialogue[corpus.fold == k]} for k in range(3)]
    assert sorted(len(fold) for fold in out) == [2, 3, 3] and set.union(*out) == members(read, "train") | members(
        read, "valid"
    )
    np.testing.assert_array_equal(corpus.split, read.split)
    for split in ("train", "valid"):
        np.testing.assert_array_equal(corpus.used(split), read.split != "test")
        np.testing.assert_array_equal(corpus.labelled(split), (read.split != "test") & (read.label >= 0))
        np.testing.assert_array_equal(read.used(split), read.split == split)
    np.testing.assert_array_equal(corpus.training, read.split != "test")
    np.testing.assert_array_equal(corpus.used("test"), read.split == "test")
    np.testing.assert_array_equal(corpus.answered_as, np.where(read.split == "test", "test", "valid"))
    np.testing.assert_array_equal(read.answered_as, read.split)
    assert ((corpus.fold == -1) == (corpus.split == "test")).all()
    order = sorted(set.union(*out), key=lambda name: hashlib.sha256(b"part/" + name.encode()).hexdigest())
    assert [set(order[k::3]) for k in range(3)] == out


def test_dialogues_with_a_label_are_dealt_first(file):
    read = corpora.load(file, split="session3", valid_fraction=0.0)
    assert set(read.split) == {"train", "test"} and "the valid split stays empty" in read.notes[-1]
    chosen = sorted(set(read.dialogue[read.split != "test"].tolist()))[:3]
    label = np.where(np.isin(read.dialogue, chosen), read.label, UNLABELED)
    corpus = splits.cross_validated(dataclasses.replace(read, label=label), 3)
    assert sorted(set(corpus.fold[corpus.dialogue == d].item(0) for d in chosen)) == [0, 1, 2]
    with pytest.raises(UserError, match=r"has 3 labelled dialogue\(s\) .* fewer than members=4"):
        splits.cross_validated(dataclasses.replace(read, label=label), 4)


# --- Classes that are merged ------------------------------------------------------------------------------------------


def test_classes_are_merged_and_dropped_by_name(file):
    corpus = corpora.load(file, relabel="excited=happy, bored=")
    assert corpus.label_names == ("happy", "sad")
    assert corpus.label.tolist() == [0, 1, 0, UNLABELED] * 6
    again = corpora.labels.relabel(corpus.label, corpus.label_names, "excited=happy, bored=", partly=True)
    assert again[0].tolist() == corpus.label.tolist() and again[1] == corpus.label_names
    renamed = corpora.load(file, relabel="happy=joy,excited=joy")
    assert renamed.label_names == ("joy", "sad", "bored") and renamed.label.tolist() == [0, 1, 0, 2] * 6


@pytest.mark.parametrize(
    ("relabel", "words"),
    [
        ("exited=happy", "there is no class 'exited', only happy, sad, excited, bored. Did you mean excited"),
        ("happy", "'happy' is not one class and its new name"),
        ("happy=a,happy=b", "each name once"),
        ("happy=sad,sad=bored", "happy becomes sad, which becomes another"),
        ("happy=sad,excited=sad,bored=", "leaves sad: keep at least two"),
    ],
)
def test_classes_that_cannot_be_merged(file, relabel, words):
    with pytest.raises(UserError, match=words):
        corpora.load(file, relabel=relabel)
    if "class" in words:
        assert corpora.load(file, relabel="exited=happy", training=False).label_names == EMOTIONS


def test_scores_have_no_classes_to_merge(tmp_path):
    np.savez(tmp_path / "x.npz", dialogue_id=["a", "b"], label=[0.5, -1.0], text=np.eye(2))
    with pytest.raises(UserError, match=r"renames classes, and data\.task=regression has none"):
        corpora.load(tmp_path / "x.npz", task="regression", relabel="a=b")

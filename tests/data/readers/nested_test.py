"""Nested JSON: however dialogues lie in a file, the same utterances are read, in dialogues of their own."""

import json

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.types import UNLABELED, UserError

ONE_SPLIT = dict(valid_fraction=0, test_fraction=0)


def utterance(d, t, **changes):
    row = {"speaker": "AB"[t % 2], "text": f"words {d} {t}", "label": ["joy", "fear"][(d + t) % 2]}
    return row | {"audio": [d + 0.5, t + 1.0]} | changes


def dialogue(d, length=3, **changes):
    return [utterance(d, t, **changes) for t in range(length)]


@pytest.fixture
def load(tmp_path):
    def read(value, name="x.json", **options):
        lines = isinstance(value, list) and name.endswith("l")
        content = "".join(json.dumps(row) + "\n" for row in value) if lines else json.dumps(value)
        (tmp_path / name).write_text(content)
        return corpus.load(tmp_path / name, **(ONE_SPLIT | options))

    return read


@pytest.fixture
def refused(load):
    def message(*arguments, **options):
        with pytest.raises(UserError) as caught:
            load(*arguments, **options)
        return str(caught.value)

    return message


def assert_dialogues(read, ids, length=3):
    """The dialogues of `dialogue`, number d with the d-th name, are read in their order."""
    assert read.dialogue_ids == tuple(ids)
    expected = [utterance(d, t) for d in range(len(ids)) for t in range(length)]
    assert read.transcript.tolist() == [row["text"] for row in expected]
    assert read.features["audio"].tolist() == [row["audio"] for row in expected]
    assert read.speaker_names.tolist() == [row["speaker"] for row in expected]
    assert [read.label_names[label] for label in read.label] == [row["label"] for row in expected]
    assert len(set(read.utterance_ids)) == len(read)
    assert read.dialogue.tolist() == np.repeat(np.arange(len(ids)), length).tolist()


def scene(d, **names):
    return {**names, "utterances": dialogue(d)}


EPISODES = [[scene(0, scene_id=1), scene(1, scene_id=2)], [scene(2, scene_id=1)]]
FORMS = {
    "lists of lists": ([dialogue(0), dialogue(1)], ["0", "1"]),
    "lists by name": ({"d1": dialogue(0), "d2": dialogue(1), "d3": []}, ["d1", "d2"]),
    "utterances by name": ({f"d{d}": {f"d{d}_u{t}": u for t, u in enumerate(dialogue(d))} for d in (0, 1)},
                           ["d0", "d1"]),
    "objects": ([scene(0, dialogue_id="x"), scene(1, id="y")], ["x", "y"]),
    "objects by name": ({"x": scene(0, id="z"), "y": scene(1, id="z")}, ["x", "y"]),
    "another name of the list": ([{"id": "x", "sentences": dialogue(0)}, {"id": "y", "sentences": dialogue(1)}],
                                 ["x", "y"]),
    "below one key": ({"version": "1.0", "data": [scene(0, id="x"), scene(1, id="y")]}, ["x", "y"]),
    "beside other things": ({"about": {"classes": ["joy", "fear"]}, "d1": dialogue(0), "d2": dialogue(1)},
                            ["d1", "d2"]),
    "EmoryNLP": ({"season_id": "s01", "episodes": [{"episode_id": "s01_e01", "scenes": [
        scene(0, scene_id="s01_e01_c00"), scene(1, scene_id="s01_e01_c01")]}]}, ["s01_e01_c00", "s01_e01_c01"]),
    "scenes that count anew": ({"episodes": [{"episode_id": f"e{i}", "scenes": EPISODES[i]} for i in (0, 1)]},
                               ["e0_1", "e0_2", "e1_1"]),
    "scenes without names": ({"episodes": [{"scenes": [{"utterances": dialogue(0)}, {"utterances": dialogue(1)}]}]},
                             ["0_0", "0_1"]),
    "sessions by name": ({"Ses01": {"impro1": dialogue(0), "impro2": dialogue(1)}, "Ses02": {"impro1": dialogue(2)}},
                         ["Ses01_impro1", "Ses01_impro2", "Ses02_impro1"]),
    "columns": ({key: {str(n): (dialogue(0) + dialogue(1))[n][key] for n in range(6)} for key in utterance(0, 0)} |
                {"dialogue_id": {str(n): "xy"[n // 3] for n in range(6)}}, ["x", "y"]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_dialogues_are_found(load, form):
    value, ids = FORMS[form]
    assert_dialogues(load(value), ids)


@pytest.mark.parametrize("form", ["lists of lists", "objects", "another name of the list"])
def test_dialogues_are_found_in_json_lines(load, form):
    value, ids = FORMS[form]
    assert_dialogues(load(value, "x.jsonl"), ids)


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_a_single_utterance_is_one_row(load, name):
    one = utterance(0, 0) | {"dialogue_id": "x"}
    read = load(one if name == "x.json" else [one], name)
    assert (read.dialogue_ids, read.label.tolist()) == (("x",), [0])


def test_episodes_are_found_in_json_lines(load):
    lines = [{"episode_id": f"e{i}", "scenes": EPISODES[i]} for i in (0, 1)]
    assert_dialogues(load(lines, "x.jsonl"), ["e0_1", "e0_2", "e1_1"])


@pytest.mark.parametrize("names", [("train", "dev", "test"), ("trn", "validation", "tst")])
@pytest.mark.parametrize("form", ["lists of lists", "lists by name", "objects", "utterances by name"])
def test_splits_by_name_may_count_from_the_same_number(load, names, form):
    value, ids = FORMS[form]
    read = load(dict.fromkeys(names, value))
    assert read.dialogue_ids == tuple(f"{name}_{id}" for name in names for id in ids)
    assert read.split.tolist() == ["train"] * 6 + ["valid"] * 6 + ["test"] * 6


def test_utterances_that_name_their_dialogues_in_splits(load):
    rows = [u | {"dialogue_id": d} for d in (0, 1) for u in dialogue(d)]
    read = load({"train": rows, "test": rows})
    assert read.dialogue_ids == ("train_0", "train_1", "test_0", "test_1")


def test_what_a_dialogue_says_is_said_of_its_utterances(load):
    value = {"episodes": [{"episode_id": "e1", "show": "Friends", "scenes": [scene(0, place="park"), scene(1)]}]}
    assert load(value, split="place=park").split.tolist() == ["test"] * 3 + ["train"] * 3


def test_a_label_may_lack(load):
    rows = dialogue(0)
    del rows[1]["label"]
    assert load([rows, dialogue(1)]).label.tolist() == [1, UNLABELED, 1, 0, 1, 0]


def test_several_speakers_of_a_list(load):
    rows = [{k: v for k, v in u.items() if k != "speaker"} | {"speakers": [u["speaker"]]} for u in dialogue(0)]
    rows[1]["speakers"] = ["A", "B"]
    assert load([rows]).speaker_names.tolist() == ["A", "A, B", "A"]


# Dialogues with parallel lists


def parallel(d, words="dialog", labels="emotion", **more):
    rows = dialogue(d)
    lists = {"speakers": "speaker", words: "text", labels: "label", "audio": "audio"}
    return {name: [row[key] for row in rows] for name, key in lists.items()} | more


@pytest.mark.parametrize(("words", "labels"), [
    ("dialog", "emotion"), ("utterances", "emotions"), ("dialogue", "label"), ("sentences", "labels"), ("text", "emo"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_lists_of_one_value_an_utterance(load, words, labels, name):
    read = load([parallel(0, words, labels, act=[1, 2, 3]), parallel(1, words, labels, act=[1, 2, 3])], name)
    assert_dialogues(read, ["0", "1"])
    assert read.notes[1].startswith(f"read as lists with one value an utterance: `speakers`, `{words}`, `{labels}`")


def test_dialogues_of_lists_by_name_or_below_a_key(load):
    assert_dialogues(load({"d1": parallel(0), "d2": parallel(1)}), ["d1", "d2"])
    assert_dialogues(load({"data": [parallel(0, id=7), parallel(1, id=8)]}), ["7", "8"])
    assert_dialogues(load({"train": [parallel(0)], "test": [parallel(1)]}), ["train_0", "test_0"])


def test_one_utterance_in_a_dialogue_of_lists(load):
    cut = {key: values[:1] for key, values in parallel(0).items()}
    assert load([cut, parallel(1)]).dialogue.tolist() == [0, 1, 1, 1]


def test_lists_of_different_lengths_are_refused(refused):
    value = parallel(1)
    value["emotion"] = value["emotion"][:2]
    words = "dialogue 1 has 3 utterances, but its `emotion` has 2 values"
    assert words in refused([parallel(0), value])


def test_lists_of_an_utterance_are_no_dialogue(load):
    rows = [u | {"text": ["so", "what"], "tags": ["a", "b"], "dialogue_id": d} for d in (0, 1) for u in dialogue(d)]
    read = load(rows)
    assert len(read) == 6 and read.transcript.tolist() == ["so what"] * 6
    rows = [{"dialogue_id": "a", "utterance": ["so", "what"], "emotions": ["joy", "fear"], "audio": [1, 2, 3 + t]}
            for t in range(4)]  # fmt: skip
    read = load(rows, label="emotions", task="multilabel")
    assert len(read) == 4 and read.target.tolist() == [[1, 1]] * 4


# Context


def said(n, **changes):
    return utterance(0, n) | {"context": ["one", "two"], "context_speakers": ["X", "Y"]} | changes


def test_context_becomes_unlabelled_turns(load):
    read = load({"1_60": said(0), "1_61": said(1, context=[], context_speakers=[]), "1_62": said(2, context=None)})
    assert read.dialogue_ids == ("1_60", "1_61", "1_62")
    assert read.transcript.tolist() == ["one", "two", "words 0 0", "words 0 1", "words 0 2"]
    assert read.speaker_names.tolist() == ["X", "Y", "A", "B", "A"]
    assert read.label.tolist() == [UNLABELED, UNLABELED, 1, 0, 1]
    assert read.present["audio"].tolist() == [False, False, True, True, True]
    assert "2 sentences of context became unlabelled turns before their utterances" in read.notes


def test_context_of_objects_and_of_other_names(load):
    earlier = [{"speaker": "X", "text": "one"}, {"speaker": "Y", "text": "two", "label": "fear", "audio": [5, 6]}]
    rows = [utterance(0, t) | {"id": f"u{t}", "history": earlier} for t in (0, 1)]
    read = load(rows, "x.jsonl")
    assert read.dialogue_ids == ("u0", "u1") and read.transcript.tolist()[:3] == ["one", "two", "words 0 0"]
    assert [read.label_names[label] if label >= 0 else "" for label in read.label[:3]] == ["", "fear", "joy"]
    assert read.features["audio"][1].tolist() == [5, 6]
    assert load([said(0), said(1)]).dialogue_ids == ("0", "1")


def test_context_is_passed_over_where_the_dialogue_has_it_already(load):
    read = load([[said(0), said(1)], [said(2)]])
    assert len(read) == 3 and any("`context`" in note for note in read.notes if note.startswith("ignored"))
    assert len(load([said(t, dialogue_id="a") for t in range(3)])) == 3


# Columns of lists and of objects


@pytest.mark.parametrize("words", [["so", "what"], [], [["so"], ["what"]], [{"word": "so", "start": 0.5}], [None, "x"]])
def test_lists_without_numbers_are_passed_over(load, words):
    rows = [u | {"dialogue_id": "a", "tokens": words if t else []} for t, u in enumerate(dialogue(0))]
    read = load(rows)
    assert read.modalities == ("audio",) and len(read) == 3
    assert any("`tokens`" in note for note in read.notes if note.startswith("ignored"))


def test_words_in_the_place_of_a_transcript_or_features(load, refused):
    rows = [u | {"dialogue_id": "a", "text": ["so", f"{t}"]} for t, u in enumerate(dialogue(0))]
    assert load(rows).transcript.tolist() == ["so 0", "so 1", "so 2"]
    rows = [u | {"dialogue_id": "a", "audio": ["0.5", "-1e3"]} for u in dialogue(0)]
    assert load(rows).features["audio"].tolist() == [[0.5, -1000]] * 3
    broken = [u | {"dialogue_id": "a", "audio": [1.0, "x"] if t else [1.0, 2.0]} for t, u in enumerate(dialogue(0))]
    assert "`audio`: row 1: list of 2, with text 'x' is neither a vector" in refused(broken)


# What is no corpus


@pytest.mark.parametrize(("value", "words"), [
    ([[1, 2], [3]], "entry 0 of the JSON is list of 2, not an object"),
    ([dialogue(0), ["a"]], "entry 1 of the JSON is list of 1, not an object"),
    ([[dialogue(0), [3]]], "entry 1 of the JSON is list of 1, not an object"),
    ({"a": {"b": {"c": [1, 2]}}}, "there are no features in it"),
    ("words", "this is text and no table"),
    ([[]], "the table has no rows"),
    ({"train": [], "test": []}, "the table has no rows"),
])  # fmt: skip
def test_other_json_is_refused(refused, value, words):
    assert words in refused(value)


def test_json_within_json_within_json(refused):
    value = dialogue(0)
    for _ in range(40):
        value = [value]
    assert "more than 20 lists and objects" in refused(value)
    for _ in range(40):
        value = {"scenes": value}
    refused(value)


# Numbers and text that name the same dialogue


@pytest.mark.parametrize("ids", [[1, "1", 1.0], [1.0, 1, "1"], ["1", "01", 1], ["1.0", "1", "1"], [1, "001", "1.00"]])
def test_a_number_and_its_text_name_one_dialogue(load, ids):
    read = load([utterance(0, t, dialogue_id=id) for t, id in enumerate([*ids, "02", "x"])])
    assert read.dialogue_ids == ("1", "02", "x")
    assert any("name the same dialogue" in note for note in read.notes) == (len(set(map(str, ids))) > 1)


def test_ids_of_one_spelling_stay(load):
    for ids in (["01", "1", "001"], [1.0, 2.0, 3.5], ["1.0", "2.0", "a"]):
        read = load([utterance(0, t, dialogue_id=id) for t, id in enumerate(ids)])
        assert read.dialogue_ids == tuple(map(str, ids))


def test_ids_that_pandas_made_floats_are_whole_numbers_again(load):
    for ids in (["1.0", "2.0", "3.0"], [1.0, 2.0, 3.0]):
        assert load([utterance(0, t, dialogue_id=id) for t, id in enumerate(ids)]).dialogue_ids == ("1", "2", "3")

"""Tables: what columns are called, what cells hold, and what is said of a table that cannot be read."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.data.readers import columns, tables
from ariigcn_jax.types import UNLABELED, UserError

ROOT = Path(__file__).resolve().parents[3]
HEAD = "Dialogue_ID,Utterance_ID,Speaker,Utterance,Emotion,split,text\n"
ROWS = ['0,1,Joey,"well, hi",joy,train,"[1, 2.5]"', "0,0,Ross,so,anger,train,3 -4e-1", "1,0,Joey,,,test,5;6"]


@pytest.fixture
def load(tmp_path):
    def read(content, name="x.csv", **options):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return corpus.load(tmp_path / name, **options)

    return read


@pytest.fixture
def refused(load):
    def message(content, **options):
        with pytest.raises(UserError) as caught:
            load(content, **options)
        return str(caught.value)

    return message


def test_columns_of_meld_and_forms_of_vectors(load):
    read = load(HEAD + "\n".join(ROWS))
    assert read.dialogue_ids == ("0", "1")
    assert read.transcript.tolist() == ["so", "well, hi", ""]  # Utterance_ID begins again in each dialogue: the turn
    assert read.speaker_names.tolist() == ["Ross", "Joey", "Joey"]
    assert read.features["text"].tolist() == [[3, np.float32(-0.4)], [1, 2.5], [5, 6]]
    assert read.label_names == ("anger", "joy") and read.label.tolist() == [0, 1, UNLABELED]


@pytest.mark.parametrize(
    "cell",
    [
        "[1, -2.5]",
        "[1 -2.5]",
        "array([1., -2.5], dtype=float32)",
        "tensor([1.0, -2.5])",
        "'[1, -2.5]'",
        "1,0 -2,5",
        "1;-2,5e0",
    ],
)
def test_vectors_as_people_write_them(load, cell):
    read = load(f'dialogue_id;label;text\na;0;"{cell}"\na;1;"[3, 4]"', valid_fraction=0, test_fraction=0)
    assert read.features["text"].tolist() == [[1, -2.5], [3, 4]]


def test_decimal_commas(load):
    read = load("dialogue_id;label;text_0;text_1\na;0;1,5;-2\na;1;3;4,25", valid_fraction=0, test_fraction=0)
    assert read.features["text"].tolist() == [[1.5, -2], [3, 4.25]]
    assert "numbers such as 1,5 were read with a decimal comma" in read.notes


def test_columns_passed_over_are_said(load):
    read = load(
        "dialogue_id,label,text_0,text_1,audio,,session_0\na,0,1,2,0.5,7,1\na,1,3,4,0.7,8,2",
        valid_fraction=0, test_fraction=0,
    )  # fmt: skip
    assert "ignored columns (no vectors, unknown names): `audio`, `(no name)`, `session_0`" in read.notes


def test_one_numbered_column_of_a_modality_is_a_vector(load):
    read = load("dialogue_id,label,visual_0\na,0,1\na,1,3", valid_fraction=0, test_fraction=0)
    assert read.features["visual"].tolist() == [[1], [3]]
    mixed = 'dialogue_id,label,visual_0,text,audio_0\na,0,1,"[1, 2]",5\na,1,3,"[1, 2]",5'
    assert load(mixed, valid_fraction=0, test_fraction=0).modalities == ("text", "visual", "audio")


def test_cell_that_is_nearly_a_vector_takes_no_time():
    cell = "1" + ",1" * 24 + " a"
    begun = time.process_time()
    assert tables._cell(cell) == cell
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
def test_delimiters(load, delimiter):
    lines = [["dialogue", "emotion", "text_0", "text_1"], ["a", "x", "1", "2"], ["b", "y", "3", ""]]
    read = load("\n".join(delimiter.join(line) for line in lines), valid_fraction=0, test_fraction=0)
    assert read.widths == {"text": 2}
    assert read.present["text"].tolist() == [True, False]


def test_byte_order_mark_and_other_encodings(load):
    assert load(("\ufeff" + HEAD + "\n".join(ROWS)).encode()).label_names == ("anger", "joy")
    words = (HEAD + "\n".join(ROWS)).replace("so", "schön – “5 €”")
    for encoding, name in (("cp1252", "Windows-1252"), ("utf-16", "UTF-16")):
        read = load(words.encode(encoding))
        assert read.transcript[0] == "schön – “5 €”"
        assert f"the table is not UTF-8 and was read as {name}" in read.notes


def test_numbers_as_labels(load):
    text = "dialogue_id,label,text_0,text_1\na,2,1,2\na,,1,2\na,-1,3,4\nb,0,5,6\n"
    read = load(text, valid_fraction=0, test_fraction=0)
    assert read.label.tolist() == [2, UNLABELED, UNLABELED, 0] and read.label_names == ("0", "1", "2")


def test_other_label_column(load):
    text = (
        "dialogue_id,emotion,Sentiment,text_0,text_1\na,joy,positive,1,2\nb,anger,negative,3,4\nb,anger,neutral,3,4\n"
    )
    read = load(text, label="sentiment", valid_fraction=0, test_fraction=0)
    assert read.label_names == ("neutral", "positive", "negative") and read.label.tolist() == [1, 2, 0]


def test_order_by_start_where_utterances_overlap(load):
    text = "dialogue_id,start,end,speaker,label,text_0,text_1\na,2.5,9,X,1,1,2\na,0,3,Y,0,3,4\na,2.5,4,Y,0,5,6\n"
    text += "b,1,2,X,1,7,8\n"
    read = load(text, valid_fraction=0, test_fraction=0)
    assert read.features["text"][:, 0].tolist() == [3, 1, 5, 7]
    assert any("stayed in the order of the file" in n for n in read.notes)


def test_known_labels_keep_the_fields_order():
    number, names = columns.numbered(["Sad", "Angry", "Happy", "", "Neutral", "Excited", "Frustrated"])
    assert names.tolist() == ["Happy", "Sad", "Neutral", "Angry", "Excited", "Frustrated"]
    assert number.tolist() == [1, 3, 0, -1, 2, 4, 5]
    assert columns.numbered(["b", "a"])[1].tolist() == ["a", "b"]


def test_vectors_in_files(load, tmp_path):
    np.save(tmp_path / "one.npy", np.arange(3.0))
    np.save(tmp_path / "two.npy", np.array([[1.0, 2, 3], [3, 4, 5]]))
    text = "dialogue_id,label,audio_file\na,0,one.npy\na,1,two.npy\nb,0,gone.npy\n"
    read = load(text, valid_fraction=0, test_fraction=0)
    assert read.features["audio"].tolist() == [[0, 1, 2], [2, 3, 4], [0, 0, 0]]
    assert read.present["audio"].tolist() == [True, True, False]
    where = f"1 file of audio is not there, such as `gone.npy`, looked for as {tmp_path / 'gone.npy'}"
    assert where in read.notes


def test_present(load):
    text = "dialogue_id,label,text_0,text_1,text_present\na,0,0,0,true\na,1,1,2,false\nb,1,1,2,True\n"
    assert load(text, valid_fraction=0, test_fraction=0).present["text"].tolist() == [True, False, True]


def test_features_one_level_deeper_and_gaps(load):
    made = [{"conversation_id": "a", "emotion": "x", "features": {"text": [1, 2], "audio": None}},
            {"conversation_id": "a", "emotion": "y", "features": {"text": [3, 4], "audio": [1.5, 2]}}]  # fmt: skip
    read = load(json.dumps(made), valid_fraction=0, test_fraction=0)
    assert read.widths == {"text": 2, "audio": 2} and read.present["audio"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2,3\n", "line 2 has 3 cells where the first line names 2 columns"),
        ("a,a\n1,2\n", "a column's name comes twice"),
        ('a,b\n1,"2\n', "line 2 cannot be read"),
        ("dialogue_id,label\n", "has no rows"),
        ("   \n ", "the file is empty"),
        ('{"a": 1', "the JSON is truncated or damaged"),
        ('{"a": 1}\n[2]x\n{"a": 1}', "line 2 is not JSON"),
        ("[1, 2]", "entry 0 of the JSON is int"),
        ('[{"dialogue_id": "a", "label": 0, "text": [1, 2]}, {"dialogue_id": "a", "label": 0, "text": [1]}]',
         "row 1 has 1 features where those before it have 2"),
        ('[{"dialogue_id": "a", "label": [[1]], "text": [1, 2]}]', "`label`, row 0"),
        ("dialogue_id,text_0,text_1,mood\na,1,2,x\n",
         "field `label`: is not there; the file has `dialogue_id`, `text`, `mood`."),
        ('d0,0,Ann,"[0.1, 0.2]"\nd0,1,Bob,"[0.3, 0.4]"\n', "the first line must name the columns, and it has '0'"),
        (",,\n", "the table has no rows"),
        ("@relation x\n@data\n", "this is text and no table: its first line, '@relation x'"),
        ("dialogue_id,label,text\na,0,[0.1 0.2 ... 0.9]\n", "`text`: '[0.1 0.2 ... 0.9]' is no list of numbers"),
        ("dialogue_id,label,text_0,text_1\na,1.5,1,2\n", "scores are learnt with data.task=regression"),
        ("label,text_0,text_1\n0,1,2\n", "field `dialogue_id`: is not there"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(refused, text, words):
    assert words in refused(text)


def test_each_split_counts_its_dialogues_from_0(tmp_path):
    for split in ("train", "dev", "test"):
        text = "Dialogue_ID,Utterance_ID,Emotion,text_0,text_1\n0,0,joy,1,2\n0,1,anger,1,3\n1,0,joy,1,2\n"
        (tmp_path / f"{split}_sent_emo.csv").write_text(text)
    read = corpus.load(tmp_path)
    assert read.dialogue_ids == ("train_0", "train_1", "dev_0", "dev_1", "test_0", "test_1")
    assert read.split.tolist() == ["train"] * 3 + ["valid"] * 3 + ["test"] * 3


# --- Where splits and dialogues are named -----------------------------------------------------------------------------

SPLITS = ("train", "dev", "test")
SCENES = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,text\n" + "".join(
    f"hm,A,{'joy' if t else 'fear'},{scene},{t + 1},1,{episode},{scene} {t}\n"
    for episode, scene in ((2, 1), (2, 2), (3, 1))
    for t in range(2)
)


@pytest.mark.parametrize("form", [
    "emorynlp_{}_final.csv", "a.{}.v2.csv", "corpus-{}-utterances.csv", "{}.csv", "{}_1.csv", "MELD_{}.csv",
    "{}/utterances.csv", "data/{}/x.csv", "only/{}.csv", "data/x_{}.csv", "{}_data.csv.feature", "x_{}_y.csv.txt",
])  # fmt: skip
@pytest.mark.parametrize("names", [SPLITS, ("trn", "val", "tst"), ("Training", "Development", "Testing")])
def test_names_of_splits_stand_anywhere_in_names_of_files(tmp_path, form, names):
    for name in names:
        path = tmp_path / form.format(name)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(SCENES)
    (tmp_path / "._x_train_y.csv").write_bytes(b"\0\5\x16\7")  # what macOS leaves beside a file
    read = corpus.load(tmp_path)
    assert read.split.tolist() == ["train"] * 6 + ["valid"] * 6 + ["test"] * 6
    assert len(read.dialogue_ids) == 9


def test_other_names_count_only_where_train_has_none_of_the_usual(tmp_path):
    others = ("a_test_b.csv", "a_train_b.csv", "training_log.csv", "dev.csv.bak", "tst.csv", "train.csv.bak")
    for name in ("train_sent.csv", "test_sent.csv", *others):
        (tmp_path / name).write_text(SCENES)
    assert corpus.load(tmp_path).notes[0] == "read as tables: train_sent.csv, test_sent.csv"
    (tmp_path / "none").mkdir()
    for name in ("constrained.csv", "latest.csv", "train.csv.gz", "test.csv.gz"):
        (tmp_path / "none" / name).write_text(SCENES.replace("Speaker", "who"))
    with pytest.raises(UserError, match="a folder, and of no layout"):
        corpus.load(tmp_path / "none")


def test_several_tables_of_one_split_are_read_where_they_are_shards(tmp_path):
    for split in ("train", "test"):
        for shard in range(2):
            rows = [[{"label": "xy"[t], "text": [shard, t]} for t in range(2)] for _ in range(2)]
            name = f"{split}-0000{shard}-of-00002.json"
            (tmp_path / name).write_text(json.dumps(rows))
    read = corpus.load(tmp_path, valid_fraction=0)
    assert len(read) == 16 and len(read.dialogue_ids) == 8  # dialogues without names stay apart
    (tmp_path / "more" / "train").mkdir(parents=True)
    for name in ("words.csv", "other.csv"):
        (tmp_path / "more" / "train" / name).write_text(SCENES)
    with pytest.raises(UserError, match="a folder, and of no layout"):
        corpus.load(tmp_path / "more")


def test_scenes_are_dialogues_where_nothing_else_is(load, tmp_path):
    read = load(SCENES, valid_fraction=0, test_fraction=0)
    assert read.dialogue_ids == ("1_2_1", "1_2_2", "1_3_1") and read.dialogue.tolist() == [0, 0, 1, 1, 2, 2]
    assert "there is no column `dialogue_id`: `Season`, `Episode`, `Scene_ID` say the dialogue" in read.notes
    assert not any("ignored" in note for note in read.notes)
    keys = SCENES.replace("Scene_ID,Utterance_ID", "SCENE,KEY")
    assert load(keys, valid_fraction=0, test_fraction=0).dialogue_ids == ("1_2_1", "1_2_2", "1_3_1")
    places = "id,scene,label,text\na,park,x,1 2\nb,park,y,3 4\n"
    assert load(places, valid_fraction=0, test_fraction=0).dialogue_ids == ("a", "b")
    named = SCENES.replace("Season,", "dialogue_id,")
    assert load(named, valid_fraction=0, test_fraction=0).dialogue_ids == ("1",)
    for split in SPLITS:
        (tmp_path / "splits").mkdir(exist_ok=True)
        (tmp_path / "splits" / f"{split}.csv").write_text(SCENES)
    read = corpus.load(tmp_path / "splits")
    assert read.dialogue_ids[:4] == ("train_1_2_1", "train_1_2_2", "train_1_3_1", "dev_1_2_1")
    assert sum("say the dialogue" in note for note in read.notes) == 1


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_that_begin_again_tell_dialogues(load, tmp_path, first):
    rows = "".join(f"{n + first},{'joy' if n else 'fear'},{n} 1\n" for length in (2, 3, 1, 2) for n in range(length))
    read = load(f"Utterance_ID,Emotion,text\n{rows}", valid_fraction=0, test_fraction=0)
    assert read.dialogue.tolist() == [0, 0, 1, 1, 1, 2, 3, 3]
    told = "a dialogue begins wherever `Utterance_ID` begins again, which makes 4 dialogues"
    assert f"there is no column `dialogue_id`: {told}" in read.notes
    for split in SPLITS:
        (tmp_path / "splits").mkdir(exist_ok=True)
        (tmp_path / "splits" / f"{split}.csv").write_text(f"Utterance_ID,Emotion,text\n{rows}")
    assert len(corpus.load(tmp_path / "splits").dialogue_ids) == 12


def test_numbers_that_do_not_begin_again_name_utterances(load, tmp_path):
    for ids in ("4 7 9 2", "1 1 2 2", "a b a c"):
        rows = "".join(f"{id},{'xy'[n % 2]},{n} 1\n" for n, id in enumerate(ids.split()))
        read = load(f"id,label,text\n{rows}", valid_fraction=0, test_fraction=0)
        assert read.dialogue_ids == tuple(dict.fromkeys(ids.split()))
    for split in SPLITS:
        (tmp_path / "splits").mkdir(exist_ok=True)
        (tmp_path / "splits" / f"{split}.csv").write_text("id,label,text\na,x,1 2\nb,y,2 3\n")
    assert corpus.load(tmp_path / "splits").dialogue_ids[:3] == ("train_a", "train_b", "dev_a")


# --- Columns of one name ----------------------------------------------------------------------------------------------

FEW = "\n".join(f"d{d},{t},{'glad' if t % 2 else 'calm'},calm,glad,f,m,{d}.5,{t},1" for d in range(4) for t in range(4))


def test_numbered_columns_do_not_take_the_place_of_the_column_they_belong_to(load):
    read = load(f"dialogue_id,turn,emotion,label_1,label_2,speaker_1,speaker_2,audio_0,audio_1,audio_2\n{FEW}")
    assert read.label_names == ("calm", "glad") and read.label.tolist() == [0, 1, 0, 1] * 4
    assert read.features["audio"][5].tolist() == [1.5, 1, 1]
    words = "\n".join(f"d{d},a,hm {t},{d}.5,{t}" for d in range(4) for t in range(3))
    read = load(f"dialogue_id,label,text,text_0,text_1\n{words}".replace("a,hm 0", "b,hm 0"))
    assert read.transcript.tolist() == ["hm 0", "hm 1", "hm 2"] * 4
    assert read.features["text"][4].tolist() == [1.5, 1]
    row = {"dialogue_id": "a", "text": "hm", "features": {"text": [1.0, 2.0]}}
    read = load(json.dumps([row | {"label": x} for x in "xyxy"]), "x.json", valid_fraction=0, test_fraction=0)
    assert read.transcript.tolist() == ["hm"] * 4 and read.features["text"].shape == (4, 2)


def test_numbered_columns_are_features_and_several_labels(load):
    rows = "\n".join(f"v{d},{'xy'[t % 2]},{d}.5,{t % 2},{t // 2}" for d in range(4) for t in range(4))
    read = load(f"video_id,label,video_0,video_1,video_2\n{rows}")  # `video` may name a dialogue, too
    assert read.widths == {"video": 3} and read.dialogue_ids == ("v0", "v1", "v2", "v3")
    for name, label in (("emotion", "label"), ("label", "emotion")):
        table = f"dialogue_id,{name},text,{label}_0,{label}_1\n"
        table += "\n".join(f'd{d},x,"[{d}, {t}]",{t % 2},{t // 2}' for d in range(4) for t in range(4))
        read = load(table, label=label, task="multilabel")
        assert read.target[:4].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]


def test_names_that_would_be_one_are_refused(refused):
    words = refused("dialogue_id,label,audio,audio_0,audio_1\na,x,a.wav,1,2")
    assert "the columns `audio` and `audio_0`, … would both be `audio`" in words


def test_not_a_number_is_nothing_in_json(load):
    rows = [{"dialogue_id": f"d{k // 4}", "speaker": x, "label": x, "text": [k, 1.5]} for k, x in enumerate("ab" * 8)]
    rows[3] |= {"label": float("nan"), "speaker": float("nan")}
    read = load(json.dumps(rows), "x.json")
    assert read.label_names == ("a", "b") and read.label[3] == UNLABELED and read.speaker_names[3] == ""


def test_lists_of_labels_are_sets(load):
    rows = [
        {"dialogue_id": f"d{k}", "emotions": [[], ["joy"], ["joy", "fear"]][k % 3], "text": [k, 1.5]} for k in range(12)
    ]
    read = load(json.dumps(rows), "x.json", label="emotions", task="multilabel")
    assert sorted(read.target_names) == ["fear", "joy"]
    assert read.target.sum(axis=1).tolist() == [0, 1, 2] * 4 and (read.label >= 0).all()


def test_negative_numbers_are_no_labels_and_said(load):
    read = load("dialogue_id,label,text\n" + "\n".join(f'd{k},{k % 3 - 1},"[{k}, 1]"' for k in range(12)))
    assert "`label`: 4 negative numbers count as no label" in read.notes


def test_an_id_that_comes_twice_is_no_turn(load):
    head, order = "dialogue_id,utterance_id,label,text", (4, 2, 7, 9, 5)
    rows = [f'd{d},{10 * d + k},{"xy"[k % 2]},"[{d}, {k}]"' for d in range(4) for k in order]
    rows[7] = rows[7].replace("d1,17", "d1,7")
    read = load("\n".join([head, *rows]))
    assert read.features["text"][:, 1].tolist() == list(order) * 4
    assert not any("turn" in note for note in read.notes)


def test_ratings_and_fields_of_ones_own(load):
    rows = [f'd{d},{"xy"[k % 2]},{k / 2},{"" if d else k},s{d % 2},"[{d}, {k}]"' for d in range(8) for k in range(4)]
    table = "\n".join(["dialogue_id,label,valence,arousal,session,text", *rows])
    read = load(table, ratings=("valence",), split="session=s1", valid_fraction=0.3)
    assert read.ratings.shape == (32, 1)
    assert {d for d, s in zip(read.dialogue, read.split, strict=True) if s == "test"} == {1, 3, 5, 7}
    numbered = table.replace(",s0,", ",1,").replace(",s1,", ",2,")
    assert np.array_equal(load(numbered, split="session=2", valid_fraction=0.3).split == "test", read.split == "test")
    zeros = table.replace(",s0,", ",01,").replace(",s1,", ",02,")
    assert np.array_equal(load(zeros, split="session=02", valid_fraction=0.3).split == "test", read.split == "test")


def test_further_columns_take_no_name_that_has_a_meaning(load):
    rows = [f'd{d},{"xy"[k % 2]},Ann,7,z,maybe,3,"[{d}, {k + 1}]"' for d in range(4) for k in range(4)]
    read = load("\n".join(["dialogue_id,label,speaker,Speaker,label_names,text_present,audio_length,text", *rows]))
    assert read.label_names == ("x", "y") and set(read.speaker_names) == {"Ann"} and read.present["text"].all()
    assert not any("reshape" in note for note in read.notes)


def test_other_layouts_do_not_wait_for_pandas(tmp_path):
    np.savez(tmp_path / "x.npz", dialogue_id=["a"], label=[0], text=np.ones((1, 2)))
    code = (
        "import sys; from ariigcn_jax import data; data.load(sys.argv[1], training=False); print(sorted(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.npz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'ariigcn_jax.data.readers.tables'" in done.stdout
    assert "'pandas'" not in done.stdout and "'pyarrow'" not in done.stdout


def test_lines_are_numbered_as_an_editor_numbers_them(refused):
    assert "line 4 is not JSON" in refused('{"a": 1}\n\n{"a": 1}\n{"a": \n')
    assert "line 5 has 1 cell" in refused('dialogue_id,text\na,"1\n2"\n\nb\n')


def test_ids_stay_as_they_are_written(load):
    read = load('dialogue_id,id,label,text\n007,1e3,None,"[1, 2]"\n007,NA,null,"[3, 4]"\n08,,nan,"[5, 6]"\n'
                '08,10000000000000001,x,"[5, 6]"\n', valid_fraction=0, test_fraction=0)  # fmt: skip
    assert read.dialogue_ids == ("007", "08") and read.utterance_ids == ("1e3", "NA", "", "10000000000000001")
    assert [read.label_names[label] for label in read.label] == ["None", "null", "nan", "x"]
    rows = [{"dialogue_id": "007", "id": 10**16 + 1, "label": "NA", "text": [1]}, {"id": None, "dialogue_id": 8}]
    read = load("\n".join(map(json.dumps, rows)) + "\n", training=False)
    assert read.dialogue_ids == ("007", "8") and read.utterance_ids == ("10000000000000001", "")
    assert read.label_names == ("NA",) and read.label.tolist() == [0, UNLABELED]


# --- What spreadsheets and other programs make of cells ---------------------------------------------------------------


def by_time(load, times, rows=3):
    """The rows of one dialogue in the order that the reader gives them, for their times in the file's order."""
    table = "\n".join(f'd,{"xy"[k % 2]},"{time}","[{k}, 1]"' for k, time in enumerate(times))
    read = load(f"dialogue_id,label,start_time,text\n{table}", valid_fraction=0, test_fraction=0)
    return read.features["text"][:, 0].tolist(), read.notes


@pytest.mark.parametrize(
    "times",
    [
        ["00:01:05,003", "00:00:03.795", "01:00:00,000"],
        ["1:05", "0:03.8", "61:00"],
        ["65,003", "3,795", "3600"],
        ["12:01:05 AM", "12:00:03 AM", "1:00:00 pm"],
        ["0 days 00:01:05.003000", "0 days 00:00:03", "1 days 00:00:00"],
        ["1 day, 0:00:05", "0:00:03", "2 days, 0:00:00"],
        ["1900-01-01 00:01:05", "1900-01-01 00:00:03.5", "1900-01-02 00:00:00"],
        ["2020-05-17T10:01:05", "2020-05-17T09:59:59", "2020-06-01T00:00:00"],
    ],
)
def test_clocks_are_times(load, times):
    assert by_time(load, times)[0] == [1, 0, 2]


def test_a_time_that_is_none_stays_after_the_row_before(load):
    order, notes = by_time(load, ["00:02:00", "", "NA", "00:01:00", "nan"])
    assert order == [3, 4, 0, 1, 2]
    assert "`start_time` is no time in 3 rows, which stay after the row before" in notes
    assert by_time(load, ["", "9", "5"])[0] == [0, 2, 1]
    order, notes = by_time(load, ["soon", "2020-13-01 00:00", ""])
    assert order == [0, 1, 2] and "`start_time` is a time in no row: the rows' order counts" in notes


def test_ids_that_pandas_made_floats(load):
    rows = [f'{d}.0,{t}.0,{"xy"[t % 2]},{t % 2}.0,"[{d}, {t}]"' for d in (10, 2) for t in (1, 0, 2)]
    read = load("\n".join(["Dialogue_ID,Utterance_ID,Emotion,Speaker,text", *rows]), valid_fraction=0, test_fraction=0)
    assert read.dialogue_ids == ("10", "2") and read.speaker_names.tolist() == ["0", "1", "0"] * 2
    assert read.features["text"][:, 1].tolist() == [0, 1, 2] * 2  # Utterance_ID is the turn
    kept = load('dialogue_id,id,label,text\n1.0,v1.0,x,"[1, 2]"\n1.10,v2,y,"[1, 2]"\n', training=False)
    assert kept.dialogue_ids == ("1.0", "1.10") and kept.utterance_ids == ("v1.0", "v2")


def test_numbers_and_text_that_name_one_dialogue(load):
    rows = [{"dialogue_id": name, "label": "x", "text": [1.5, 2]} for name in (3, "3", 3.0, "3.0", 4)]
    assert load(json.dumps(rows), "x.json", training=False).dialogue_ids == ("3", "4")


@pytest.mark.parametrize("cell", ["1.23457E+11", "1E+05", "3-Jan", "Mar-04", "#NAME?", "#REF!"])
def test_cells_that_a_spreadsheet_made_are_said(load, cell):
    rows = "".join(f'{name},x,"[1, {k}]"\n' for k, name in enumerate((cell, "a", cell)))
    read = load(f"dialogue_id,label,text\n{rows}", training=False)
    assert f"`dialogue_id` has 2 cells such as '{cell}', which a spreadsheet makes of numbers" in " ".join(read.notes)
    plain = load('dialogue_id,label,text\n1e5,x,"[1, 2]"\n3-Jane,x,"[1, 2]"\n', training=False)
    assert "spreadsheet" not in " ".join(plain.notes)


NOTHING = ["", "NA", "NaN", "None", "null", "n/a", "<NA>"]


@pytest.mark.parametrize("nothing", NOTHING)
def test_words_for_nothing_where_numbers_belong(load, nothing):
    rows = [f"d{k},{k % 2 if k % 4 else nothing},{nothing if k == 1 else k / 2},{nothing if k % 3 == 0 else '1 2'}"
            for k in range(12)]  # fmt: skip
    wide = [f"{row},{nothing if k == 2 else 3},{nothing if k == 2 else 4}" for k, row in enumerate(rows)]
    read = load(
        "\n".join(["dialogue_id,label,valence,text,audio_0,audio_1", *wide]),
        ratings=("valence",), valid_fraction=0, test_fraction=0,
    )  # fmt: skip
    assert read.label.tolist() == [-1, 1, 0, 1] * 3 and read.label_names == ("0", "1")
    assert read.present["text"].tolist() == [False, True, True] * 4
    assert read.present["audio"].tolist() == [k != 2 for k in range(12)]
    assert np.isnan(read.ratings).tolist() == [[k == 1] for k in range(12)]
    table = "\n".join(f"d{k},{nothing if k == 3 else k / 8},1 {k}" for k in range(12))
    scores = load(f"dialogue_id,label,text\n{table}", task="regression", valid_fraction=0, test_fraction=0)
    assert np.flatnonzero(scores.label == UNLABELED).tolist() == [3]


@pytest.mark.parametrize("name", ["None", "NA", "nan", "null", "N/A"])
def test_people_and_words_that_are_called_so(load, name):
    said = {"dialogue_id": "d", "speaker": name, "transcript": name}
    rows = [said | {"label": "xy"[k % 2], "text": [k, 1]} for k in range(4)]
    head, table = "dialogue_id,label,speaker,transcript,text\n", f"d,x,{name},{name},1 1\nd,y,{name},{name},2 1\n" * 2
    for read in (
        load(head + table, valid_fraction=0, test_fraction=0),
        load(json.dumps(rows), "x.json", valid_fraction=0, test_fraction=0),
    ):
        assert read.speaker_names.tolist() == read.transcript.tolist() == [name] * 4
    read = load(head + table.replace("d,x", f"d,{name}"), training=False)
    assert sorted(read.label_names) == sorted([name, "y"])
    assert f"`label` has the class {name!r}; where it means that there is no label, leave it empty" in read.notes


# --- Paths as another system writes them ------------------------------------------------------------------------------

PATHS = "dialogue_id,label,audio_file\n"


@pytest.mark.parametrize(
    "written",
    [
        "sub\\one.npy",
        ".\\sub\\one.npy",
        "sub\\\\one.npy",
        "sub/one.npy",
        "C:\\Users\\Ann\\data\\sub\\one.npy",
        "D:/data/sub/one.npy",
        "\\\\server\\share\\sub\\one.npy",
        "/mnt/ann/data/sub/one.npy",
    ],
)
def test_paths_of_other_systems(load, tmp_path, written):
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "one.npy", np.arange(3.0))
    read = load(f"{PATHS}a,0,{written}\na,1,{written}\n", valid_fraction=0, test_fraction=0)
    assert read.features["audio"].tolist() == [[0, 1, 2]] * 2


def test_paths_that_lead_to_no_file(load, tmp_path):
    np.save(tmp_path / "one.npy", np.arange(3.0))
    np.save(tmp_path / "odd\\name.npy", np.ones(3))
    rows = "a,0,one.npy\na,1,odd\\name.npy\na,1,C:\\one.npy\na,1,/gone/one.npy\na,1,None\n"
    read = load(f"{PATHS}{rows}", valid_fraction=0, test_fraction=0)
    assert read.features["audio"].tolist() == [[0, 1, 2], [1, 1, 1], [0] * 3, [0] * 3, [0] * 3]
    where = f"`C:\\one.npy`, looked for as {tmp_path / 'C:' / 'one.npy'}"
    assert f"2 files of audio are not there, such as {where}" in read.notes

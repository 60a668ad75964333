"""A manifest means what its documentation says, and says what is wrong with it."""

import numpy as np
import pytest

from ariigcn_jax.features import manifest
from ariigcn_jax.features.manifest import Clip
from ariigcn_jax.types import UserError


def read(tmp_path, text):
    path = tmp_path / "dialogues.csv"
    path.write_text(text, encoding="utf-8")
    return manifest.read(path)


def test_columns_become_fields(tmp_path):
    found = read(
        tmp_path,
        "dialogue_id,turn,utterance_id,speaker,start_s,end_s,transcript,label,label_name,split\n"
        'd,0,u0,Ann,0,1.5,"Hello, you",2,sad,train\n'
        "d,1,u1,Bob,1.25,2,,,,train\n"
        "e,0,u2,7,,,ça va,0,happy,dev\n",
    )
    fields = {name: values.tolist() for name, values in found.fields.items()}
    assert np.isnan(fields["start_s"].pop())
    assert np.isnan(fields["end_s"].pop())
    assert fields == {
        "dialogue_id": ["d", "d", "e"],
        "turn": [0, 1, 0],
        "utterance_id": ["u0", "u1", "u2"],
        "speaker": ["Ann", "Bob", "7"],
        "start_s": [0.0, 1.25],
        "end_s": [1.5, 2.0],
        "transcript": ["Hello, you", "", "ça va"],
        "label": [2, -1, 0],
        "label_names": ["happy", "1", "sad"],
        "split": ["train", "train", "valid"],
    }
    assert found.transcript == ("Hello, you", "", "ça va")


def test_turns_and_names_are_made_where_there_are_none(tmp_path):
    fields = read(tmp_path, "dialogue_id\na\nb\na\n").fields
    assert fields["turn"].tolist() == [0, 0, 1]
    assert fields["utterance_id"].tolist() == ["a_0", "b_0", "a_1"]
    assert fields["label"].tolist() == [-1, -1, -1]
    assert "split" not in fields


def test_label_names_alone_are_numbered_alphabetically(tmp_path):
    fields = read(tmp_path, "dialogue_id,label\na,sad\na,\nb,angry\nb,sad\n").fields
    assert fields["label"].tolist() == [1, -1, 0, 1]
    assert fields["label_names"].tolist() == ["angry", "sad"]


def test_other_columns_are_kept(tmp_path):
    fields = read(
        tmp_path,
        "dialogue_id,valence,room,mood,mood_name,nothing\na,2.5,kitchen,1,low,\na,,hall,0,high,\n",
    ).fields
    np.testing.assert_array_equal(fields["valence"], np.array([2.5, np.nan], np.float32))
    assert fields["room"].tolist() == ["kitchen", "hall"]
    assert fields["mood"].tolist() == [1, 0]
    assert fields["mood_names"].tolist() == ["high", "low"]
    assert "nothing" not in fields


def test_clips(tmp_path):
    (tmp_path / "a#1.wav").touch()
    found = read(
        tmp_path,
        "dialogue_id,start_s,end_s,audio,video\n"
        "a,1,2.5,s.wav,s.avi\n"
        "a,1,2.5,s.wav#t=0,\n"
        'a,1,2.5,,"s.avi#t=3&xywh=percent:50,0,50,100"\n'
        'a,,,a#1.wav,"s.avi#t=npt:4,5"\n',
    )
    s, v = str(tmp_path / "s.wav"), str(tmp_path / "s.avi")
    half = (0.5, 0.0, 0.5, 1.0)
    assert found.audio == (
        Clip(s, 1.0, 2.5),
        Clip(s, 0.0, None),
        Clip(v, 3.0, None, half),
        Clip(str(tmp_path / "a#1.wav"), None, None),
    )
    assert found.video == (Clip(v, 1.0, 2.5), None, Clip(v, 3.0, None, half), Clip(v, 4.0, 5.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dialogue,label\na,1\n", "no column `dialogue_id` among dialogue, label"),
        ("", "no column `dialogue_id` among none"),
        ("dialogue_id\n", "no rows"),
        ("dialogue_id,label\na,1\n,2\n", "line 3: `dialogue_id` = ''"),
        ("dialogue_id,label\na\n", "line 2 has 1 cell where the first line names 2 columns"),
        ("dialogue_id,dialogue_id\na,b\n", "a column twice"),
        ('dialogue_id\n"a\n', "line 2 cannot be read: unexpected end of data. A quotation mark"),
        ("dialogue_id\na\0\n", "zero bytes"),
        ("dialogue_id,start_s,end_s\na,1,1\n", "line 2: `end_s` = '1' is not after start_s"),
        ("dialogue_id,start_s\na,1\na,7 o'clock\n", 'line 3: `start_s` = "7 o\'clock" is no time'),
        ("dialogue_id,start_s\na,-1\n", "is no time"),
        ("dialogue_id,turn\na,1\na,two\n", "line 3: `turn` = 'two' is no number"),
        ("dialogue_id,split\na,train\nb,eval\n", "line 3: `split` = 'eval' is no split"),
        ("dialogue_id,split\na,train\na,test\n", "line 3: .* the dialogue 'a' began in train"),
        ("dialogue_id,label\na,1\na,1.5\n", "line 3: `label` = '1.5' is not whole"),
        ("dialogue_id,label,label_name\na,0,sad\na,0,glad\n", "line 3: .*'glad' here and 'sad' above"),
        ("dialogue_id,label,label_name\na,sad,sad\n", "line 2: `label` = 'sad' is no number"),
        ("dialogue_id,utterance_id\na,u\na,v\nb,u\n", "line 4: the utterance 'u' is named in line 2 already"),
        ("dialogue_id,audio\na,s.wav#x=1\n", "fragment that is not understood: x=1"),
        ('dialogue_id,audio\na,"s.wav#t=2,1"\n', "fragment that is not understood: t=2,1"),
        ('dialogue_id,video\na,"s.avi#xywh=percent:60,0,50,100"\n', "inside the picture"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("encoding", "name"), [("cp1252", "Windows-1252"), ("utf-16", "UTF-16"), ("gb18030", "GB18030"), ("utf-8", "")]
)
def test_every_encoding_is_read_and_said(tmp_path, encoding, name):
    words = "你好，张三" if encoding == "gb18030" else "café"
    (tmp_path / "x.csv").write_bytes(f"dialogue_id,transcript\na,{words}\n".encode(encoding))
    read = manifest.read(tmp_path / "x.csv")
    assert read.transcript == (words,)
    assert read.notes == ((f"the manifest is not UTF-8 and was read as {name}",) if name else ())


def test_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        manifest.read(tmp_path / "y.csv")


@pytest.mark.parametrize("path", ["wav\\s.wav", "C:\\data\\wav\\s.wav", "/mnt/ann/wav/s.wav", "wav/s.wav"])
def test_clocks_and_paths_of_other_systems(tmp_path, path):
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "s.wav").touch()
    found = read(tmp_path, f'dialogue_id,start_s,end_s,audio\na,00:00:03.5,"00:01:05,003",{path}\n')
    assert found.audio == (Clip(str(tmp_path / "wav/s.wav"), 3.5, 65.003),)


@pytest.mark.parametrize("words", ["a\rb", "a\u2028b", "a\x0bb", 'so "\n\n', "None", "NA"])
def test_words_of_any_kind_are_read_back(tmp_path, words):
    rows = [{"dialogue_id": "a", "transcript": words, "label": 1}, {"dialogue_id": "a", "transcript": "x", "label": 0}]
    manifest.write(tmp_path / "m.csv", rows)
    assert manifest.read(tmp_path / "m.csv").transcript == (words.strip(), "x")


def test_written_is_read_back(tmp_path):
    rows = [
        {
            "dialogue_id": "a",
            "transcript": 'so, "yes"\nno',
            "label": 0,
            "label_name": "sad",
            "start_s": 1.2345,
            "x": 2.5,
        },
        {"dialogue_id": "a", "transcript": "é", "label": None, "audio": tmp_path / "wav/b.wav", "x": None},
    ]
    path = tmp_path / "out/dialogues.csv"
    assert manifest.write(path, rows) == 2
    assert "speaker" not in path.read_text(encoding="utf-8").splitlines()[0]
    assert "../wav/b.wav" in path.read_text(encoding="utf-8")
    found = manifest.read(path)
    assert found.transcript == ('so, "yes"\nno', "é")
    assert found.fields["label"].tolist() == [0, -1]
    assert found.fields["start_s"][0] == np.float32(1.2345)
    assert found.fields["x"][0] == 2.5
    assert found.audio[1] == Clip(str(tmp_path / "out/../wav/b.wav"))

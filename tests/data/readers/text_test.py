"""Text of any encoding is decoded as it was written; only line ends end a line; a quotation mark loses no rows."""

import json

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.data.readers import conversations, text
from ariigcn_jax.types import UserError

WESTERN, CHINESE = "schön – “5 €”, café", "你好，张三。我今天很高兴"
MIXED = "café – ".encode() + b"it\x92s \x93so\x94 \xe9t\xe9" + " größer 你".encode()


def decoded(path):
    codec, name = text.encoding(path)
    with text.opened(path, codec) as file:
        return file.read(), name


@pytest.mark.parametrize(
    ("content", "words", "name"),
    [
        (WESTERN.encode(), WESTERN, ""),
        (WESTERN.encode("utf-8-sig"), WESTERN, ""),
        (CHINESE.encode(), CHINESE, ""),
        (WESTERN.encode("cp1252"), WESTERN, "Windows-1252"),
        (b"caf\xe9 \x81", "café \x81", "Windows-1252"),
        (MIXED, "café – it’s “so” été größer 你", "UTF-8 with signs of Windows-1252"),
        (CHINESE.encode("gb18030"), CHINESE, "GB18030"),
        (f"A: {CHINESE}𠮷".encode("gb18030"), f"A: {CHINESE}𠮷", "GB18030"),
        ("﻿{}".encode("utf-16-le"), "{}", "UTF-16"),
        ("﻿{}".encode("utf-16-be"), "{}", "UTF-16"),
        (f"{WESTERN} 张".encode("utf-16-le"), f"{WESTERN} 张", "UTF-16"),
        (f"{WESTERN} 张".encode("utf-16-be"), f"{WESTERN} 张", "UTF-16"),
        (f"{WESTERN} 张".encode("utf-32"), f"{WESTERN} 张", "UTF-32"),
    ],
)
def test_encodings(tmp_path, content, words, name):
    (tmp_path / "x.txt").write_bytes(content)
    assert decoded(tmp_path / "x.txt") == (words, name)


def test_other_alphabets_are_not_taken_for_chinese(tmp_path):
    for content in ("Привет, как дела".encode("cp1251"), "ÄÖÜ gefällt GRÖẞE".encode("cp1252", "ignore")):
        (tmp_path / "x.txt").write_bytes(content)
        assert decoded(tmp_path / "x.txt")[1] == "Windows-1252"


@pytest.mark.parametrize("shift", range(4))
def test_characters_between_two_blocks_of_a_file(tmp_path, shift):
    content = b"\x92" + b"x" * shift + "é你".encode() * 20_000
    (tmp_path / "x.txt").write_bytes(content)
    assert decoded(tmp_path / "x.txt")[0] == "’" + "x" * shift + "é你" * 20_000


def test_text_that_begins_as_utf16_and_is_damaged(tmp_path):
    (tmp_path / "x.csv").write_bytes("a,b\n1,2\n".encode("utf-16") + b"\n")
    with pytest.raises(UserError, match="cannot be read as text: 'utf-16-le' codec"):
        corpus.load(tmp_path / "x.csv")


ROW = {"speaker": "张三", "transcript": "“café”\u2028so", "features": {"text": [1, 2]}}


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "gb18030", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_json_lines_of_any_encoding(tmp_path, codec, end):
    content = "".join(json.dumps(ROW, ensure_ascii=False) + end for _ in range(2))
    (tmp_path / "c.jsonl").write_bytes(content.encode(codec))
    read = conversations.read_jsonl(tmp_path / "c.jsonl")
    assert read.transcript.tolist() == ["“café”\u2028so"] * 2 and read.speaker_names.tolist() == ["张三"] * 2


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl"])
def test_tables_of_any_encoding(tmp_path, codec, name):
    rows = [{"dialogue_id": "d", "label": "喜", "transcript": f"你好，{k}", "text": [k, 1]} for k in range(3)]
    content = {
        "x.csv": "dialogue_id,label,transcript,text\n" + "".join(f"d,喜,你好，{k},{k} 1\n" for k in range(3)),
        "x.json": json.dumps(rows, ensure_ascii=False),
        "x.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
    }[name]
    (tmp_path / name).write_bytes(content.encode(codec))
    read = corpus.load(tmp_path / name, valid_fraction=0, test_fraction=0)
    assert read.label_names == ("喜",) and read.transcript.tolist() == ["你好，0", "你好，1", "你好，2"]


def test_lines():
    assert text.lines("a\u2028\u2029b\vc\fd\x85e\x1cf\r\ng\rh\n") == ["a\u2028\u2029b\vc\fd\x85e\x1cf", "g", "h"]
    assert text.lines("") == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_end_at_line_ends_alone(tmp_path, end):
    words = ["a\u2028b", "a\u2029b", "a\vb", "a\fb", "a\x1cb"]
    lines = ["dialogue_id,label,transcript,text_0", *(f"d,{k},{w},{k}" for k, w in enumerate(words))]
    (tmp_path / "x.csv").write_bytes(end.join(lines).encode())
    assert corpus.load(tmp_path / "x.csv", valid_fraction=0, test_fraction=0).transcript.tolist() == words


HEAD = "dialogue_id,turn,label,transcript,audio_0,audio_1\n"
TAKEN, CLOSED = 'd0,0,joy,"Oh,1,2\nd0,1,sad,', "line 2 cannot be read: ',' expected after '\"'. A quotation mark"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (TAKEN + 'so,2,3\nd1,0,joy,5\'10",4,5\nd2,0,joy,x,6,7\n', "line 2 takes in the rows down to line 4"),
        ('d0,0,joy,hm,1,2\nd0,1,sad,"so,2,3\nd1,0,joy,hm",4,5\n', "line 3 takes in the rows down to line 4"),
        (TAKEN + '"so, well",2,3\n', CLOSED),
        ('d0,0,joy,hm,1,2\nd0,1,sad,"so,2,3\n' + "d1,0,joy,hm,4,5\n" * 50, "line 3 cannot be read: unexpected end"),
    ],
)  # fmt: skip
def test_a_quotation_mark_that_takes_in_rows_is_said(tmp_path, rows, words):
    (tmp_path / "x.csv").write_text(HEAD + rows)
    with pytest.raises(UserError) as caught:
        corpus.load(tmp_path / "x.csv")
    assert words in str(caught.value) and "is written twice" in str(caught.value)


def test_words_of_several_lines_are_no_rows(tmp_path):
    words = ["Well, hi\nso, what", "one, 2\n3, four\n5, 6\n", "a\r\n\r\nb, c", 'he said "so"\nd0, 7']
    cells = [word.replace('"', '""') for word in words]
    rows = "".join(f'd{k},"{cell}",{k}.5\n' for k, cell in enumerate(cells))
    (tmp_path / "x.csv").write_bytes(f"dialogue_id,transcript,label,text_0\n{rows}".replace(".5\n", ",0.5\n").encode())
    read = corpus.load(tmp_path / "x.csv", training=False)
    assert read.transcript.tolist() == words


def test_a_line_of_excel_names_the_separator(tmp_path):
    (tmp_path / "x.csv").write_text("sep=;\ndialogue_id;label;text\na;0;1,5 2\na;1;3 4\nb;0\n")
    with pytest.raises(UserError, match="line 5 has 2 cells where the first line names 3 columns"):
        corpus.load(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("sep=;\ndialogue_id;label;text\na;0;1,5 2\na;1;3 4\n")
    read = corpus.load(tmp_path / "x.csv", valid_fraction=0, test_fraction=0)
    np.testing.assert_array_equal(read.features["text"], [[1.5, 2], [3, 4]])


def test_tables_that_are_read_side_by_side_may_have_long_cells(tmp_path):
    cells = {"short.csv": "b", "long.csv": "b" * 200_000}
    for name, cell in cells.items():
        (tmp_path / name).write_text(f"a\n{cell}\n{cell}\n")
    first, second = (text.csv_rows(tmp_path / name, "utf-8") for name in cells)
    for rows in (first, second):
        next(rows)
    assert len(list(first)) == 2
    assert [len(row[0]) for _, row in second] == [200_000, 200_000]

"""Conversations as people have them: who says what, and when, in each form; and what is refused."""

import json
import time

import numpy as np
import pytest

from ariigcn_jax import data as corpora
from ariigcn_jax.data.readers import chat, layouts, subtitles, transcripts
from ariigcn_jax.types import UserError
from tests.support import spoken_files

NAN = float("nan")


def read(path):
    """The fields of a file, in the order of its rows."""
    return layouts.read_fields(path, words=True)


def turns_of(path):
    """(speaker, words) of each turn."""
    fields = read(path)
    said = fields.arrays["transcript"].tolist()
    return list(zip(fields.arrays.get("speaker", np.full(len(said), "")).tolist(), said, strict=True))


def times_of(path):
    arrays = read(path).arrays
    return [arrays[name].tolist() for name in ("start_s", "end_s") if name in arrays]


CHATS = {
    "a line a turn, and lines that go on": (
        "Ann: I can't believe it.\nNot at all\n\nBob:Sorry\nBob: Sorry!\n",
        [("Ann", "I can't believe it.\nNot at all\n\nBob:Sorry"), ("Bob", "Sorry!")],
    ),
    "colons that are in sentences and links": (
        "Ann: see\nhttps://x.org: here\nhere is the thing: no\nSo what: ok\nat 12:30\nNote: bring cake\nBob: ok: fine",
        [("Ann", "see\nhttps://x.org: here\nhere is the thing: no\nSo what: ok\nat 12:30\nNote: bring cake"),
         ("Bob", "ok: fine")],
    ),
    "names of all kinds": (
        "Dr. Smith: a\nJean-Luc O'Brien: b\nspeaker 1: c\nSPEAKER_00: d\nLudwig van Beethoven: e\nAnn (Sales): f\n"
        "小明：g\nआन: h\n[Bob]: i\n[Cid] j\nAnn Bob Cid Dan Eve: k",
        [("Dr. Smith", "a"), ("Jean-Luc O'Brien", "b"), ("speaker 1", "c"), ("SPEAKER_00", "d"),
         ("Ludwig van Beethoven", "e"), ("Ann (Sales)", "f"), ("小明", "g"), ("आन", "h"), ("Bob", "i"),
         ("Cid", "j\nAnn Bob Cid Dan Eve: k")],
    ),
    "names without capitals, where all are": ("me: hi\nyou: so: what\n", [("me", "hi"), ("you", "so: what")]),
    "names with capitals": ("Me: hi\nso: what\n", [("Me", "hi\nso: what")]),
    "a title": ("A chat of two\n\nAnn: hi", [("Ann", "hi")]),
    "a turn without words": ("Ann:\nBob: \nAnn: hi", [("Ann", ""), ("Bob", ""), ("Ann", "hi")]),
    "a stage direction": ("Ann: hi\n[Laughs] well\n(Bob leaves)", [("Ann", "hi\n[Laughs] well\n(Bob leaves)")]),
    "brackets at the beginning of the file": ("(laughs)\nAnn: hi", [("Ann", "hi")]),
    "whatsapp": (
        "[12/03/2024, 14:05:33] Ann: Hi: you\nagain\n"
        "[12/03/2024, 14:05:34] Messages are end-to-end encrypted.\nand more\n"
        "\u200e[12/03/2024, 14:06:33] Bob: \u200eimage omitted\n[13/03/2024, 14:06:33] ~ Cid: <Media omitted>\n"
        "[13/03/2024, 14:06:33] Cid: \u200eBild weggelassen\n"
        "[13/03/2024, 14:06:34] Bob: IMG-1.jpg (file attached)\nlook\n[13/03/2024, 14:06:35] Bob: no <b>\n",
        [("Ann", "Hi: you\nagain"), ("Bob", ""), ("Cid", ""), ("Cid", ""), ("Bob", "look"), ("Bob", "no <b>")],
    ),
    "whatsapp of another phone": (
        '3/12/24, 2:05\u202fpm - Ann created group "Trip: us"\n'
        "3/12/24, 2:05\u202fPM - Ann: x <This message was edited>\n"
        "3/13/24, 9:00\u202fAM - +49 170 12: This message was deleted\n3/13/24, 9:01\u202fAM - B: y\n",
        [("Ann", "x"), ("+49 170 12", ""), ("B", "y")],
    ),
    "whatsapp in German": ("12.03.24, 14:05 - Ann: a\n13.03.24, 14:05 - Bob: <Medien ausgeschlossen>",
                           [("Ann", "a"), ("Bob", "")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHATS)
def test_chats(name, tmp_path):
    content, expected = CHATS[name]
    (tmp_path / "call.txt").write_text(content, encoding="utf-8")
    assert turns_of(tmp_path / "call.txt") == expected


def test_lines_that_are_no_turns_are_told(tmp_path):
    (tmp_path / "call.txt").write_text("A chat\n\nof two\nAnn: hi\n")
    assert read(tmp_path / "call.txt").notes == [
        "1 turn of 1 speaker, words; no sound",
        "2 lines before the first turn left out",
    ]
    (tmp_path / "call.txt").write_text("12/03/24, 14:05 - Ann left\n12/03/24, 14:06 - Ann: hi\n")
    assert read(tmp_path / "call.txt").notes[1:] == ["1 line of the messenger itself left out"]


def test_a_table_may_be_called_txt(tmp_path):
    (tmp_path / "call.txt").write_text("speaker\ttext\nAnn\tBob: no\n")
    assert turns_of(tmp_path / "call.txt") == [("Ann", "Bob: no")]


def test_times_of_chats(tmp_path):
    path = tmp_path / "call.txt"
    path.write_text(
        "Ann (00:01:05): a\nBob [1:07]: b\n[00:01:10.5] Ann: c\n00:02:00 Bob: d\n[00:03 - 00:05] Ann: e\nB: f"
    )
    assert [speaker for speaker, _ in turns_of(path)] == ["Ann", "Bob", "Ann", "Bob", "Ann", "B"]
    start, end = times_of(path)
    np.testing.assert_equal(start, [65, 67, 70.5, 120, 3, NAN])
    np.testing.assert_equal(end, [NAN, NAN, NAN, NAN, 5, NAN])
    assert turns_of(path)[4] == ("Ann", "e")  # in the order of the file


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (("[12/03/2024, 23:59:30] ", "[13/03/2024, 00:00:30] "), [0, 60]),
        (("3/12/24, 11:59 pm - ", "3/13/24, 12:01 am - "), [0, 120]),  # the month first, as there is no month 13
        (("01/02/24, 10:00 - ", "02/01/24, 10:00 - "), [0, 30 * 86400]),  # days first would go back
        (("2024-02-28, 10:00 - ", "2024-03-01, 10:00 - "), [0, 2 * 86400]),
        (("12.03.24, 14:05 - ", "13.03.24, 14:05 - "), [0, 86400]),
        (("31/31/24, 10:00 - ", "02/01/24, 10:00 - "), None),
        (("01/01/24, 25:00 - ", "02/01/24, 10:00 - "), None),
    ],
)
def test_times_of_exports(stamps, expected, tmp_path):
    (tmp_path / "call.txt").write_text("".join(f"{stamp}Ann: a\n" for stamp in stamps))
    assert times_of(tmp_path / "call.txt") == ([expected] if expected else [])


CUE = "{}\n00:00:0{},000 --> 00:00:0{},500\n{}\n\n"
SUBTITLES = {
    "names": (
        ["ANN: Hello\nthere\nBOB: hey", "[Ann] ok\n[laughs] what", "[SPEAKER_00]: yes", "so"],
        [("ANN", "Hello there"), ("BOB", "hey"), ("Ann", "ok [laughs] what"), ("SPEAKER_00", "yes"),
         ("SPEAKER_00", "so")],
    ),
    "names in small letters": (["Ann: Hello", "Bob: hey"], [("Ann", "Hello"), ("Bob", "hey")]),
    "sentences with a colon": (["Look: a bird", *"abc"], [("", "Look: a bird"), *(("", said) for said in "abc")]),
    "dashes": (
        ["Well", "- Hi.\n- Hello\nyou.", "- How?", "-5 degrees"],
        [("1", "Well"), ("2", "Hi."), ("1", "Hello you."), ("2", "How?"), ("2", "-5 degrees")],
    ),
    "dashes and names": (["- ANN: Hi.\n- Hello.\n- BOB: hey"], [("ANN", "Hi."), ("", "Hello."), ("BOB", "hey")]),
    "tags and entities": (
        ["<i>a</i> &amp; <font color='x'>b</font>{\\an8} &lt;3 I <3 you"], [("", "a & b <3 I <3 you")],
    ),
    "nothing said": (["ANN: a", "", "b"], [("ANN", "a"), ("ANN", ""), ("ANN", "b")]),
}  # fmt: skip


@pytest.mark.parametrize("name", SUBTITLES)
def test_subrip(name, tmp_path):
    cues, expected = SUBTITLES[name]
    content = "".join(CUE.format(n, n, n, said) for n, said in enumerate(cues, start=1))
    for written in (content, "\ufeff\n" + content.replace("\n", "\r\n"), content.replace("\n\n", "\n\n\n")):
        (tmp_path / "call.srt").write_bytes(written.encode())
        assert turns_of(tmp_path / "call.srt") == expected
    (tmp_path / "call.srt").write_text("".join(CUE.format(*cue) for cue in ((1, 5, 6, "b"), (2, 1, 2, "a"))))
    assert times_of(tmp_path / "call.srt") == [[1, 5], [2.5, 6.5]]  # a cue that comes late in the file


def test_subrip_with_blank_lines_where_none_belong(tmp_path):
    (tmp_path / "call.srt").write_text(
        "1\n00:00:01,000 --> 00:00:02,000 X1:40\na\n2\n00:00:03,000 --> 00:00:04,000\nb\n\nc\n\n"
        "3\n00:00:05,000 --> 00:00:06,000\n7\n"
    )
    assert [words for _, words in turns_of(tmp_path / "call.srt")] == ["a", "b c", "7"]


def test_what_stands_outside_of_cues_is_told(tmp_path):
    (tmp_path / "call.srt").write_text("1\n00:00:0x,000 --> 00:00:02,000\nlost\n\n" + CUE.format(2, 3, 4, "b"))
    (tmp_path / "call.vtt").write_text("WEBVTT\nKind: x\n\nlost\n\nNOTE\nno\n\n00:03.000 --> 00:04.000\nb\n\nlost")
    for name, lines in (("call.srt", 3), ("call.vtt", 2)):
        assert turns_of(tmp_path / name) == [("", "b")]
        assert f"{lines} lines outside of any cue left out" in read(tmp_path / name).notes


def test_webvtt(tmp_path):
    path = tmp_path / "call.vtt"
    path.write_text(
        "WEBVTT - a title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE Ann: no\nno\n\nfirst\n"
        "00:01.000 --> 00:02.000 align:start position:0%\n<v.loud Ann>Hi <b>you</b></v>\nyou two\n"
        "<v Bob &amp; Cid>hey</v>\n\n"
        "REGION\nid:x\n\n01:00:03.000 --> 01:00:04.000\n<v Ann></v>\n"
    )
    assert turns_of(path) == [("Ann", "Hi you you two"), ("Bob & Cid", "hey"), ("Ann", "")]
    assert times_of(path) == [[1, 1, 3603], [2, 2, 3604]]


def test_captions_that_roll_say_each_line_once(tmp_path):
    (tmp_path / "call.vtt").write_text(
        "WEBVTT\n\n00:01.000 --> 00:02.000\noh<00:01.500><c> no</c>\n\n00:02.000 --> 00:02.010\noh no\n\n"
        "00:02.010 --> 00:04.000\noh no\nreally<00:03.000><c> not</c>\n"
    )
    assert [words for _, words in turns_of(tmp_path / "call.vtt")] == ["oh no", "really not"]


def word(said, speaker=None, start=None, end=None):
    return {k: v for k, v in dict(word=said, speaker=speaker, start=start, end=end).items() if v is not None}


def test_a_segment_is_split_where_its_words_change_speaker(tmp_path):
    mixed = [
        word("Oh"),
        word("no.", "A", 0.5, 1),
        word("2", end=1.2),
        word("Really?", "B", 1.5, 2),
        word("Yes", "A", 2, 2.5),
    ]
    made = [
        {"start": 0.0, "end": 3.0, "text": " Oh no. 2  Really? Yes!", "speaker": "A", "words": mixed},
        {"start": 3.0, "end": 4.0, "text": "我走了", "words": [word("我", "A"), word("走", "B"), word("了", "B")]},
        {"start": 4.0, "end": 5.0, "text": " Not known ", "words": [word("Not"), word("known")]},
        {"start": 5.0, "end": 6.0, "text": "a b", "words": [word("x", "A"), word("b", "B")]},  # another spelling
        {"start": 6.0, "end": 7.0, "text": "", "speaker": "B"},
        {"text": None},
    ]
    path = tmp_path / "call.json"
    path.write_text(json.dumps({"segments": made, "word_segments": mixed, "language": "en"}))
    expected = [("A", "Oh no. 2"), ("B", "Really?"), ("A", "Yes!"), ("A", "我"), ("B", "走了"), ("", "Not known")]
    assert turns_of(path) == [*expected, ("A", "a"), ("B", "b"), ("B", ""), ("", "")]
    start, end = times_of(path)
    np.testing.assert_equal(start[:5], [0, 1.5, 2, 3, NAN])
    np.testing.assert_equal(end[:5], [1.2, 2, 2.5, NAN, 4])


def test_funasr_with_one_recording_and_with_several(tmp_path):
    path, made = tmp_path / "call.json", spoken_files.sentences(spoken_files.TURNS)
    for value in (made, made[0]):
        path.write_text(json.dumps(value))
        assert turns_of(path) == spoken_files.TURNS
        assert times_of(path) == [[0, 2, 4, 6], [2, 4, 6, 8]]
    other = [{"sentence_info": [{"sentence": "你好", "spk": 0}]}]
    path.write_text(json.dumps([*made, *other]))
    assert set(read(path).arrays["dialogue_id"].tolist()) == {"call_call", "call_1"}
    assert turns_of(path)[-1] == ("0", "你好")


def test_rttm_says_who_speaks_longest_where_the_transcript_does_not(tmp_path):
    path = tmp_path / "call.srt"
    path.write_text("".join(CUE.format(n, n, n, said) for n, said in enumerate(("a", "b", "c", "BOB: d"), start=1)))
    spans = [("X", 0.9, 0.3), ("Y", 1.2, 0.25), ("Y", 1.0, 0.1), ("Z", 1.45, 0.02), ("X", 2.0, 0.2), ("X", 2.05, 0.2),
             ("Y", 2.2, 0.3), ("Z", 4.0, 1.0), ("Z", 9, 1)]  # fmt: skip
    written = [f"SPEAKER call 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n" for who, start, length in spans]
    (tmp_path / "call.rttm").write_text(";; made by hand\n" + "".join(written) + "SPKR-INFO call 1\n")
    # in the first cue Y speaks for 0.35 and X for 0.2, in the second one X's spans are 0.25 together, and Y's is 0.3
    assert turns_of(path) == [("Y", "a"), ("Y", "b"), ("", "c"), ("BOB", "d")]
    assert "call.rttm says who speaks in 2 turns" in read(path).notes
    with pytest.raises(UserError, match="this is RTTM, which says who speaks when, but no words"):
        read(tmp_path / "call.rttm")
    for content, message in (
        ("no\n", "call.rttm: no line says who speaks"),
        ("".join(f"SPEAKER c 1 0 1 <NA> <NA> {n} <NA> <NA>\n" for n in range(300)), "has 300 speakers"),
        (b"\xff\xfe\x00", "call.rttm: cannot be read as text"),
    ):
        (tmp_path / "call.rttm").write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError, match=message):
            read(path)


ENCODED = "Ann: größer’s Café\nBob: naïve\n"


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_encodings(codec, tmp_path):
    (tmp_path / "call.txt").write_bytes(ENCODED.encode(codec))
    assert turns_of(tmp_path / "call.txt") == [("Ann", "größer’s Café"), ("Bob", "naïve")]
    (tmp_path / "call.srt").write_bytes(CUE.format(1, 1, 2, ENCODED.strip()).encode(codec))
    assert turns_of(tmp_path / "call.srt") == [("Ann", "größer’s Café"), ("Bob", "naïve")]
    if codec != "cp1252":
        made = {"segments": [{"start": 0, "text": "größer’s", "speaker": "Bob"}]}
        (tmp_path / "call.json").write_bytes(json.dumps(made, ensure_ascii=False).encode(codec))
        assert turns_of(tmp_path / "call.json") == [("Bob", "größer’s")]


def test_chinese_of_an_older_encoding(tmp_path):
    (tmp_path / "call.txt").write_bytes("小明：你好，你在吗？\n小红：再见\n".encode("gb18030"))
    assert turns_of(tmp_path / "call.txt") == [("小明", "你好，你在吗？"), ("小红", "再见")]
    assert "it is not UTF-8 and was read as GB18030" in read(tmp_path / "call.txt").notes


def test_a_folder_of_conversations(tmp_path):
    files = {
        "a.txt": "Ann: x\nBob: y\n", "b.srt": CUE.format(1, 1, 2, "ANN: z"), "b.txt": "ANN: z",
        "b.rttm": "SPEAKER b 1 0 1 <NA> <NA> X <NA> <NA>\n", "g.txt": "a poem\nof two lines",
        "c.csv": "speaker,text,emotion\nAnn,w,sad\nBob,,\n", "d.csv": "x,y\n1,2\n", "README.txt": "Ann: no",
        "e.json": json.dumps(spoken_files.segments([("Ann", "v")])), ".f.txt": "Ann: no",
        "h.jsonl": spoken_files.lines(spoken_files.rows([("A", "s")], words="utterance", Dialogue_ID=[7])),
        "i.csv": "Speaker,Utterance,StartTime,id\nA,second,00:00:09,1\nA,first,00:00:01,0\n",
        "j.csv": "speaker,text,label,start\nA,last,,\n",
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    corpus = corpora.load(tmp_path, training=False, words=True)
    assert corpus.dialogue_ids == ("a", "b", "c", "e", "h_7", "i", "j")
    assert corpus.transcript.tolist() == ["x", "y", "z", "w", "", "v", "s", "first", "second", "last"]
    assert [corpus.label_names[k] for k in corpus.label if k >= 0] == ["sad"]
    assert corpus.notes[0] == "10 turns of 9 speakers in 7 conversations, words of 9 and times; no sound"
    assert corpus.utterance_ids[-3:] == ("i_0", "i_1", "j_0")
    assert not any("utterance_id" in note for note in corpus.notes)
    assert "left out of the folder: `README.txt`, `b.txt`, `d.csv`, `g.txt`" in corpus.notes


TABLES = {  # of copies on the Hugging Face hub, and of people
    "MELD": (
        {"Utterance": ["a", "b", "c"], "Speaker": ["Joey", "Ross", "Joey"], "Emotion": ["joy", "anger", "joy"],
         "Dialogue_ID": ["0", "0", "1"], "Utterance_ID": ["1", "0", "0"]},
        ("0", "1"), ["Ross", "Joey", "Joey"], ["b", "a", "c"],
    ),
    "MELD by its files": (
        {"path": ["train/dia0_utt1.mp4", "train/dia0_utt0.mp4", "dev/dia0_utt0.mp4"], "text": ["a", "b", "c"],
         "emotion": ["joy", "joy", "joy"]}, ("train/dia0", "dev/dia0"), None, ["b", "a", "c"],
    ),
    "IEMOCAP by its files": (
        {"file": ["Ses01F_impro01_F000.wav", "Ses01F_impro01_M000.wav", "Ses05M_script01_1b_MXX0.wav"],
         "transcription": ["a", "b", "c"], "major_emotion": ["sad", "sad", "sad"]},
        ("Ses01F_impro01", "Ses05M_script01_1b"), ["F", "M", "M"], ["a", "b", "c"],
    ),
    "IEMOCAP with times": (
        {"titre": ["Ses01F_impro01_F000", "Ses01F_impro01_M000"], "to_translate": ["b", "a"], "emotion": ["x", "y"],
         "start_time": [7.5, 1.0], "end_time": [9, 3]}, ("Ses01F_impro01",), ["M", "F"], ["a", "b"],
    ),
    "no dialogues": ({"Speaker Name": ["A", "B"], "message": ["a", "b"]}, ("table",), ["A", "B"], ["a", "b"]),
    "words that are numbers": ({"speaker": ["A", "B"], "text": ["1, 2", "so"]}, ("table",), ["A", "B"], ["1, 2", "so"]),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("name", TABLES)
def test_names_of_columns(name, suffix, tmp_path):
    made, dialogues, speakers, words = TABLES[name]
    path = tmp_path / f"table{suffix}"
    rows = [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)]
    if suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), path)
    else:
        path.write_text(spoken_files.table(rows) if suffix == ".csv" else spoken_files.lines(rows))
    corpus = corpora.load(path, training=False, words=True)
    assert corpus.dialogue_ids == dialogues and corpus.transcript.tolist() == words
    assert (None if corpus.speaker_names is None else corpus.speaker_names.tolist()) == speakers
    assert corpus.notes[0].startswith(f"{len(words)} turns ") and (corpus.label >= 0).any() == (
        "emotion" in str(made).lower()
    )


def test_files_of_one_name_in_two_splits_are_two_dialogues(tmp_path):
    for split in ("train", "test"):
        rows = [{"file": f"dia0_utt{n}.wav", "text": f"{split} {n}", "emotion": "joy"} for n in (1, 0)]
        (tmp_path / f"{split}.jsonl").write_text(spoken_files.lines(rows))
    corpus = corpora.load(tmp_path, words=True)
    assert corpus.dialogue_ids == ("train_dia0", "test_dia0")
    assert corpus.transcript.tolist() == ["train 0", "train 1", "test 0", "test 1"]


def test_rows_of_several_splits_are_no_single_conversation(tmp_path):
    rows = [{"speaker": "A", "text": "a", "label": "x", "split": split} for split in ("train", "test")]
    (tmp_path / "x.jsonl").write_text(spoken_files.lines(rows))
    with pytest.raises(UserError, match="field `dialogue_id`: is not there"):
        corpora.load(tmp_path / "x.jsonl", words=True)


def test_numbers_in_a_column_called_text_are_no_words(tmp_path):
    for cells in (["0.5 1", "2 3"], ["[1, 2]", "[3, 4]"], ["", "array([1., 2.])"]):
        rows = [{"dialogue_id": "a", "speaker": "A", "text": cell} for cell in cells]
        (tmp_path / "x.csv").write_text(spoken_files.table(rows))
        fields = read(tmp_path / "x.csv")
        assert fields.arrays["text"].shape == (2, 2) and "transcript" not in fields.arrays
    (tmp_path / "x.csv").write_text("dialogue_id,speaker,text\na,A,5\na,B,7.5\n")
    with pytest.raises(UserError, match="there are no features in it"):
        read(tmp_path / "x.csv")


@pytest.mark.parametrize("form", ["chat", "srt", "vtt", "whisperx", "funasr"])
def test_learning_needs_labels_and_a_model_features_or_words(form, tmp_path):
    path = spoken_files.write(tmp_path)[form]
    with pytest.raises(
        UserError, match=r"have no labels to learn from. Write a table .*dialogue_id,speaker,transcript,label"
    ):
        corpora.load(path, words=True)
    with pytest.raises(UserError, match=r"there are words in it, and no features. A run without a text encoder needs"):
        corpora.load(path, training=False)


@pytest.mark.parametrize("name", ["call.wav", "my call.mp3", "call.m4a", "call.flac", "call.mp4", "call.mkv"])
def test_a_recording_alone_names_recognisers(name, tmp_path):
    starts = {".wav": b"RIFF\0\0\0\0WAVE", ".mp3": b"\xff\xfb\x90\x64\0\0", ".m4a": b"\0\0\0\x20ftypM4A "}
    starts |= {".flac": b"fLaC\0", ".mp4": b"\0\0\0\x20ftypisom", ".mkv": b"\x1a\x45\xdf\xa3"}
    path = tmp_path / name
    path.write_bytes(starts[path.suffix])
    with pytest.raises(UserError) as refused:
        corpora.load(path, training=False, words=True)
    command = f"whisperx {'call' if ' ' not in name else chr(39) + 'my call'}{path.suffix}"
    assert f"run `{command}" in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).endswith(f"--diarize --output_format json`, and give {path.stem}.json.")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("call.vtt", "WEBVTT\n\n", "there is no turn in it"),
        ("call.srt", "1\n00:00:0x,000 --> 00:00:02,000\na\n", "there is no turn in it"),
        ("call.txt", "a poem\nof two lines", "Nor is it a chat, whose lines begin with who speaks"),
        ("call.json", '{"segments": []}', "there is no turn in it"),
        ("call.json", '[{"sentence_info": [{"text": {"a": 1}}]}]', "sentence 0: `text`: dict of 1 is no text"),
        ("call.json", '{"segments": [{"text": "a", "start": 0, "speaker": {}}]}', "segment 0: `speaker`: dict"),
        ("call.json", '{"segments": [{"text": "a", "start": 0}', "truncated or damaged"),
        ("call.json", '{"segments": ' + "[" * 100_000, "truncated or damaged"),
        ("call.json", '{"segments": [{"text": "a", "start": ' + "9" * 5000 + "}]}", "truncated or damaged"),
        ("call.txt", "once upon a time\nthere was", "no comma, tab, semicolon"),
        ("call.txt", b"\xff\xfeA", "cannot be read as text"),
        ("call.txt", b"Ann: \0\1\2\3", "a binary file"),
        ("call.txt", "", "the file is empty"),
    ],
)
def test_what_is_refused(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


def test_odd_times_are_no_times(tmp_path):
    made = [{"text": "a", "start": value, "end": 1e999} for value in ("x", None, [1], 1e999, -1, True)]
    (tmp_path / "call.json").write_text(json.dumps({"segments": made}))
    np.testing.assert_equal(times_of(tmp_path / "call.json"), [[NAN, NAN, NAN, NAN, -1, 1]])


LONG = 60_000
HOSTILE = {
    "one turn of many lines": ("call.txt", "Ann: a\n" + "b\n" * LONG),
    "many turns": ("call.txt", "Ann: a\n" * LONG),
    "a long line": ("call.txt", "Ann: a" + "a: " * LONG),
    "blanks": ("call.txt", "Ann: a\n" + " " * 5 * LONG + "x: y\n"),
    "brackets": ("call.txt", "Ann: a\n" + "[" * 5 * LONG),
    "an export of one message": ("call.txt", "12/03/24, 14:05 - Ann: a\n" + "b\n" * LONG),
    "one cue of many lines": ("call.srt", CUE.format(1, 1, 2, "a\n" * LONG)),
    "one cue of many voices": ("call.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n" + "<v A>b" * LONG),
    "open tags": ("call.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n" + "<v " * LONG + "<v" + " " * LONG + "<a" * LONG),
    "many cues": ("call.srt", "00:00:01,000 --> 00:00:02,000\na\n" * (LONG // 4)),
    "many words": ("call.json", json.dumps({"segments": [{"start": 0, "text": "a " * LONG, "words": [
        {"word": "b", "speaker": str(n % 2)} for n in range(LONG // 4)]}]})),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_bounded(name, tmp_path):
    file, content = HOSTILE[name]
    (tmp_path / file).write_text(content)
    begun = time.perf_counter()
    assert read(tmp_path / file).arrays["transcript"].size
    assert time.perf_counter() - begun < 5


def test_rttm_of_many_spans_is_bounded(tmp_path):
    (tmp_path / "call.srt").write_text("".join(CUE.format(n, n % 9, n % 9, "a") for n in range(8_000)))
    spans = (f"SPEAKER c 1 {n % 977} {n % 9}.5 <NA> <NA> {n % 100} <NA> <NA>\n" for n in range(8_000))
    (tmp_path / "call.rttm").write_text("".join(spans))
    begun = time.perf_counter()
    assert len(turns_of(tmp_path / "call.srt")) == 8_000
    assert time.perf_counter() - begun < 8


def test_forms_are_told_by_content(tmp_path):
    for name, path in spoken_files.write(tmp_path).items():
        if path.is_dir():
            continue
        other = path.with_name("x.chat" if path.suffix == ".txt" else "x.data")
        other.write_bytes(path.read_bytes())
        assert transcripts.form(other) == transcripts.form(path), name
    assert not chat.is_chat("dialogue_id,speaker,transcript\na,Ann,Bob: no\n")
    assert not subtitles.is_subtitles("1\nAnn: 00:00:01,000 --> 00:00:02,000\n")

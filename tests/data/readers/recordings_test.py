"""Utterances find their sound: a file each, or a recording that their times cut."""

import numpy as np
import pandas as pd
import pytest

from ariigcn_jax import data
from ariigcn_jax.data.readers import conversations
from ariigcn_jax.types import Clip, UserError
from tests.support.media import RATE, write_wav

SOUND = "audio_of_a_test"
SRT = "1\n00:00:00,000 --> 00:00:01,000\nAnn: oh no\n\n2\n00:00:01,500 --> 00:00:02,000\nBob: oh yes\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "call"):
        write_wav(tmp_path / f"{name}.wav", np.zeros(2 * RATE))
    return tmp_path


def load(path, training=False, **options):
    return data.load(path, training=training, words=True, recorded=(SOUND,), **options)


def write(folder, *lines, name="t.csv"):
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


@pytest.mark.parametrize(
    "column", ["audio_file", "audio", "wav", "path", "file", "File Name", "recording", "audio_path", "video"]
)
def test_a_column_names_a_file_an_utterance(folder, column):
    table = write(folder, f"dialogue_id,speaker,transcript,{column}", "d,Ann,oh no,a.wav#t=0", "d,Bob,oh yes,")
    corpus = load(table)
    assert corpus.modalities == ("words", SOUND)
    assert corpus.features[SOUND].shape == (2, 0)
    assert corpus.present[SOUND].tolist() == ([True, False])
    assert corpus.clips.tolist() == [Clip(str(folder / "a.wav"), 0.0), None]
    assert corpus.notes[0] == "2 turns of 2 speakers, words and sound of 1"
    assert not any("ignored columns" in note for note in corpus.notes)


def test_times_of_the_conversation_do_not_cut_a_file_of_one_utterance(folder):
    table = write(folder, "dialogue_id,transcript,start,end,wav", "d,oh,70,71,a.wav", "d,no,72,73,b.wav")
    assert load(table).clips.tolist() == [Clip(str(folder / "a.wav")), Clip(str(folder / "b.wav"))]


@pytest.mark.parametrize("column", ["recording", "wav"])
def test_times_cut_a_recording(folder, column):
    lines = ["d,oh,0:00,0:00.5,a.wav", "d,no,1.5,,a.wav", "d,well,1.75,2,a.wav", "d,what,,,a.wav"]
    corpus = load(write(folder, f"dialogue_id,transcript,start,end,{column}", *lines))
    a = str(folder / "a.wav")
    found = corpus.clips.tolist()
    assert sorted(clip for clip in found if clip) == [Clip(a, 0.0, 0.5), Clip(a, 1.5, 1.75), Clip(a, 1.75, 2.0)]
    assert found.count(None) == 1
    assert "1 turn of recordings have no times: their sound counts as missing" in corpus.notes


def test_a_recording_lies_beside_a_transcript(folder):
    (folder / "call.srt").write_text(SRT)
    corpus = load(folder / "call.srt")
    call = str(folder / "call.wav")
    assert corpus.clips.tolist() == [Clip(call, 0.0, 1.0), Clip(call, 1.5, 2.0)]
    assert corpus.notes[0] == "2 turns of 2 speakers, words, times and sound"
    unused = data.load(folder / "call.srt", training=False, words=True)
    assert unused.notes[0] == "2 turns of 2 speakers, words and times; its sound is not used"
    assert unused.modalities == ("words",)


def test_a_folder_of_pairs(folder):
    (folder / "call.srt").write_text(SRT)
    (folder / "silent.srt").write_text(SRT)
    write(folder, "speaker,text,label,start,end", "Ann,oh,sad,0,1", "Bob,no,sad,1,2", name="a.csv")
    write(folder, "speaker,text,label,wav", "Ann,oh,sad,b.wav", name="one.csv")
    corpus = load(folder)
    found = dict(zip(corpus.utterance_ids, corpus.clips, strict=True))
    assert found["a_0"] == Clip(str(folder / "a.wav"), 0.0, 1.0)
    assert found["call_1"] == Clip(str(folder / "call.wav"), 1.5, 2.0)
    assert found["silent_0"] == Clip("", 0.0, 1.0)
    assert found["one_0"] == Clip(str(folder / "b.wav"))
    assert corpus.present[SOUND].sum() == 5
    assert not any("left out of the folder" in note for note in corpus.notes)


def test_a_recording_of_several_conversations_is_none(folder):
    table = write(folder, "dialogue_id,transcript,start", "d,oh,0", "e,no,0", name="a.csv")
    assert load(table).modalities == ("words",)


def test_a_recording_is_named_by_the_user(folder):
    (folder / "talk.srt").write_text(SRT)
    other = folder / "a.wav"
    assert load(folder / "talk.srt", recording=other).clips[1] == Clip(str(other), 1.5, 2.0)
    with pytest.raises(UserError, match=r"gone\.wav: there is no such file"):
        load(folder / "talk.srt", recording=folder / "gone.wav")
    (folder / "chat.txt").write_text("Ann: oh no\nBob: oh yes\n")
    with pytest.raises(UserError, match=r"chat\.txt has no times by which to cut it"):
        load(folder / "chat.txt", recording=other)
    several = write(folder, "dialogue_id,transcript,start", "d,oh,0", "e,no,0")
    with pytest.raises(UserError, match=r"is one recording, and .* has 2 conversations"):
        load(several, recording=other)


def test_a_column_that_names_dialogues_names_no_files(folder):
    table = write(folder, "video,transcript", "a.wav,oh", "b.wav,no")
    assert load(table).modalities == ("words",)


def test_what_is_not_there_is_missing_and_said(folder):
    table = write(folder, "dialogue_id,transcript,wav", "d,oh,a.wav", "d,no,gone.wav")
    corpus = load(table)
    assert corpus.present[SOUND].tolist() == [True, False]
    assert f"the recordings of 1 turn are not there, such as {folder / 'gone.wav'}" in corpus.notes


def test_a_fragment_that_is_wrong_is_named(folder):
    table = write(folder, "dialogue_id,transcript,wav", "d,oh,a.wav", "d,no,b.wav#x=1")
    with pytest.raises(UserError, match=r"row 1: 'b\.wav#x=1' has a fragment that is not understood: x=1"):
        load(table)


def test_sound_is_enough_without_words(folder):
    table = write(folder, "dialogue_id,label,wav", "d,sad,a.wav", "d,glad,b.wav")
    corpus = data.load(table, training=False, recorded=(SOUND,))
    assert corpus.modalities == (SOUND,)
    assert corpus.notes[0] == "2 turns without speakers, sound"
    with pytest.raises(UserError, match="there are no features in it"):
        data.load(table, training=False)


def test_features_of_sound_in_the_file_come_first(folder):
    table = write(folder, "dialogue_id,transcript,wav,audio_0,audio_1", "d,oh,a.wav,1,2", "d,no,b.wav,3,4")
    assert load(table).modalities == ("words", "audio")
    assert load(table, modalities=("words", SOUND)).modalities == ("words", SOUND)


def test_python_names_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    rows = [{"speaker": "Ann", "text": "oh no", "audio_file": "a.wav"}, {"speaker": "Bob", "text": "oh yes"}]
    for given in (rows, pd.DataFrame(rows)):
        corpus = conversations.from_turns(conversations.turns_of(given), words=True, recorded=(SOUND,))
        assert corpus.clips.tolist() == [Clip("a.wav"), None]

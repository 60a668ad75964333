"""Features of recordings are made by a recipe, kept with the corpus, and refused where they are of another one."""

import dataclasses
import json
import sys
import wave

import numpy as np
import pytest

from ariigcn_jax import data
from ariigcn_jax.data.readers import folder as folders
from ariigcn_jax.features import recordings
from ariigcn_jax.features.audio import OpenSmile, SpeechModel
from ariigcn_jax.features.visual import VisualEncoder
from ariigcn_jax.types import UserError
from tests.support import sound
from tests.support.media import RATE, speak, write_wav

NAME = "audio_egemapsv02"
RECIPE = {"kind": "opensmile", "model": "eGeMAPSv02", "rate": 16000, "opensmile": "2.6.0"}
ENCODERS = recordings.of_option("egemapsv02")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARIIGCN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / recordings.STORE


@pytest.fixture
def heard(monkeypatch):
    """The clips that the stand-in of openSMILE is given."""
    return sound.stand_in(monkeypatch)


def corpus(folder, *files, words=True):
    """A corpus of one conversation, a turn a wav file; its features of sound are not made yet."""
    write_wav(folder / "a.wav", sound.turn("Ann", "angry"))
    write_wav(folder / "b.wav", sound.turn("Bob", "calm"))
    (folder / "broken.wav").write_bytes(b"RIFF\0")
    lines = [f"d,{'oh' if words else ''},sad,{name}" for name in files or ("a.wav", "b.wav")]
    (folder / "t.csv").write_text("\n".join(["dialogue_id,transcript,label,wav", *lines]) + "\n")
    modalities = () if words else (NAME,)
    return data.load(folder / "t.csv", training=False, words=words, recorded=tuple(ENCODERS), modalities=modalities)


def test_features_and_their_recipe(heard, tmp_path):
    made = recordings.attach(corpus(tmp_path), ENCODERS)
    assert made.widths == {"words": 0, NAME: 4}
    assert made.features[NAME][0, 0] > 5 * made.features[NAME][1, 0]  # angry is louder
    assert made.present[NAME].all()
    assert made.recipes == {NAME: RECIPE}


def test_vectors_are_kept(heard, tmp_path, cache, monkeypatch):
    first = recordings.attach(corpus(tmp_path), ENCODERS)
    assert len(heard) == 2 and cache.is_file()
    again = recordings.attach(corpus(tmp_path), ENCODERS)
    assert len(heard) == 2
    np.testing.assert_array_equal(first.features[NAME], again.features[NAME])
    monkeypatch.setenv("ARIIGCN_CACHE", "")
    np.testing.assert_array_equal(first.features[NAME], recordings.attach(corpus(tmp_path), ENCODERS).features[NAME])
    assert len(heard) == 4


def test_a_cache_that_cannot_be_used_is_done_without(heard, tmp_path, cache, capsys):
    cache.parent.mkdir()
    cache.write_text("no database")
    assert recordings.attach(corpus(tmp_path), ENCODERS).present[NAME].all()
    assert "cannot be used as the cache" in capsys.readouterr().err


def test_a_recording_that_is_broken_is_missing_and_said(heard, tmp_path):
    made = recordings.attach(corpus(tmp_path, "a.wav", "broken.wav"), ENCODERS)
    assert made.present[NAME].tolist() == [True, False]
    assert not made.features[NAME][1].any()
    assert f"{NAME}: 1 recording cannot be used and count as missing, such as {tmp_path}" in made.notes[-1]


def test_without_the_extra_words_are_left(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    made = recordings.attach(corpus(tmp_path), ENCODERS)
    assert made.modalities == ("words",)
    assert f"note: {made.notes[-1]}" == (
        f"note: {NAME} is left out: the package `opensmile` is not installed. Install the extra `audio`: "
        "pip install 'ariigcn-jax[audio]', or, in a checkout, pip install -e '.[audio]'"
    )
    with pytest.raises(UserError, match="Install the extra `audio`"):
        recordings.attach(corpus(tmp_path), ENCODERS, strict=True)
    with pytest.raises(UserError, match="Install the extra `audio`"):  # there is nothing else
        recordings.attach(corpus(tmp_path, words=False), ENCODERS)


def test_where_nothing_can_be_encoded_words_are_left(heard, tmp_path):
    made = recordings.attach(corpus(tmp_path, "broken.wav", "broken.wav#t=0"), ENCODERS)
    assert made.modalities == ("words",)
    assert "all 2 utterances that have an audio or video file failed" in made.notes[-1]


@pytest.mark.parametrize("suffix", [".npz", ""])
def test_a_file_of_another_recipe_is_refused_by_name(tmp_path, suffix):
    """What tools.features wrote has its recipe, also after convert."""
    path, fields = tmp_path / "c.npz", {"dialogue_id": ["d", "d"], "label": [0, 1], NAME: np.eye(2, dtype=np.float32)}
    np.savez(path, **fields, provenance=json.dumps({NAME: RECIPE | {"rate": 8000}}))
    if not suffix:
        path = folders.write(data.load(path), tmp_path / "converted")
    found = data.load(path, training=False)
    with pytest.raises(
        UserError, match=f"{NAME} was made by another recipe .* rate is 8000, and was 16000 in training"
    ):
        recordings.adopt(found, {NAME: RECIPE})
    assert recordings.adopt(found, {NAME: RECIPE | {"rate": 8000}}) is found
    assert recordings.adopt(found, {}) is found


def test_a_trained_model_makes_what_it_wants(heard, tmp_path):
    made = recordings.adopt(corpus(tmp_path), {NAME: RECIPE})
    assert made.present[NAME].all()
    assert not any("version" in note for note in made.notes)
    older = recordings.adopt(corpus(tmp_path), {NAME: RECIPE | {"opensmile": "2.5.0"}})
    assert older.present[NAME].all()
    assert older.notes[-1] == f"{NAME} was learnt with opensmile 2.5.0; another version is installed"


def test_a_model_of_sound_and_picture_is_given_a_video(heard, tmp_path, monkeypatch):
    picture = {"kind": "visual", **VisualEncoder("faces").options(), "weights": "1", "model": "faces"}
    monkeypatch.setattr(VisualEncoder, "identity", lambda self: picture | {"model": ""})
    monkeypatch.setattr(VisualEncoder, "load", lambda *_: lambda clips: [np.full(3, clip.start) for clip in clips])
    recipes = {NAME: RECIPE, "visual_faces": picture}
    write_wav(tmp_path / "call.wav", sound.turn("Ann", "angry", 2.0)).rename(tmp_path / "call.mp4")
    (tmp_path / "call.srt").write_text("1\n00:00:00,500 --> 00:00:01,000\nAnn: oh no\n")
    found = data.load(tmp_path / "call.srt", training=False, words=True, recorded=tuple(recordings.of_recipes(recipes)))
    made = recordings.adopt(found, recipes)
    assert made.widths == {"words": 0, NAME: 4, "visual_faces": 3}
    assert made.features["visual_faces"].tolist() == [[0.5] * 3]


def test_a_model_file_is_known_by_its_content(heard, tmp_path, monkeypatch):
    """A changed .conf of openSMILE is another recipe, and one that lies elsewhere is not."""
    conf = tmp_path / "mine.conf"
    content = "2" * 64
    monkeypatch.setattr(OpenSmile, "identity", lambda self: RECIPE | {"model": content})
    recipe = OpenSmile(str(conf)).recipe()
    assert (recipe["model"], recipe["content"]) == (str(conf), content)
    assert not recordings.differing(recipe, recipe | {"model": "elsewhere/mine.conf"})
    given = dataclasses.replace(corpus(tmp_path), name="call")
    with pytest.raises(UserError, match=f"{NAME}: its encoder is another one than in training: content is '22"):
        recordings.adopt(given, {NAME: recipe | {"content": "1" * 64}})


def test_recipes_give_encoders_back():
    visual, speech = VisualEncoder("faces", "v", fps=4.0), SpeechModel("model", "s", layers=(1, 2))
    recipes = {"v": {"kind": "visual", **visual.options(), "weights": "1"}, "s": {"kind": "speech", **speech.options()}}
    recipes |= {NAME: RECIPE, "text": {"kind": "words", "model": "mini"}, "damaged": {"kind": "opensmile", "model": 3}}
    found = recordings.of_recipes(json.loads(json.dumps(recipes)))
    assert found == {"v": visual, "s": speech, NAME: OpenSmile("eGeMAPSv02", NAME)}
    assert recordings.described(RECIPE) == "opensmile, model eGeMAPSv02, rate 16000, opensmile 2.6.0"


def test_the_option_is_written_as_that_of_tools_features():
    assert recordings.of_option("") == {}
    assert list(recordings.of_option("IS10,name=audio_voice")) == ["audio_voice"]
    with pytest.raises(UserError, match="name=voice is not possible"):
        recordings.of_option("IS10,name=voice")
    with pytest.raises(UserError, match="unrecognised option 'rte=8'"):
        recordings.of_option("IS10,rte=8")


def test_opensmile_itself_hears_the_cut_turns(tmp_path):
    """A turn that is cut out of a recording gives nearly what its own file gives."""
    pytest.importorskip("opensmile", reason="the extra `audio` is not installed")
    own = speak(tmp_path / "a.wav", "I am so angry with you.")
    with wave.open(str(own)) as file:
        rate, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    write_wav(tmp_path / "b.wav", np.concatenate([np.zeros(rate), samples]), rate=rate)
    end = 1 + len(samples) / rate
    lines = ["dialogue_id,transcript,start,end,recording", "d,oh,,,a.wav", f"d,oh,1,{end},b.wav"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    made = recordings.attach(
        data.load(tmp_path / "t.csv", training=False, words=True, recorded=tuple(ENCODERS)), ENCODERS
    )
    alone, cut = made.features[NAME]
    assert made.widths[NAME] == 88
    assert np.abs(alone - cut).max() < 0.05 * np.abs(alone).max()
    assert made.recipes[NAME]["rate"] == RATE

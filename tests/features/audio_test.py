"""Audio features are those of the clip, as openSMILE and the model give them."""

import numpy as np
import pytest

from ariigcn_jax.features.audio import OpenSmile, SpeechModel
from ariigcn_jax.features.manifest import Clip
from ariigcn_jax.features.media import MediaError
from ariigcn_jax.types import UserError
from tests.support.media import RATE, speak, speech_model, tone, write_wav

pytest.importorskip("av", reason="the extra `audio` is not installed")


def names():
    opensmile = pytest.importorskip("opensmile", reason="the extra `audio` is not installed")
    return opensmile.Smile("eGeMAPSv02", "func").feature_names


def test_pitch_of_a_known_tone(tmp_path):
    feature = names().index("F0semitoneFrom27.5Hz_sma3nz_amean")
    encode = OpenSmile("eGeMAPSv02").load(1, "cpu")
    path = str(write_wav(tmp_path / "s.wav", np.concatenate([tone(1.0, 110.0), tone(1.0, 220.0)])))
    low, high = encode([Clip(path, 0.0, 0.9), Clip(path, 1.1, 2.0)])
    assert low.shape == (88,)
    assert low[feature] == pytest.approx(24.0, abs=0.2)  # 110 Hz is two octaves above 27.5 Hz, 220 Hz three
    assert high[feature] == pytest.approx(36.0, abs=0.2)


def test_loudness_of_speech_and_silence(tmp_path):
    feature = names().index("loudness_sma3_amean")
    speech = speak(tmp_path / "speech.wav", "I am so angry with you.")
    silence = write_wav(tmp_path / "silence.wav", np.zeros(RATE))
    encode = OpenSmile("eGeMAPSv02").load(1, "cpu")
    loud, quiet = encode([Clip(str(speech)), Clip(str(silence))])
    assert loud[feature] > 10 * max(quiet[feature], 0.01)


@pytest.mark.parametrize(("name", "width"), [("IS10", 1582), ("ComParE_2016", 6373)])
def test_widths_of_published_sets(tmp_path, name, width):
    pytest.importorskip("opensmile", reason="the extra `audio` is not installed")
    path = str(write_wav(tmp_path / "s.wav", tone(0.5)))
    assert OpenSmile(name).load(1, "cpu")([Clip(path)])[0].shape == (width,)


def test_a_configuration_file_of_the_user(tmp_path):
    opensmile = pytest.importorskip("opensmile", reason="the extra `audio` is not installed")
    path = str(write_wav(tmp_path / "s.wav", tone(0.5)))
    own = opensmile.Smile("eGeMAPSv02", "func").config_path
    [a], [b] = (OpenSmile(model).load(1, "cpu")([Clip(path)]) for model in (own, "eGeMAPSv02"))
    np.testing.assert_array_equal(a, b)
    (tmp_path / "bad.conf").write_text("[componentInstances:cComponentManager]\nnonsense\n")
    with pytest.raises(UserError, match=r"openSMILE cannot use it"):
        OpenSmile(str(tmp_path / "bad.conf")).load(1, "cpu")
    with pytest.raises(UserError, match=r"no such file\. Known sets: eGeMAPSv02"):
        OpenSmile(str(tmp_path / "gone.conf")).identity()


def hidden_states(model, wave):
    """[layers][T, D], by the library alone."""
    import torch
    import transformers

    network = transformers.AutoModel.from_pretrained(model).eval()
    values = torch.tensor((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7), dtype=torch.float32)[None]
    with torch.no_grad():
        outputs = network(values, output_hidden_states=True)
    return [state[0].numpy() for state in outputs.hidden_states]


def test_speech_model_pools_its_layers_over_time(tmp_path):
    model = str(speech_model(tmp_path / "model"))
    wave = tone(1.0) * np.linspace(0, 1, RATE, dtype=np.float32)
    path = str(write_wav(tmp_path / "s.wav", wave))
    states = hidden_states(model, (wave * 32767).astype(np.int16) / 32768)
    mean = (states[1] + states[2]) / 2
    [both] = SpeechModel(model, layers=(1, 2), pooling="mean_std").load(1, "cpu")([Clip(path)])
    np.testing.assert_allclose(both, np.concatenate([mean.mean(0), mean.std(0)]), atol=1e-4)
    [side] = SpeechModel(model, layers=(0, 1), combine="concat", pooling="max").load(1, "cpu")([Clip(path)])
    np.testing.assert_allclose(side, np.concatenate([states[0].max(0), states[1].max(0)]), atol=1e-4)


def test_a_long_clip_is_encoded_in_parts(tmp_path):
    model = str(speech_model(tmp_path / "model"))
    path = str(write_wav(tmp_path / "s.wav", np.concatenate([tone(1.0, 110.0), tone(1.0, 330.0)])))
    encode = SpeechModel(model, seconds=1.0).load(1, "cpu")
    whole, first, second = encode([Clip(path), Clip(path, 0.0, 1.0), Clip(path, 1.0, 2.0)])
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(whole, (first + second) / 2, atol=1e-5)


def test_a_moment_is_too_short(tmp_path):
    model = str(speech_model(tmp_path / "model"))
    path = str(write_wav(tmp_path / "s.wav", tone(1.0)))
    with pytest.raises(MediaError, match="only 20 ms long"):
        SpeechModel(model).load(1, "cpu")([Clip(path, 0.5, 0.52)])


def test_no_such_layer(tmp_path):
    model = str(speech_model(tmp_path / "model"))
    with pytest.raises(UserError, match=r"there is no layer 3\. Layers count from 0"):
        SpeechModel(model, layers=(3,)).identity()

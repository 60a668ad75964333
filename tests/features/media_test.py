"""The right part of a recording is decoded."""

import numpy as np
import pytest

from ariigcn_jax.features import media
from ariigcn_jax.features.manifest import Clip
from tests.support.media import RATE, tone, write_video, write_wav

pytest.importorskip("av", reason="none of the extras `audio` and `visual` is installed")


def stairs(seconds, rate=RATE):
    """[samples]: 0.01, 0.02, … a step a tenth of a second."""
    return (np.arange(round(seconds * rate)) // (rate // 10) + 1).astype(np.float32) / 100


def test_a_part_of_a_wav_is_exact(tmp_path):
    path = str(write_wav(tmp_path / "s.wav", stairs(6.0)))
    wave = media.waveform(Clip(path, 3.25, 3.5), RATE)
    assert wave.shape == (RATE // 4,)
    # 3.25 s is in the middle of step 33, which lasts 50 ms more; then 34 and 35.
    np.testing.assert_allclose(wave[:800], 0.33, atol=1e-4)
    np.testing.assert_allclose(wave[800:2400], 0.34, atol=1e-4)
    np.testing.assert_allclose(wave[2400:], 0.35, atol=1e-4)


def test_a_part_without_bounds_is_the_rest(tmp_path):
    path = str(write_wav(tmp_path / "s.wav", stairs(2.0)))
    assert len(media.waveform(Clip(path), RATE)) == 2 * RATE
    assert len(media.waveform(Clip(path, 1.5), RATE)) == RATE // 2
    assert len(media.waveform(Clip(path, None, 0.5), RATE)) == RATE // 2
    assert len(media.waveform(Clip(path, 1.75, 9.0), RATE)) == RATE // 4


def test_channels_are_averaged_and_resampled(tmp_path):
    path = str(write_wav(tmp_path / "s.wav", np.full(8000, 0.2), np.full(8000, 0.4), rate=8000))
    wave = media.waveform(Clip(path, 0.2, 0.8), RATE)
    assert wave.shape == (9600,)
    np.testing.assert_allclose(wave, 0.3, atol=2e-3)


@pytest.mark.parametrize("name", ["v.mp4", "v.avi"])
def test_the_sound_of_a_video(tmp_path, name):
    silence = np.zeros(RATE, np.float32)
    sound = np.concatenate([silence, tone(1.0), silence])
    path = str(write_video(tmp_path / name, [np.zeros((32, 32, 3), np.uint8)] * 30, 10, sound))
    loud = media.waveform(Clip(path, 1.1, 1.9), RATE)
    quiet = media.waveform(Clip(path, 2.1, 2.9), RATE)
    assert len(loud) == len(quiet) == round(0.8 * RATE)
    assert np.abs(loud).mean() > 0.08
    assert np.abs(quiet).mean() < 0.002


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    """A video of 40 frames, 10 a second; frame k is 5 k + 20 bright, its right half 10 brighter."""
    pictures = [np.full((32, 64, 3), 5 * k + 20, np.uint8) for k in range(40)]
    for picture in pictures:
        picture[:, 32:] += 10
    return str(write_video(tmp_path_factory.mktemp("video") / "v.avi", pictures, 10))


def numbers(pictures, offset=0):
    return [round((float(picture[8:24, :24].mean()) - 20 - offset) / 5) for picture in pictures]


def test_frames_lie_in_the_middle_of_even_parts(counting):
    # Parts of 0.5 s: wanted are 0.25, 0.75, …; the frames at or after them are 3, 8, 13, ….
    assert numbers(media.frames(Clip(counting), 2, 99)) == [3, 8, 13, 18, 23, 28, 33, 38]
    # From 2.0 s: wanted are 2.25 and 2.75.
    assert numbers(media.frames(Clip(counting, 2.0, 3.0), 2, 99)) == [23, 28]


def test_a_long_clip_is_sampled_more_sparsely(counting):
    # 3 parts of 1 s: 0.5, 1.5, 2.5.
    assert numbers(media.frames(Clip(counting, 0.0, 3.0), 10, 3)) == [5, 15, 25]
    assert len(media.frames(Clip(counting), 10, 7)) == 7


def test_a_short_clip_has_a_frame(counting):
    assert len(media.frames(Clip(counting, 1.0, 1.02), 1, 9)) == 1


def test_a_region_is_cut_out(counting):
    right = media.frames(Clip(counting, 1.0, 2.0, (0.5, 0.0, 0.5, 1.0)), 1, 9)
    assert right[0].shape == (32, 32, 3)
    assert numbers(right, offset=10) == [15]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "cannot be decoded"),
        (lambda path: path.write_bytes(b"RIFF" + b"x" * 400), "cannot be decoded"),
        (lambda path: None, "no such file"),
        (lambda path: write_wav(path, stairs(1.0)), "there is no sound in its part from 2 s to 3 s"),
    ],
)
def test_what_cannot_be_heard_says_why(tmp_path, make, message):
    make(tmp_path / "s.wav")
    with pytest.raises(media.MediaError, match=message):
        media.waveform(Clip(str(tmp_path / "s.wav"), 2.0, 3.0), RATE)


def test_what_cannot_be_seen_says_why(tmp_path, counting):
    with pytest.raises(media.MediaError, match="there is no picture in its part from 8 s to 9 s"):
        media.frames(Clip(counting, 8.0, 9.0), 2, 9)
    with pytest.raises(media.MediaError, match="the file has no picture"):
        media.frames(Clip(str(write_wav(tmp_path / "s.wav", stairs(1.0)))), 2, 9)
    with pytest.raises(media.MediaError, match="the file has no sound"):
        media.waveform(Clip(counting), RATE)


def test_a_truncated_video_is_a_media_error(tmp_path, counting):
    path = tmp_path / "v.avi"
    with open(counting, "rb") as file:
        path.write_bytes(file.read()[:1500])
    with pytest.raises(media.MediaError):
        media.frames(Clip(str(path), 3.0, 4.0), 2, 9)

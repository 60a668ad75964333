"""A stand-in for openSMILE, which needs no package: four numbers of a wav file's samples."""

import wave
from pathlib import Path

import numpy as np

from ariigcn_jax.features.audio import OpenSmile
from ariigcn_jax.features.media import MediaError
from tests.support.media import RATE, tone, write_wav

VERSION = "2.6.0"
PITCH = {"Ann": 220.0, "Bob": 110.0}
LOUD = {"angry": 1.0, "calm": 0.1}


def stand_in(monkeypatch, version=VERSION):
    """Puts the stand-in in the place of openSMILE; returns the list of clips that it is given from now on."""
    given = []

    def encode(clips):
        given.extend(clips)
        return [_numbers(clip) for clip in clips]

    def identity(self):
        return {"kind": "opensmile", **self.options(), "opensmile": version}

    monkeypatch.setattr(OpenSmile, "identity", identity)
    monkeypatch.setattr(OpenSmile, "load", lambda self, threads, device: encode)
    return given


def _numbers(clip):
    if not Path(clip.path).is_file():
        raise MediaError("there is no sound")
    with wave.open(clip.path) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    end = None if clip.end is None else round(clip.end * RATE)
    part = samples[round((clip.start or 0) * RATE) : end]
    if not len(part):
        raise MediaError("there is no sound")
    return np.array([part.std(), np.abs(part).max(), np.mean(np.diff(np.sign(part)) != 0), 1.0], np.float32)


def turn(speaker, label, seconds=0.25):
    """[samples] float32 of a turn: the speaker is its pitch, the label how loud it is."""
    return LOUD[label] * tone(seconds, PITCH[speaker])


def write_calls(folder, calls=8, turns=4):
    """Writes calls.csv with a wav file a turn; call9.srt with call9.wav, which has no labels. Returns its labels."""
    random = np.random.default_rng(0)
    rows, parts, said, labels = ["dialogue_id,speaker,transcript,label,wav"], [], [], []
    for call in range(calls + 1):
        for n in range(turns):
            speaker, label = ("Ann", "Bob")[n % 2], ("angry", "calm")[random.integers(2)]
            if call < calls:
                write_wav(folder / "wav" / f"{call}_{n}.wav", turn(speaker, label))
                rows.append(f"call{call},{speaker},oh well,{label},wav/{call}_{n}.wav")
            else:
                parts += [turn(speaker, label), np.zeros(RATE // 4)]
                said.append(f"{n + 1}\n00:00:{n // 2:02},{n % 2 * 5}00 --> 00:00:{n // 2:02},{n % 2 * 5 + 2}50\n")
                said[-1] += f"{speaker}: oh well\n"
                labels.append(label)
    (folder / "calls.csv").write_text("\n".join(rows) + "\n")
    (folder / "call9.srt").write_text("\n".join(said))
    write_wav(folder / "call9.wav", np.concatenate(parts))
    return labels

"""Encode audio: openSMILE's functionals, or a speech model's hidden states pooled over time."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.extras import require
from ariigcn_jax.features import encoder, media
from ariigcn_jax.features.encoder import Encode, Input, parse
from ariigcn_jax.types import Clip, UserError

# Feature sets of the opensmile package: 88, 62, 6373, 384, 1582, 4368, 6125, 6373 and 988 functionals.
SETS = ("eGeMAPSv02", "GeMAPSv01b", "ComParE_2016", "IS09", "IS10", "IS11", "IS12", "IS13", "emobase")
_SHORTEST = 0.025  # seconds: the receptive field of wav2vec2's first features, and openSMILE's usual window


def from_option(specification: str) -> encoder.Encoder:
    """Return the encoder of --audio: a set of openSMILE, a .conf file of openSMILE, or a transformers model."""
    model, comma, options = specification.partition(",")
    known = next((name for name in SETS if name.lower() == model.lower()), "")
    kind = OpenSmile if known or model.endswith(".conf") else SpeechModel
    return parse(f"{known or model}{comma}{options}", kind)


@dataclasses.dataclass(frozen=True)
class OpenSmile(encoder.Encoder):
    """Compute openSMILE's functionals of a clip, resampled to `rate` samples a second (choice: IEMOCAP's own)."""

    batch: int = 8
    rate: int = 16000

    modality = "audio"

    def identity(self) -> dict[str, Any]:
        version = require("opensmile", "audio").__version__
        require("av", "audio")
        if self.model not in SETS and not Path(self.model).is_file():
            raise UserError(f"--audio {self.model}: there is no such file. Known sets: {', '.join(SETS)}.")
        model = self.model if self.model in SETS else encoder.digest(self.model)
        return {"kind": "opensmile", **self.options(), "model": model, "opensmile": version}

    def load(self, threads: int, device: str) -> Encode:
        opensmile = require("opensmile", "audio")
        chosen = getattr(opensmile.FeatureSet, self.model) if self.model in SETS else str(Path(self.model).resolve())
        try:
            smile = opensmile.Smile(chosen, "func", sampling_rate=self.rate)
            smile.process_signal(np.zeros(self.rate, np.float32), self.rate)
        except Exception as error:  # openSMILE documents no list of errors for a wrong .conf file
            need = "A .conf file needs the opensmile package's `source` and `sink`, and a level named `func`"
            raise UserError(f"--audio {self.model}: openSMILE cannot use it ({error}). {need}.") from None

        def encode_one(clip: Input) -> np.ndarray:
            return smile.process_signal(_samples(clip, self.rate), self.rate).to_numpy(np.float32)[0]

        return lambda clips: [encode_one(clip) for clip in clips]


@dataclasses.dataclass(frozen=True)
class SpeechModel(encoder.PretrainedEncoder):
    """Pool the hidden states of a wav2vec2-like model over time.

    Attributes:
      layers: numbers of the hidden states: 0 is the input of the first layer, -1 the last layer.
      combine: whether several layers are averaged or concatenated.
      pooling: over time.
      seconds: a longer clip is encoded in parts of this length, pooled together (bounds the memory).
    """

    layers: tuple[int, ...] = (-1,)
    combine: encoder.Combine = "mean"
    pooling: encoder.TimePooling = "mean"
    seconds: float = 30.0

    modality = "audio"
    kind = extra = "speech"

    def identity(self) -> dict[str, Any]:
        require("av", "speech")
        if self.seconds < 1:
            raise UserError(f"--audio {self.model}: seconds={self.seconds:g} is too short. Write at least 1.")
        return super().identity()

    def load(self, threads: int, device: str) -> Encode:
        torch = require("torch", "speech")
        network = self.network(threads, device)
        extractor = self.part("AutoFeatureExtractor")
        rate = extractor.sampling_rate
        # Whisper pads every input to one length; the steps of the padding are left out
        padded = getattr(extractor, "n_samples", None)
        longest = int(min(self.seconds * rate, padded or math.inf))

        def encode_part(wave: np.ndarray) -> Any:
            inputs = extractor(wave, sampling_rate=rate, return_tensors="pt").to(device)
            outputs = network(**inputs, output_hidden_states=True)
            steps = encoder.hidden(outputs, self.layers, self.combine)[0]
            return steps[: max(1, round(len(steps) * len(wave) / padded))] if padded else steps

        def encode_one(clip: Input) -> np.ndarray:
            wave = _samples(clip, rate)
            parts = np.array_split(wave, math.ceil(len(wave) / longest))
            with torch.inference_mode():
                steps = torch.cat([encode_part(part) for part in parts])
                return encoder.over_time(steps, self.pooling).cpu().numpy()

        return lambda clips: [encode_one(clip) for clip in clips]


def _samples(clip: Input, rate: int) -> np.ndarray:
    assert isinstance(clip, Clip)
    wave = media.waveform(clip, rate)
    if len(wave) < _SHORTEST * rate:
        raise media.MediaError(f"is only {len(wave) / rate * 1000:.0f} ms long")
    return wave

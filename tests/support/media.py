"""Recordings and tiny pretrained models for the tests of tools.features, made on the spot."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

RATE = 16000
WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "hello",
    "there",
    "how",
    "are",
    "you",
    "fine",
    "thanks",
    "so",
    "angry",
    ".",
)


def write_csv(path: Path, rows: list[dict]) -> Path:
    """A CSV file whose columns are those of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def tone(seconds: float, hertz: float = 200.0, rate: int = RATE) -> np.ndarray:
    """[samples] float32: a vowel-like sound, three harmonics."""
    t = np.arange(round(seconds * rate)) / rate
    return sum(0.2 / k * np.sin(2 * np.pi * k * hertz * t) for k in (1, 2, 3)).astype(np.float32)


def write_wav(path: Path, *channels: np.ndarray, rate: int = RATE) -> Path:
    """A 16-bit wav file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.stack(channels, axis=1) * 32767).astype("<i2").tobytes())
    return path


def speak(path: Path, words: str, voice: str = "en") -> Path:
    """A wav file of spoken words."""
    if not shutil.which("espeak-ng"):
        pytest.skip("the program espeak-ng, which speaks for this test, is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["espeak-ng", "-v", voice, "-w", str(path), words], check=True)
    return path


def face(centre: int = 160) -> np.ndarray:
    """[240, 320, 3] uint8: a drawn face that OpenCV's cascade takes for one."""
    cv2 = pytest.importorskip("cv2", reason="the extra `visual` is not installed")
    grey = np.full((240, 320), 48, np.uint8)
    cv2.ellipse(grey, (centre, 120), (55, 75), 0, 0, 360, 150, -1)
    for side in (-27, 27):
        cv2.ellipse(grey, (centre + side, 106), (10, 7), 0, 0, 360, 10, -1)
        cv2.ellipse(grey, (centre + side, 95), (14, 5), 0, 0, 360, 90, -1)
    cv2.ellipse(grey, (centre, 138), (9, 6), 0, 0, 360, 122, -1)
    cv2.ellipse(grey, (centre, 169), (24, 7), 0, 0, 360, 101, -1)
    return np.repeat(cv2.GaussianBlur(grey, (0, 0), 3.9)[..., None], 3, axis=-1)


def write_video(path: Path, pictures: list[np.ndarray], fps: int = 10, sound: np.ndarray | None = None) -> Path:
    """A video file (its format by its suffix), with a sound track where there is sound."""
    av = pytest.importorskip("av", reason="the extra `visual` is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=fps)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.bit_rate = 4_000_000
        if sound is not None:
            audio = container.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=RATE, layout="mono")
            samples = (sound * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = RATE
            container.mux([packet for packet in (*audio.encode(frame), *audio.encode(None))])
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    return path


def speech_model(path: Path) -> Path:
    """A wav2vec2 of random weights, width 16, 2 layers, 50 steps a second."""
    pytest.importorskip("torch", reason="the extra `speech` is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra `speech` is not installed")
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8, 8),
        conv_kernel=(10, 8, 4),
        conv_stride=(10, 8, 4),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        num_feat_extract_layers=3,
    )
    _save(transformers.Wav2Vec2Model(config), path)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(path)
    return path


def image_model(path: Path) -> Path:
    """A ViT of random weights, width 16."""
    pytest.importorskip("torch", reason="the extra `visual` is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra `visual` is not installed")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    _save(transformers.ViTModel(config, add_pooling_layer=False), path)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def _save(model, path: Path) -> None:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(path)

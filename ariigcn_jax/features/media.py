"""Decode a part of an audio or video file of any format with PyAV (FFmpeg's libraries)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ariigcn_jax.extras import require
from ariigcn_jax.types import Clip

_LEAD = 0.5  # seconds decoded before a clip: a codec's first frames after a seek may be incomplete (choice)


class MediaError(Exception):
    """Say why a clip cannot be used."""


def waveform(clip: Clip, rate: int) -> np.ndarray:
    """Return [samples] float32 in about [-1, 1], a clip's sound, its channels mixed into one, `rate` samples a second.

    Raises:
      MediaError: there is no sound.
    """
    av = require("av", "audio")
    # integers, because FFmpeg then scales the channels so that their sum cannot clip: two are averaged
    resampler = av.AudioResampler(format="s32", layout="mono", rate=rate)
    start, first, parts = clip.start or 0.0, None, []
    for frame, time in _decoded(clip, "audio"):
        first = time if first is None else first
        parts += resampler.resample(frame)
    if parts:
        parts += resampler.resample(None)
    samples = np.concatenate([np.zeros(0, np.int32), *(part.to_ndarray()[0] for part in parts)])
    begin = round(max(start - (first or 0.0), 0.0) * rate)
    end = None if clip.end is None else begin + round((clip.end - start) * rate)
    samples = samples[begin:end]
    if not len(samples):
        raise MediaError(f"there is no sound in {_span(clip)}")
    return (samples / 2.0**31).astype(np.float32)


def frames(clip: Clip, per_second: float, limit: int) -> list[np.ndarray]:
    """Return pictures of a clip at even distances, the first half a distance after its start.

    Args:
      clip: the clip.
      per_second: pictures a second, > 0.
      limit: pictures at most; a longer clip is sampled more sparsely.

    Returns:
      Pictures [height, width, 3] uint8, RGB, cropped to the clip's region.

    Raises:
      MediaError: there is no picture.
    """
    pictures: list[tuple[float, np.ndarray]] = []
    start, step = clip.start or 0.0, 1 / per_second
    if clip.end is not None:
        step = max(step, (clip.end - start) / limit)
    wanted = start + step / 2
    last = None
    for frame, time in _decoded(clip, "video"):
        last = (time, frame)
        if time + 1e-3 < wanted:
            continue
        pictures.append((time, _picture(frame, clip)))
        while wanted <= time + 1e-3:
            wanted += step
        if len(pictures) == 2 * limit:  # the length is not known in advance: keep every other one
            pictures, step = pictures[::2], step * 2
            wanted = pictures[-1][0] + step
    if not pictures and last is not None and last[0] >= start - step:
        pictures = [(last[0], _picture(last[1], clip))]
    if not pictures:
        raise MediaError(f"there is no picture in {_span(clip)}")
    chosen = np.linspace(0, len(pictures) - 1, min(limit, len(pictures))).round().astype(int)
    return [pictures[i][1] for i in chosen]


def _picture(frame: Any, clip: Clip) -> np.ndarray:
    picture = frame.to_ndarray(format="rgb24")
    height, width = picture.shape[:2]
    x, y, w, h = clip.region or (0, 0, 1, 1)
    left, top = int(x * width), int(y * height)
    return picture[top : max(top + 1, round((y + h) * height)), left : max(left + 1, round((x + w) * width))]


def _decoded(clip: Clip, kind: str) -> Iterator[tuple[Any, float]]:
    """Yield frames from a little before the clip to its end, with their times in seconds from the file's start."""
    av = require("av", "audio" if kind == "audio" else "visual")
    try:
        with av.open(clip.path, metadata_errors="ignore") as container:
            streams = getattr(container.streams, kind)
            if not streams:
                raise MediaError(f"the file has no {'sound' if kind == 'audio' else 'picture'}")
            origin = (container.start_time or 0) / av.time_base
            if clip.start and clip.start > _LEAD:
                container.seek(int((clip.start - _LEAD + origin) * av.time_base))
            reached = 0.0
            for frame in container.decode(streams[0]):
                time = reached if frame.time is None else frame.time - origin
                if clip.end is not None and time >= clip.end:
                    break
                reached = time + (frame.samples / frame.sample_rate if kind == "audio" else 0.0)
                if kind == "video" and time < (clip.start or 0.0) - _LEAD:
                    continue
                yield frame, time
    except FileNotFoundError:
        raise MediaError("there is no such file") from None
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"cannot be decoded: {getattr(error, 'strerror', None) or error}") from None


def _span(clip: Clip) -> str:
    if clip.start is None and clip.end is None:
        return "the file"
    return f"its part from {clip.start or 0:g} s to {'the end' if clip.end is None else f'{clip.end:g} s'}"

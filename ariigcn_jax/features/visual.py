"""Encode video: the face in frames sampled over a clip, by an image model, pooled over the frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ariigcn_jax.extras import require
from ariigcn_jax.features import media
from ariigcn_jax.features.encoder import Encode, Input, PretrainedEncoder, TimePooling, digest, over_time
from ariigcn_jax.types import Clip, UserError

Box = tuple[int, int, int, int]  # left, top, width, height in pixels
Detect = Callable[[np.ndarray], list[Box]]


@dataclasses.dataclass(frozen=True)
class VisualEncoder(PretrainedEncoder):
    """Pool an image model's last hidden states of the largest face of each frame over the frames.

    Attributes:
      faces: "haar" is OpenCV's bundled cascade, a path ending in .onnx a YuNet detector, "none" takes whole frames.
      margin: how much the face's box grows on each side, as a share of its size (choice).
      no_face: "skip" leaves out a frame without a face, "frame" takes all of it; with no frame left the row is missing.
      fps: frames a second that are sampled (choice).
      frames: frames of an utterance at most; a longer one is sampled more sparsely (choice).
      tokens: the first of a transformer's tokens, or their mean; convolutional networks are averaged over the picture.
      pooling: over the frames.
    """

    faces: str = "haar"
    margin: float = 0.2
    no_face: Literal["skip", "frame"] = "skip"
    fps: float = 2.0
    frames: int = 32
    tokens: Literal["first", "mean"] = "first"
    pooling: TimePooling = "mean"

    modality = kind = extra = "visual"

    def identity(self) -> dict[str, Any]:
        require("av", "visual")
        if self.fps <= 0 or self.frames < 1:
            raise UserError(f"--visual {self.model}: fps and frames must be positive.")
        identity = super().identity()
        if self.faces != "none":
            identity["cv2"] = require("cv2", "visual").__version__
        if self.faces not in ("none", "haar"):
            if not Path(self.faces).is_file():
                raise UserError(f"--visual: faces={self.faces} is neither haar, none, nor a YuNet file (.onnx).")
            identity["faces"] = digest(self.faces)
        return identity

    def load(self, threads: int, device: str) -> Encode:
        torch = require("torch", "visual")
        detect = _detector(self.faces)
        network = self.network(threads, device)
        processor = self.part("AutoImageProcessor")

        def encode_one(clip: Input) -> np.ndarray:
            assert isinstance(clip, Clip)
            crops = [self._crop(picture, detect) for picture in media.frames(clip, self.fps, self.frames)]
            faces = [crop for crop in crops if crop is not None]
            if not faces:
                raise media.MediaError(f"no face in any of {len(crops)} frames")
            inputs = processor(faces, return_tensors="pt").to(device)
            with torch.inference_mode():
                states = network(**inputs).last_hidden_state
                if states.ndim == 4:
                    vectors = states.mean(dim=(2, 3))
                else:
                    vectors = states[:, 0] if self.tokens == "first" else states.mean(dim=1)
                return over_time(vectors, self.pooling).cpu().numpy()

        return lambda clips: [encode_one(clip) for clip in clips]

    def _crop(self, picture: np.ndarray, detect: Detect | None) -> np.ndarray | None:
        boxes = detect(picture) if detect else []
        if not boxes:
            return picture if detect is None or self.no_face == "frame" else None
        left, top, width, height = max(boxes, key=lambda box: box[2] * box[3])
        x, y = round(width * self.margin), round(height * self.margin)
        rows = slice(max(0, top - y), top + height + y)
        return np.ascontiguousarray(picture[rows, max(0, left - x) : left + width + x])


def _detector(faces: str) -> Detect | None:
    """Return a function from an RGB picture to the boxes of its faces; None for whole frames."""
    if faces == "none":
        return None
    cv2 = require("cv2", "visual")
    cv2.setNumThreads(1)
    if faces == "haar":
        cascade = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml")

        def by_cascade(picture: np.ndarray) -> list[Box]:
            grey = cv2.equalizeHist(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
            smallest = max(24, min(picture.shape[:2]) // 10)
            found = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(smallest, smallest))
            return [(int(x), int(y), int(w), int(h)) for x, y, w, h in found]

        return by_cascade
    try:
        yunet = cv2.FaceDetectorYN.create(faces, "", (320, 320))
    except cv2.error as error:
        raise UserError(f"faces={faces}: OpenCV cannot read it as a YuNet detector ({error.err}).") from None

    def by_yunet(picture: np.ndarray) -> list[Box]:
        yunet.setInputSize((picture.shape[1], picture.shape[0]))
        _, found = yunet.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        boxes = np.zeros((0, 4)) if found is None else found[:, :4]
        return [(max(0, int(x)), max(0, int(y)), int(w), int(h)) for x, y, w, h in boxes if w >= 1 and h >= 1]

    return by_yunet

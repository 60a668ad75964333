"""Make the utterances that encoders are timed on, of MELD's lengths; numpy alone, for `words` and `torch_words`."""

from __future__ import annotations

import numpy as np

STEP, STEPS = 32, 16  # utterances of a step, and steps of an epoch
CLASSES = 7
# name -> vocabulary, width, depth, heads, middle, positions
SHAPES = {
    "MiniLM": (30522, 384, 6, 12, 1536, 512),
    "RoBERTa-base": (50265, 768, 12, 12, 3072, 514),
    "tiny": (100, 16, 1, 2, 32, 128),
}


def draw(vocabulary: int, count: int = STEP * STEPS) -> tuple[list[np.ndarray], np.ndarray]:
    """Return token ids [n] int of `count` utterances, 14 tokens on average as in MELD, and labels [count]."""
    random = np.random.default_rng(0)
    lengths = np.clip(np.round(random.lognormal(2.45, 0.6, count)), 3, 96).astype(int)
    return [random.integers(5, vocabulary, n) for n in lengths], random.integers(0, CLASSES, count)

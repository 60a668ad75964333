"""Tiny runs on transcripts: a table of conversations, and a config with a tiny text encoder."""

import contextlib
import io

import numpy as np

from experiments import base, session
from tests.support.encoders import WORDS, tiny_encoder
from tests.support.runs import SMALL

LABELS = ("happy", "sad", "calm")


def table(path, dialogues=9, audio=True, seed=0):
    """Writes conversations with words, of which some are missing; their emotion is a word that is said."""
    random = np.random.default_rng(seed)
    lines = ["dialogue_id,turn,speaker,emotion,split,transcript" + (",audio_0,audio_1" if audio else "")]
    for d in range(dialogues):
        split = ("train", "train", "valid", "test")[d % 4]
        for turn in range(random.integers(2, 8)):
            label = LABELS[random.integers(3)]
            said = [*random.choice(WORDS[:70], random.integers(1, 9)), label]
            text = "" if random.random() < 0.15 else " ".join(said)
            heard = "".join(f",{x:.3f}" for x in 3 + random.normal(size=2)) if audio else ""
            lines.append(f'd{d},{turn},{("Ann", "Bob")[random.integers(2)]},{label},{split},"{text}"{heard}')
    path.write_text("\n".join(lines) + "\n")
    return path


def config(folder, changes):
    """The config of a tiny run in a folder, beside its encoder, which is written, and its table."""
    config = base.get_config()
    options = {f"losses.{term}.weight": 0.0 for term in ("adversarial", "iccl", "imcl")}
    options |= {"num_epochs": 2, "batch_size": 3, "optimizer.lr": 0.02, "optimizer.words.lr": 0.02}
    options |= {"diagnostics.every": 0, "model.graph.layers": 1, "model.text.max_tokens": 32}
    config.update_from_flattened_dict(SMALL | options | changes)
    config.model.text.encoder = str(tiny_encoder(folder / "encoder"))
    config.data.path = str(folder / "table.csv")
    config.data.modalities = ("audio", "words")
    return config


def train(folder, changes):
    """Trains a tiny run in a folder, beside its encoder and its table; returns the run's folder."""
    table(folder / "table.csv")
    with contextlib.redirect_stdout(io.StringIO()):
        session.execute(config(folder, changes).lock(), str(folder / "run"))
    return folder / "run"

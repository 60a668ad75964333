"""Tiny runs on transcripts: a table of conversations, and a config with a tiny text encoder."""

import contextlib
import dataclasses
import io

import numpy as np

from ariigcn_jax.features import words
from ariigcn_jax.options import base
from ariigcn_jax.runs import session
from tests.support import builders
from tests.support.encoders import WORDS, tiny_encoder
from tests.support.runs import SMALL

WIDTHS = {"audio": 2}
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


def options(folder, changes):
    """The config of a tiny run, with its encoder and its table in a folder."""
    config = base.get_config()
    fast = {f"losses.{term}.weight": 0.0 for term in ("adversarial", "iccl", "imcl")}
    fast |= {"num_epochs": 2, "batch_size": 3, "optimizer.lr": 0.02, "optimizer.words.lr": 0.02}
    fast |= {"diagnostics.every": 0, "model.graph.layers": 1, "model.text.max_tokens": 32}
    config.update_from_flattened_dict(SMALL | fast | changes)
    config.model.text.encoder = str(tiny_encoder(folder / "encoder"))
    config.data.path = str(table(folder / "table.csv"))
    config.data.modalities = ("audio", "words")
    return config.lock()


def train(folder, changes):
    """Trains a tiny run in a folder, beside its encoder and its table; returns the run's folder."""
    with contextlib.redirect_stdout(io.StringIO()):
        session.execute(options(folder, changes), str(folder / "run"))
    return folder / "run"


def corpus(encoder, lengths, text=(), silent=0.15, seed=0, widths=WIDTHS):
    """Conversations of the given lengths, words first among the modalities; the last two dialogues are not of train.

    `text` are changes of the options `model.text`, of the encoder in a folder.
    """
    made = builders.corpus(lengths, widths, seed=seed)
    random = np.random.default_rng(seed)
    said = [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in made.label]
    said = np.array([text if random.random() >= silent else "" for text in said])
    split = np.where(made.dialogue == len(lengths) - 2, "valid", made.split)
    made = dataclasses.replace(
        made,
        features={"words": np.zeros((len(said), 0), np.float32), **made.features},
        present={"words": said != "", **made.present},
        split=np.where(made.dialogue == len(lengths) - 1, "test", split),
        transcript=said,
    )
    chosen = base.get_config().model.text
    chosen.update({"encoder": str(encoder), "max_tokens": 32, **dict(text)})
    return words.attach(made, chosen, later=True)

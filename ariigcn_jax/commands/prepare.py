"""Convert, inspect and validate a corpus of any layout that can be read."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import Any

import numpy as np

from ariigcn_jax import data
from ariigcn_jax.data import quality, targets
from ariigcn_jax.data.assemble import assemble, other_targets
from ariigcn_jax.data.fields import Fields, is_named_like_a_modality
from ariigcn_jax.data.readers import folder, layouts
from ariigcn_jax.files import local
from ariigcn_jax.options import base
from ariigcn_jax.training import checks
from ariigcn_jax.types import WORDS, Corpus, UserError

LARGE = 50 * 2**20  # bytes, from which reading takes long enough to be announced


def _read(arguments: argparse.Namespace, raw: bool = False) -> tuple[Fields, Corpus]:
    """Read a corpus; with `raw`, words and recordings are modalities too, whose features [U, 0] training makes."""
    place = data.locate(arguments.path)
    if place.is_file() and place.stat().st_size > LARGE:
        print(f"Reading {place}, {place.stat().st_size / 1e6:,.0f} MB …", file=sys.stderr, flush=True)
    modalities = tuple(m.strip() for m in arguments.modalities.split(",") if m.strip())
    chosen: dict[str, Any] = dict(label=arguments.label, task=arguments.task)
    chosen |= dict(words=not modalities or WORDS in modalities, recorded=("audio",)) if raw else {}
    fields = layouts.read_fields(place, modalities=tuple(m for m in modalities if m != WORDS), **chosen)
    chosen |= dict(valid_fraction=arguments.valid_fraction, test_fraction=arguments.test_fraction)
    return fields, assemble(fields, name=getattr(arguments, "name", None), modalities=modalities, **chosen)


def _notes(corpus: Corpus) -> str:
    return "".join(f"note: {note}\n" for note in corpus.notes)


def _size(corpus: Corpus) -> str:
    modalities = ", ".join(f"{m} {d}" if d else m for m, d in corpus.widths.items())
    counted = f"{len(corpus):,} utterances in {len(corpus.dialogue_ids):,} dialogues"
    return f"{counted}, {targets.describe(corpus)}, modalities {modalities}"


def convert(arguments: argparse.Namespace) -> None:
    """Write a corpus as a folder of the project's own format."""
    output = local(arguments.output)
    folder.check_place(output, arguments.overwrite)  # before minutes of reading
    fields, corpus = _read(arguments)
    if arguments.label_names:
        names = [name.strip() for name in arguments.label_names.split(",")]
        if corpus.target is not None:
            raise UserError("--label-names names classes; scores have none, and the names of labels are in the file.")
        if len(names) < corpus.num_classes or len(set(names)) < len(names) or not all(names):
            raise UserError(f"--label-names: {corpus.num_classes} different names are needed, {len(names)} are given.")
        corpus = dataclasses.replace(corpus, label_names=tuple(names))
    others = {} if arguments.label != "label" else other_targets(fields, arguments.label)
    folder.write(corpus, output, targets=others, overwrite=arguments.overwrite)
    print(f"{_notes(corpus)}{output}: {_size(corpus)}")
    task = "" if corpus.target is None else f":task_{corpus.task}"
    options = f"--config=experiments/own.py{task} --config.data.path={output}"
    if not all(map(is_named_like_a_modality, corpus.modalities)):
        options += f' --config.data.modalities="{corpus.modalities}"'
    print(f"Train on it: python -m experiments.run {options}")


def inspect(arguments: argparse.Namespace) -> None:
    """Print what is in a corpus; without a path, which layouts are read."""
    if arguments.path is None:
        print(f"Layouts that are read, recognised by what is in them:\n{layouts.listing()}")
        return
    _, corpus = _read(arguments, raw=True)
    print(f"{corpus.name}: {_size(corpus)}\n")
    print(quality.examine(corpus).text())
    if corpus.notes:
        print("\nWhat reading found\n" + "\n".join(f"  - {note}" for note in corpus.notes))


def validate(arguments: argparse.Namespace) -> None:
    """Check that training could use a corpus; raise UserError where it could not."""
    fields, corpus = _read(arguments, raw=True)
    for modality, rows in corpus.features.items():
        if not all(np.isfinite(rows[i : i + 4096]).all() for i in range(0, len(rows), 4096)):
            raise UserError(f"{fields.path}: {modality} is not finite.")
    absent = [m for m, here in corpus.present.items() if not here[corpus.split == "train"].any()]
    if gone := absent + [m for m in fields.gone if not arguments.modalities]:
        why = "".join(f" {note[:1].upper()}{note[1:]}." for note in corpus.notes if f"of {gone[0]} " in note)
        remedy = "Mend that, or leave it out: --modalities with the others"
        raise UserError(f"{fields.path}: no utterance of the train split has `{gone[0]}`.{why} {remedy}.")
    print(_notes(corpus), end="")
    config = base.get_config()
    config.data.task = arguments.task
    checks.check_corpus(config, corpus)
    print(f"{fields.path}: valid, {_size(corpus)}")

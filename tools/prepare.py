"""Prepare conversations for training: convert, inspect and validate a corpus of any layout that can be read.

    python -m tools.prepare inspect PATH            what is in it, and what should be looked at before training
    python -m tools.prepare convert IN OUT          any layout → a folder of the project's own format
    python -m tools.prepare validate PATH           whether training could use it; exit status 0 or 1
    python -m tools.prepare features …              wav, video and transcripts → features

Layouts that can be read, recognised by what is in them:
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ariigcn_jax import data
from ariigcn_jax.data import quality, targets
from ariigcn_jax.data.assemble import assemble, other_targets
from ariigcn_jax.data.fields import Fields, is_named_like_a_modality
from ariigcn_jax.data.readers import folder, layouts
from ariigcn_jax.files import local
from ariigcn_jax.training import checks
from ariigcn_jax.types import Corpus, UserError
from experiments import base
from experiments.command import guarded

LARGE = 50 * 2**20  # bytes, from which reading takes long enough to be announced


def main(argv: Sequence[str]) -> int:
    """Run a command; return the exit status, 2 for wrong arguments and else as `guarded`."""
    if list(argv[1:2]) == ["features"]:
        from tools import features  # its libraries are heavy

        return features.main(["extract", *argv[2:]])
    arguments = _parser().parse_args(argv[1:])
    return guarded(lambda: arguments.run(arguments), "Nothing half-written was left.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.prepare",
        description=f"{__doc__}{layouts.listing()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def reader(name: str, what: str, run: Callable[[argparse.Namespace], None], path: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what)
        made.set_defaults(run=run)
        made.add_argument("path", metavar=path, help="a file or folder")
        add = made.add_argument
        add("--label", default="label", help="field of the classes, e.g. sentiment (default: label)")
        add("--task", choices=targets.TARGETS, default="classification", help="what it holds (default: classification)")
        add("--modalities", default="", metavar="A,B,…", help="fields to take; by default all that look like features")
        valid, test = "of the train dialogues, if no split is valid", "of all dialogues, if there are no splits"
        add("--valid-fraction", default=0.1, type=float, metavar="SHARE", help=f"{valid} (default: 0.1)")
        add("--test-fraction", default=0.2, type=float, metavar="SHARE", help=f"{test} (default: 0.2)")
        return made

    convert = reader("convert", "any layout → a folder of the project's own format", _convert, "IN")
    convert.add_argument("output", metavar="OUT", help="the folder to make")
    convert.add_argument("--overwrite", action="store_true", help="replace a corpus that is there already")
    convert.add_argument("--name", help="what the corpus is called; by default as the file")
    convert.add_argument("--label-names", metavar="A,B,…", help="names of the classes 0, 1, …")
    reader("inspect", "what is in a corpus, and what should be looked at before training", _inspect, "PATH")
    reader("validate", "whether training could use a corpus", _validate, "PATH")
    commands.add_parser("features", help="wav, video and transcripts → features")  # `main` hands it on
    return parser


def _read(arguments: argparse.Namespace, raw: bool = False) -> tuple[Fields, Corpus]:
    """Read a corpus; with `raw`, words and recordings are modalities too, whose features [U, 0] training makes."""
    place = data.locate(arguments.path)
    if place.is_file() and place.stat().st_size > LARGE:
        print(f"Reading {place}, {place.stat().st_size / 1e6:,.0f} MB …", file=sys.stderr, flush=True)
    modalities = tuple(m.strip() for m in arguments.modalities.split(",") if m.strip())
    chosen: dict[str, Any] = dict(modalities=modalities, label=arguments.label, task=arguments.task)
    chosen |= dict(words=True, recorded=("audio",)) if raw else {}
    fields = layouts.read_fields(place, **chosen)
    chosen |= dict(valid_fraction=arguments.valid_fraction, test_fraction=arguments.test_fraction)
    return fields, assemble(fields, name=getattr(arguments, "name", None), **chosen)


def _notes(corpus: Corpus) -> str:
    return "".join(f"note: {note}\n" for note in corpus.notes)


def _size(corpus: Corpus) -> str:
    modalities = ", ".join(f"{m} {d}" if d else m for m, d in corpus.widths.items())
    counted = f"{len(corpus):,} utterances in {len(corpus.dialogue_ids):,} dialogues"
    return f"{counted}, {targets.describe(corpus)}, modalities {modalities}"


def _convert(arguments: argparse.Namespace) -> None:
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


def _inspect(arguments: argparse.Namespace) -> None:
    _, corpus = _read(arguments, raw=True)
    print(f"{corpus.name}: {_size(corpus)}\n")
    print(quality.examine(corpus).text())
    if corpus.notes:
        print("\nWhat reading found\n" + "\n".join(f"  - {note}" for note in corpus.notes))


def _validate(arguments: argparse.Namespace) -> None:
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


if __name__ == "__main__":
    sys.exit(main(sys.argv))

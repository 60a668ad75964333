"""Prepares conversations for training: converts, inspects and validates a corpus of any layout that can be read.

    python -m tools.prepare inspect PATH            what is in it, and what should be looked at before training
    python -m tools.prepare convert IN OUT          any layout → a folder of the project's own format
    python -m tools.prepare validate PATH           whether training could use it; exit status 0 or 1
    python -m tools.prepare features …              wav, video and transcripts → features

Layouts that can be read, recognised by what is in them:
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ariigcn_jax import data as corpora
from ariigcn_jax.data import targets
from ariigcn_jax.data.fields import Fields, assemble, is_named_like_a_modality
from ariigcn_jax.data.fields import targets as targets_of
from ariigcn_jax.data.readers import folder as columnar
from ariigcn_jax.data.readers import layouts
from ariigcn_jax.types import Corpus, UserError
from tools import quality

LARGE = 50 * 2**20  # bytes, from which reading takes long enough to be announced


def main(argv: Sequence[str]) -> int:
    """Runs a command.

    Args:
      argv: the program and its arguments.

    Returns:
      The exit status: 0, 1 after a UserError, 2 for arguments that make no sense, 130 after an interruption.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = _parser(argv[1:2]).parse_args(argv[1:])
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Nothing half-written was left.", file=sys.stderr)
        return 130
    return 0


def _parser(command: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.prepare",
        description=f"{__doc__}{layouts.listing()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    convert = commands.add_parser("convert", help="any layout → a folder of the project's own format")
    convert.add_argument("input", metavar="IN", help="a file or folder")
    convert.add_argument("output", metavar="OUT", help="the folder to make")
    convert.add_argument("--overwrite", action="store_true", help="replace a corpus that is there already")
    convert.add_argument("--name", help="what the corpus is called; by default as the file")
    convert.add_argument("--label-names", metavar="A,B,…", help="names of the classes 0, 1, …")
    convert.set_defaults(run=_convert)
    inspect = commands.add_parser("inspect", help="what is in a corpus, and what should be looked at before training")
    inspect.add_argument("path", metavar="PATH", help="a file or folder")
    inspect.set_defaults(run=_inspect)
    validate = commands.add_parser("validate", help="whether training could use a corpus")
    validate.add_argument("path", metavar="PATH", help="a file or folder")
    validate.set_defaults(run=_validate)
    for reader in (convert, inspect, validate):
        reader.add_argument("--label", default="label", help="field of the classes, e.g. sentiment (default: label)")
        reader.add_argument(
            "--task",
            choices=targets.TARGETS,
            default="classification",
            help="what that field holds (default: classification)",
        )
        reader.add_argument(
            "--modalities", default="", metavar="A,B,…", help="fields to take; by default all that look like features"
        )
        reader.add_argument(
            "--valid-fraction",
            type=float,
            default=0.1,
            metavar="SHARE",
            help="of the train dialogues, where no validation split is named (default: 0.1)",
        )
        reader.add_argument(
            "--test-fraction",
            type=float,
            default=0.2,
            metavar="SHARE",
            help="of all dialogues, where no splits are named at all (default: 0.2)",
        )
    features = commands.add_parser("features", help="wav, video and transcripts → features")
    if list(command) == ["features"]:  # its libraries are heavy, so only then
        _add_features(features)
    return parser


def _add_features(parser: argparse.ArgumentParser) -> None:
    if importlib.util.find_spec("tools.features") is None:
        parser.error("this release has no feature extraction; bring features and use `convert`")
    module = importlib.import_module("tools.features")
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _read(path: str, arguments: argparse.Namespace) -> tuple[Fields, Corpus]:
    place = corpora.locate(path)
    if place.is_file() and place.stat().st_size > LARGE:
        print(f"Reading {place}, {place.stat().st_size / 1e6:,.0f} MB …", file=sys.stderr, flush=True)
    modalities = tuple(m.strip() for m in arguments.modalities.split(",") if m.strip())
    fields = layouts.read_fields(place, modalities=modalities, label=arguments.label, task=arguments.task)
    corpus = assemble(
        fields,
        name=getattr(arguments, "name", None),
        modalities=modalities,
        label=arguments.label,
        valid_fraction=arguments.valid_fraction,
        test_fraction=arguments.test_fraction,
        task=arguments.task,
    )
    return fields, corpus


def _say_notes(corpus: Corpus) -> None:
    for note in corpus.notes:
        print(f"note: {note}")


def _size(corpus: Corpus) -> str:
    modalities = ", ".join(f"{m} {d}" for m, d in corpus.widths.items())
    return (
        f"{len(corpus):,} utterances in {len(corpus.dialogue_ids):,} dialogues, "
        f"{targets.describe(corpus)}, "
        f"modalities {modalities}"
    )


def _convert(arguments: argparse.Namespace) -> None:
    output = Path(arguments.output).expanduser()
    columnar.check_place(output, arguments.overwrite)  # before minutes of reading
    fields, corpus = _read(arguments.input, arguments)
    if arguments.label_names:
        corpus = _renamed(corpus, [n.strip() for n in arguments.label_names.split(",")])
    others = {} if arguments.label != "label" else targets_of(fields, arguments.label)
    columnar.write(corpus, output, targets=others, overwrite=arguments.overwrite)
    _say_notes(corpus)
    print(f"{output}: {_size(corpus)}")
    name = "" if corpus.target is None else f":task_{corpus.task}"
    chosen = (
        ""
        if all(map(is_named_like_a_modality, corpus.modalities))
        else f' --config.data.modalities="{corpus.modalities}"'
    )
    print(
        f"Train on it: python -m experiments.run --config=experiments/own.py{name} --config.data.path={output}{chosen}"
    )


def _renamed(corpus: Corpus, names: list[str]) -> Corpus:
    if corpus.target is not None:
        raise UserError("--label-names names classes; scores have none, and the names of labels stand in the file.")
    if len(names) < corpus.num_classes or len(set(names)) < len(names) or not all(names):
        raise UserError(f"--label-names: {corpus.num_classes} different names are needed, {len(names)} are given.")
    return dataclasses.replace(corpus, label_names=tuple(names))


def _inspect(arguments: argparse.Namespace) -> None:
    _, corpus = _read(arguments.path, arguments)
    print(f"{corpus.name}: {_size(corpus)}\n")
    print(quality.examine(corpus).text())
    if corpus.notes:
        print("\nWhat reading found\n" + "\n".join(f"  - {note}" for note in corpus.notes))


def _validate(arguments: argparse.Namespace) -> None:
    fields, corpus = _read(arguments.path, arguments)
    for modality, rows in corpus.features.items():
        if not all(np.isfinite(rows[i : i + 4096]).all() for i in range(0, len(rows), 4096)):
            raise UserError(f"{fields.path}: {modality} is not finite.")
    _say_notes(corpus)
    print(f"{fields.path}: valid, {_size(corpus)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))

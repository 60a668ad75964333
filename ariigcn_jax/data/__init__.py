"""A file on disk, or a generator's parameters → a validated Corpus in memory."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from ariigcn_jax.data import fields, identity, labels, leakage, normalisation, splits, synthetic
from ariigcn_jax.data import targets as targets
from ariigcn_jax.data.normalisation import Normalisation
from ariigcn_jax.data.readers import conversations as conversation
from ariigcn_jax.data.readers import folder as columnar
from ariigcn_jax.data.readers import layouts, npz
from ariigcn_jax.data.readers.conversations import from_utterances, select
from ariigcn_jax.data.splits import carve
from ariigcn_jax.data.synthetic import generate
from ariigcn_jax.types import Corpus, UserError

__all__ = [
    "Normalisation",
    "carve",
    "columnar",
    "conversation",
    "fields",
    "from_utterances",
    "generate",
    "identity",
    "keep",
    "labels",
    "layouts",
    "leakage",
    "load",
    "locate",
    "normalisation",
    "npz",
    "select",
    "splits",
    "synthetic",
]

VARIABLE = "ARIIGCN_DATA"

HELP = f"""\
What is read, recognised by what is in it:
{layouts.listing()}
An .npz file is loaded without pickle and has one row per utterance (U rows):
{npz.LAYOUT}
How to get one: the features of IEMOCAP and MELD may not be redistributed, so none come with this package. Obtain the
corpus under its licence and extract or convert its features, or bring your own conversations:

    import numpy as np
    dialogue_id, split = ["d1", "d1", "d2", "d3"], ["train", "train", "valid", "test"]
    label, label_names = [0, 1, 0, 1], ["sad", "happy"]
    text = np.random.default_rng(0).normal(size=(4, 16)).astype("float32")  # put your features here
    np.savez("mine.npz", dialogue_id=dialogue_id, split=split, label=label, label_names=label_names, text=text)

To try the model without a corpus, on generated conversations:

    python -m experiments.run --config=experiments/synthetic.py"""


def load(
    path: str | Path | None,
    *,
    name: str | None = None,
    modalities: Sequence[str] = (),
    label: str = "label",
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
    standardise: bool = False,
    training: bool = True,
    task: str = "classification",
    ratings: Sequence[str] = (),
    relabel: str = "",
    split: str = "",
    without: str = "",
    carved: bool = False,
) -> Corpus:
    """Finds and reads a corpus.

    Args:
      path: a file or folder of any layout in `layouts.READERS`, or None to look where `locate` looks for `name`.
      name: what the corpus is called; the file's stem where not given.
      modalities: the fields to take as modalities, in this order; () takes every 2-D floating field named like one.
      label: the field of the labels; their names come from the field `<label>_names`.
      valid_fraction: share of the train dialogues, in [0, 1), that becomes validation where the file names none.
      test_fraction: share of the dialogues, in [0, 1), that becomes the test split where the file has no splits at all.
      standardise: whether to standardise by the train split. A trainer fits `Normalisation` itself instead, so that
        it can keep the statistics with the parameters.
      training: whether the corpus is to be trained on; else labels and splits may be absent.
      task: what the labels are: "classification", "regression" or "multilabel".
      ratings: fields of annotators' ratings to learn beside the label.
      relabel: which classes are merged, renamed or dropped, as for `labels.renamings`; "" for none.
      split: what is the test split, as in the docstring of `splits`; "" for what the file says.
      without: the dialogues that are left out, written as `split` is; "" for none.
      carved: whether the splits are those of training also where it is not `training`.

    Returns:
      A validated corpus; its `notes` say what a user should be told about the file.

    Raises:
      UserError: no such file, or one that cannot be used as it is.
    """
    corpus = fields.assemble(
        layouts.read_fields(locate(path, name), modalities=modalities, label=label, task=task),
        name=name,
        modalities=modalities,
        label=label,
        valid_fraction=valid_fraction,
        test_fraction=test_fraction,
        training=training,
        task=task,
        ratings=ratings,
        relabel=relabel,
        split=split,
        without=without,
        carved=carved,
    )
    return normalisation.apply(corpus, normalisation.fit(corpus)) if standardise else corpus


def keep(corpus: Corpus, beginnings: Sequence[str]) -> Corpus:
    """The corpus with some of its modalities alone.

    Args:
      corpus: any corpus.
      beginnings: of the names of the modalities to keep, e.g. ("text", "audio"); () keeps all.

    Returns:
      The corpus; its utterances stay, those that have none of the kept modalities too.

    Raises:
      UserError: no modality begins with one of them.
    """
    unknown = [b for b in beginnings if not any(m.startswith(b) for m in corpus.modalities)]
    if unknown:
        raise UserError(
            f"No modality of the corpus {corpus.name!r} begins with {' or '.join(map(repr, unknown))}; it has "
            f"{', '.join(corpus.modalities)}. data.only takes beginnings of these names, and only_A_B names A and B."
        )
    kept = [m for m in corpus.modalities if not beginnings or m.startswith(tuple(beginnings))]
    features, present = ({m: field[m] for m in kept} for field in (corpus.features, corpus.present))
    ranked = {m: count for m, count in corpus.ranked.items() if m in kept}
    return dataclasses.replace(corpus, features=features, present=present, ranked=ranked)


def locate(path: str | Path | None, name: str | None = None, wanted: str = "") -> Path:
    """Finds the file of a corpus.

    Args:
      path: an explicit path, of a file or a folder, which must exist; None (or "") to look for `name`.
      name: looked for as data/<name>.npz in the working directory, then by the environment variable ARIIGCN_DATA,
        which is a file, or a folder that holds <name>.npz or <name>/<name>.npz; a name may lie in a folder: a/b.
      wanted: what is said of a file that is not there, in the place of what is read and how to get a file.

    Returns:
      A path that exists.

    Raises:
      UserError: nothing is there. Says where was looked, what is read, and how to get a file.
    """
    if path:
        return _explicit(Path(path).expanduser(), wanted or HELP)
    if not name:
        raise UserError(f"No corpus is named: give the path of a file, or a name to look for.\n\n{HELP}")
    places = _places(name)
    found = next((place for place in places if os.path.isfile(place)), None)
    if found is None:
        raise UserError(_nowhere(name, places, wanted or HELP))
    return found


def _explicit(path: Path, advice: str) -> Path:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: there is no such file{_neighbours(path)}.\n\n{advice}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be looked at: {getattr(error, 'strerror', None) or error}.") from None
    return path


def _neighbours(path: Path) -> str:
    """Where a relative path was taken from, and what has nearly its name there."""
    where = "" if path.is_absolute() else f" (looked in {Path.cwd()})"
    try:
        there = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"{where}: the folder {path.parent} is not there or not readable"
    close = difflib.get_close_matches(path.name, there, n=3)
    return where + (f"; did you mean {' or '.join(str(path.parent / entry) for entry in close)}" if close else "")


def _inside(name: str) -> tuple[str, str]:
    """Where a corpus may lie in the folder that the environment variable names."""
    return f"{name}.npz", f"{name}/{Path(name).name}.npz"


def _places(name: str) -> list[Path]:
    places = [Path("data") / f"{name}.npz"]
    if variable := os.environ.get(VARIABLE):
        root = Path(variable).expanduser()
        places += [root] if os.path.isfile(root) else [root / place for place in _inside(name)]
    return places


def _nowhere(name: str, places: Sequence[Path], advice: str) -> str:
    looked = "\n".join(f"  {place}" for place in places[1:])
    if not looked:
        inside = " or ".join(_inside(name))
        looked = f"  ${VARIABLE} is not set: it may name a file, or a folder with {inside}"
    elif not os.path.exists(os.environ[VARIABLE]):
        looked += f"\n  (${VARIABLE} is {os.environ[VARIABLE]!r}, which does not exist)"
    else:
        looked += f"\n  (by ${VARIABLE})"
    return (
        f"The corpus {name!r} was not found. Looked for:\n  {places[0]} in {Path.cwd()}\n{looked}\n"
        f"Put the file in one of these places, or give its path.\n\n{advice}"
    )

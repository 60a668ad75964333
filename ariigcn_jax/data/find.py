"""Find the file of a corpus, and read it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from ariigcn_jax.data import prepare
from ariigcn_jax.data.assemble import assemble
from ariigcn_jax.data.fields import LAYOUT
from ariigcn_jax.data.readers import layouts
from ariigcn_jax.types import Corpus, UserError

VARIABLE = "ARIIGCN_DATA"

HELP = f"""\
What is read, recognised by what is in it:
{layouts.listing()}
An .npz file is loaded without pickle and has one row per utterance (U rows):
{LAYOUT}
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
    """Find and read a corpus.

    Args:
      path: a file or folder of any layout in `layouts.READERS`, or None to look where `locate` looks for `name`.
      name: what the corpus is called; the file's stem where not given.
      modalities: the fields to take as modalities, in this order; () takes every 2-D floating field named like one.
      label: the field of the labels; their names come from the field `<label>_names`.
      valid_fraction: share of the train dialogues, in [0, 1), that becomes validation where the file names none.
      test_fraction: share of the dialogues, in [0, 1), that becomes the test split where the file has no splits at all.
      standardise: whether to standardise by the train split. A trainer calls `prepare.standardise` itself, to keep the
        statistics with the parameters.
      training: whether the corpus is to be trained on; else labels and splits may be absent.
      task: what the labels are, a key of `targets.TARGETS`.
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
    corpus = assemble(
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
    return prepare.standardise(corpus)[0] if standardise else corpus


def locate(path: str | Path | None, name: str | None = None, wanted: str = "") -> Path:
    """Find the file of a corpus.

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
    """Return words on where a relative path was looked for, and what has nearly its name there."""
    where = "" if path.is_absolute() else f" (looked in {Path.cwd()})"
    try:
        there = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"{where}: the folder {path.parent} is not there or not readable"
    close = difflib.get_close_matches(path.name, there, n=3)
    return where + (f"; did you mean {' or '.join(str(path.parent / entry) for entry in close)}" if close else "")


def _inside(name: str) -> tuple[str, str]:
    """Return where a corpus may lie in the folder that the environment variable names."""
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

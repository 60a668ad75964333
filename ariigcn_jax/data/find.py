"""Find the file of a corpus, read it, and tell one corpus from another by checksums."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data import prepare
from ariigcn_jax.data.assemble import assemble
from ariigcn_jax.data.fields import LAYOUT
from ariigcn_jax.data.readers import layouts
from ariigcn_jax.files import local
from ariigcn_jax.types import WORDS, Corpus, Modality, UserError

VARIABLE = "ARIIGCN_DATA"
TEXT_ENCODER = "text encoder"  # name of its checksum among those of `digest`
CHUNK_BYTES = 16 * 2**20  # of an array that are checksummed at once
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

Words are enough: a table with dialogue_id, label and transcript is learnt by experiments/own.py.

To try the model without a corpus, on generated conversations:

    python -m experiments.run --config=experiments/synthetic.py"""


def load(
    path: str | Path | None,
    *,
    name: str | None = None,
    modalities: Sequence[str] = (),
    label: str = "label",
    task: str = "classification",
    standardise: bool = False,
    words: bool = False,
    recorded: Sequence[Modality] = (),
    recording: Path | None = None,
    **options: Any,
) -> Corpus:
    """Find, read and validate a corpus; its `notes` say what a user should know about the file.

    The file or folder has any layout in `layouts.READERS`; with the path None `locate` looks for `name`. Other keywords
    are those of `assemble`; `recording` is as in `layouts.read_fields`. `standardise` asks for features that are
    standardised by the train split; a trainer calls `prepare.standardise` itself, to keep the statistics with the
    parameters.

    Raises:
      UserError: no such file, or one that cannot be used as it is.
    """
    named = [m for m in modalities if m != WORDS]  # which is no field of a file
    asked: dict[str, Any] = dict(label=label, task=task, words=words, recorded=recorded)
    fields = layouts.read_fields(locate(path, name), modalities=named, recording=recording, **asked)
    corpus = assemble(fields, name=name, modalities=modalities, **asked, **options)
    return prepare.standardise(corpus)[0] if standardise else corpus


def digest(corpus: Corpus) -> dict[str, str]:
    """Return 32 hexadecimal digits of SHA-256 for each array that training and evaluation look at."""
    arrays: dict[str, tuple[Any, Any]] = {f"features of {m}": (x, np.float32) for m, x in corpus.features.items()}
    arrays |= {f"presence of {m}": (x, bool) for m, x in corpus.present.items()}
    columns = {"dialogue": np.int32, "speaker": np.int32, "label": np.int32, "split": "S5"}
    columns |= {"target": np.float32, "ratings": np.float32, "fold": np.int32}
    arrays |= {name: (x, dtype) for name, dtype in columns.items() if (x := getattr(corpus, name)) is not None}
    if WORDS in corpus.features and (corpus.encoder or not corpus.features[WORDS].shape[1]):
        # what a text encoder makes of them may differ in the last bits on another machine
        said = json.dumps([str(text) for text in corpus.transcript]).encode()  # type: ignore[union-attr]
        arrays[f"features of {WORDS}"] = np.frombuffer(said, np.uint8), np.uint8
    sums = {name: _checksum(x, dtype) for name, (x, dtype) in arrays.items()}
    return sums if corpus.encoder is None else {**sums, TEXT_ENCODER: corpus.encoder[1]}


def _checksum(rows: Any, dtype: Any) -> str:
    total = hashlib.sha256(repr(tuple(rows.shape)).encode())
    size = max(1, CHUNK_BYTES // max(1, np.dtype(dtype).itemsize * int(np.prod(rows.shape[1:]))))
    for first in range(0, len(rows), size):
        total.update(np.ascontiguousarray(rows[first : first + size], dtype).tobytes())
    return total.hexdigest()[:32]


def locate(path: str | Path | None, name: str | None = None) -> Path:
    """Find the file of a corpus.

    Args:
      path: of a file or a folder, which must exist; None (or "") to look for `name`.
      name: looked for as data/<name>.npz in the working directory, then by the environment variable ARIIGCN_DATA,
        which is a file, or a folder that holds <name>.npz or <name>/<name>.npz; a name may lie in a folder: a/b.

    Raises:
      UserError: nothing is there; says where was looked, what is read, and how to get a file.
    """
    if path:
        return _explicit(local(path))
    if not name:
        raise UserError(f"No corpus is named: give the path of a file, or a name to look for.\n\n{HELP}")
    places, inside = [Path("data") / f"{name}.npz"], (f"{name}.npz", f"{name}/{Path(name).name}.npz")
    variable = os.environ.get(VARIABLE)
    if variable:
        root = Path(variable).expanduser()
        places += [root] if os.path.isfile(root) else [root / place for place in inside]
    found = next((place for place in places if os.path.isfile(place)), None)
    if found is not None:
        return found
    if not variable:
        looked = f"  ${VARIABLE} is not set: it may name a file, or a folder with {' or '.join(inside)}"
    else:
        how = f"by ${VARIABLE}" if os.path.exists(variable) else f"${VARIABLE} is {variable!r}, which does not exist"
        looked = "\n".join(f"  {place}" for place in [*places[1:], f"({how})"])
    raise UserError(
        f"The corpus {name!r} was not found. Looked for:\n  {places[0]} in {Path.cwd()}\n{looked}\n"
        f"Put the file in one of these places, or give its path.\n\n{HELP}"
    )


def _explicit(path: Path) -> Path:
    """Return a path that exists; say what has nearly its name where it does not."""
    try:
        path.stat()
        return path
    except (FileNotFoundError, NotADirectoryError):
        where = "" if path.is_absolute() else f" (looked in {Path.cwd()})"
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be looked at: {getattr(error, 'strerror', None) or error}.") from None
    try:
        close = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=3)
        where += f"; did you mean {' or '.join(str(path.parent / entry) for entry in close)}" if close else ""
    except OSError:
        where += f": the folder {path.parent} is not there or not readable"
    raise UserError(f"{path}: there is no such file{where}.\n\n{HELP}")

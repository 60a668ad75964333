"""Reads a corpus from one .npz file of plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ariigcn_jax.data.assemble import assemble
from ariigcn_jax.data.fields import LAYOUT, PREFIXES, Fields, listed
from ariigcn_jax.data.values import short
from ariigcn_jax.types import Corpus, Modality, UserError

_LARGE = 2**30  # bytes of an archive's arrays, from which
_MOST_TIMES = 100  # the file's own size is more than features compress to

__all__ = ["LAYOUT", "PREFIXES", "read", "read_fields"]


def read(
    path: str | Path,
    *,
    name: str | None = None,
    modalities: Sequence[Modality] = (),
    label: str = "label",
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
) -> Corpus:
    """Reads and validates an .npz file; the layout is in `LAYOUT`.

    Args:
      path: the file.
      name: what the corpus is called; the file's stem where not given.
      modalities: the fields to take as modalities, in this order; () takes every 2-D floating field named like one.
      label: the field of the labels; their names come from the field `<label>_names`.
      valid_fraction: share of the train dialogues, in [0, 1), that becomes validation where the file names none.
      test_fraction: share of the dialogues, in [0, 1), that becomes the test split where the file has no splits at all.

    Returns:
      The corpus, features as in the file (not standardised). Dialogues come in the order of their first rows.

    Raises:
      UserError: the file cannot be read or used; names the file, the field and what to do.
    """
    archive = read_fields(path)
    return assemble(
        archive,
        name=name,
        modalities=modalities,
        label=label,
        valid_fraction=valid_fraction,
        test_fraction=test_fraction,
    )


def read_fields(path: str | Path) -> Fields:
    """The arrays of an .npz file, without pickle.

    Args:
      path: the file.

    Returns:
      Its fields, not validated.

    Raises:
      UserError: no such file, or no archive of arrays.
    """
    path = Path(path)
    _check_magic(path)
    arrays: dict[str, np.ndarray] = {}
    opaque = []
    try:
        # numpy leaves a file that it opened itself open when it cannot read it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _check_size(path, archive)
            for field in archive.files:
                array = _member(archive, field)
                if isinstance(array, np.ndarray):
                    arrays[field] = array
                else:
                    opaque.append(field)
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise ten kinds on damaged bytes, and nothing else runs here
        raise UserError(
            f"{path}: the archive is truncated or damaged ({type(error).__name__}: {short(error)}). "
            "Copy it again, or write it again with numpy.savez."
        ) from error
    if not arrays and not opaque:
        raise UserError(f"{path}: the archive holds no arrays. It must have these fields:\n{LAYOUT}")
    return Fields(path, arrays, tuple(opaque))


def _check_size(path: Path, archive: np.lib.npyio.NpzFile) -> None:
    """Refuses a small file that unpacks to a very large one: features of a corpus never shrink so far."""
    unpacked = sum(member.file_size for member in archive.zip.infolist()) if archive.zip else 0
    packed = path.stat().st_size
    if unpacked > _LARGE and unpacked > _MOST_TIMES * packed:
        raise UserError(
            f"{path}: would unpack to {unpacked / 1e9:,.1f} GB, from {packed / 1e6:,.1f} MB. It is damaged or made to "
            "fill the memory; if it is not, write it again with numpy.savez, uncompressed."
        )


def _check_magic(path: Path) -> None:
    """Tells apart what is no .npz file at all, which numpy would report as a pickle."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        inside = listed(sorted(p.name for p in path.glob("*.npz")))
        raise UserError(f"{path}: this is a folder. Give the path of an .npz file; it holds {inside}.") from None
    except PermissionError:
        raise UserError(f"{path}: no permission to read this file. Change its permissions or its owner.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not magic:
        raise UserError(f"{path}: the file is empty. Copy it again, or write it with numpy.savez.")
    if not magic.startswith(b"PK"):
        what = " (a pickle can run code and is not loaded)" if path.suffix in (".pkl", ".pickle", ".p") else ""
        raise UserError(
            f"{path}: this is not an .npz file{what}. Convert it with numpy.savez to one with these fields:\n{LAYOUT}"
        )


def _member(archive: np.lib.npyio.NpzFile, field: str) -> np.ndarray | None:
    """The array of a field; None where it is none that can be read without pickle."""
    try:
        array = archive[field]
    except ValueError as error:
        if "allow_pickle" in str(error):
            return None
        raise
    return array if isinstance(array, np.ndarray) else None

"""Read one .npz file of plain arrays, without pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ariigcn_jax.data.fields import LAYOUT, PREFIXES, Fields
from ariigcn_jax.data.readers import text
from ariigcn_jax.data.values import short
from ariigcn_jax.types import UserError

__all__ = ["LAYOUT", "PREFIXES", "read_fields"]

_LARGE = 2**30  # bytes of an archive's arrays, below which it may shrink as far as it likes
_MOST_TIMES = 100  # the file's own size; features of a corpus never shrink so far


def read_fields(path: str | Path) -> Fields:
    """Return the arrays of an .npz file, not validated.

    Raises:
      UserError: the file cannot be opened, or is no archive of arrays.
    """
    path = Path(path)
    if not text.start(path, 2) == b"PK":
        raise UserError(
            f"{path}: this is not an .npz file. Convert it with numpy.savez to one with these fields:\n{LAYOUT}"
        )
    arrays: dict[str, np.ndarray] = {}
    opaque = []
    try:
        # numpy leaves a file that it opened itself open when it cannot read it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _check_size(path, archive)
            for field in archive.files:
                array = _member(archive, field)
                if array is None:
                    opaque.append(field)
                else:
                    arrays[field] = array
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
    """Refuse a small file that unpacks to a very large one."""
    unpacked = sum(member.file_size for member in archive.zip.infolist()) if archive.zip else 0
    packed = path.stat().st_size
    if unpacked > _LARGE and unpacked > _MOST_TIMES * packed:
        raise UserError(
            f"{path}: would unpack to {unpacked / 1e9:,.1f} GB, from {packed / 1e6:,.1f} MB. It is damaged or made to "
            "fill the memory; if it is not, write it again with numpy.savez, uncompressed."
        )


def _member(archive: np.lib.npyio.NpzFile, field: str) -> np.ndarray | None:
    """Return the array of a field; None where it is none that can be read without pickle."""
    try:
        array = archive[field]
    except ValueError as error:
        if "allow_pickle" in str(error):
            return None
        raise
    return array if isinstance(array, np.ndarray) else None

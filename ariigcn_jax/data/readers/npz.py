"""Read one .npz file of plain arrays, without pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ariigcn_jax.data.fields import LAYOUT, Fields
from ariigcn_jax.data.readers import columns, text
from ariigcn_jax.data.values import check_rows
from ariigcn_jax.types import UserError

_LARGE = 2**29  # bytes of an archive's arrays, below which it may shrink as far as it likes
_MOST_TIMES = 100  # the file's own size; features of a corpus never shrink so far


def read_fields(path: Path, label: str = "label", task: str = "classification") -> Fields:
    """Return the arrays of an .npz file, not validated; labels in text are read as those of a table.

    Args:
      path: the file.
      label: the field of the labels, which may be text.
      task: what they are, where they are text.

    Raises:
      UserError: it cannot be read, is damaged, holds no arrays, or unpacks to far more than its size explains.
    """
    arrays: dict[str, np.ndarray] = {}
    opaque = []
    # numpy leaves a file that it opened itself open when it cannot read it.
    with (
        text.reading(path),
        path.open("rb") as file,
        text.intact(f"{path}: the archive"),
        np.load(file, allow_pickle=False) as archive,
    ):
        packed, unpacked = path.stat().st_size, sum(member.file_size for member in archive.zip.infolist())
        if unpacked > max(_LARGE, _MOST_TIMES * packed):
            raise UserError(
                f"{path}: would unpack to {unpacked / 1e9:,.1f} GB, from {packed / 1e6:,.1f} MB. It is damaged or made "
                "to fill the memory; if it is not, write it again with numpy.savez, uncompressed."
            )
        for field in archive.files:
            try:
                array = archive[field]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                array = None
            if isinstance(array, np.ndarray):
                check_rows(len(np.atleast_1d(array)), packed, f"{path}: `{field}`")
                arrays[field] = array
            else:
                opaque.append(field)
    if not arrays and not opaque:
        raise UserError(f"{path}: the archive holds no arrays. It must have these fields:\n{LAYOUT}")
    fields = Fields(path, arrays, tuple(opaque))
    if label in arrays and arrays[label].dtype.kind in "US" and (names := fields.names(label)) is not None:
        columns.read_labels(fields, names.tolist(), label, label, task, packed)
    return fields

"""Read Parquet and Arrow files, and find the files of a data set that Hugging Face's `save_to_disk` wrote.

It needs pyarrow, of the extra `parquet`. Recordings in a table are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ariigcn_jax.data.readers import text
from ariigcn_jax.data.values import check_size
from ariigcn_jax.types import UserError

if TYPE_CHECKING:
    import pandas as pd

_MAGIC = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")  # Parquet; an Arrow file, which Feather is; an Arrow stream


def recognise(start: bytes) -> bool:
    """Return whether a file with this start is one of Parquet or Arrow."""
    return start.startswith(_MAGIC)


def saved(folder: Path) -> dict[str, list[Path]]:
    """Return split -> its files in a folder of `save_to_disk`, "" for a data set without splits; {} for others."""
    if (folder / "dataset_dict.json").is_file():
        return {place.name: files for place in sorted(folder.iterdir()) if (files := saved(place).get(""))}
    if not (folder / "state.json").is_file() or not (folder / "dataset_info.json").is_file():
        return {}
    files = [path for path in sorted(folder.glob("*.arrow")) if not path.name.startswith("cache-")]
    return {"": files} if files else {}


def read(path: Path) -> pd.DataFrame:
    """Return the rows of a Parquet or Arrow file or an Arrow stream, as objects.

    The numbers of a Hugging Face class are replaced by its names.

    Raises:
      UserError: pyarrow is not installed, or the file cannot be read.
    """
    import pandas as pd

    try:
        from pyarrow import types
    except ImportError:
        raise UserError(
            f"{path}: Parquet and Arrow are read by pyarrow. Install it: pip install 'ariigcn-jax[parquet]'."
        ) from None
    with text.intact(f"{path}: the file"):
        table = _table(path)
        if len(set(table.column_names)) < table.num_columns:
            raise ValueError("a column's name comes twice")
        about = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        described = about.get("info", {}).get("features", {})
        columns: dict[str, Any] = {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            kind = column.type
            if types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind):
                continue
            is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
            vectors = is_list and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type))
            values = list(column.to_pandas()) if vectors else column.to_pylist()
            classes = described.get(name, {}).get("names") if isinstance(described.get(name), dict) else None
            if classes and types.is_integer(kind):
                values = [classes[v] if v is not None and 0 <= v < len(classes) else None for v in values]
            columns[name] = pd.Series(values, dtype=object)
        return pd.DataFrame(columns, index=range(table.num_rows), dtype=object)


def _table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"PAR1"):
            about = pq.ParquetFile(file).metadata
            groups = [about.row_group(i) for i in range(about.num_row_groups)]
            numbers = sum(g.column(i).num_values for g in groups for i in range(g.num_columns))
            check_size(4 * numbers, path.stat().st_size, str(path))
            file.seek(0)
            table = pq.read_table(file, use_threads=False)
        else:
            table = (pa.ipc.open_file if start.startswith(b"ARROW1") else pa.ipc.open_stream)(file).read_all()
    table.validate(full=True)
    return table

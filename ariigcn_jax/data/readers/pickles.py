"""Read pickles of numpy arrays, numbers, text and built-in containers, and import nothing that a pickle names.

A pickle is a program for a small stack machine. Here the machine is the standard library's, without its ways to import
and to call: a name is inert text that stands for a function of `_MAKERS`, and any other name ends the reading. It is
the library's Python version, because the C version takes 64 GB for an instruction that names the memo's entry 2**32,
and 32 bytes for each float of a list.
"""

from __future__ import annotations

import math
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ariigcn_jax.data.readers import text
from ariigcn_jax.data.values import check_repeats, short
from ariigcn_jax.types import UserError

_FREE_OBJECTS = 1_000_000  # that any file may make, however small it is
_BYTES_AN_OBJECT = 8  # of the file, for each one more: an empty set takes 1 byte there and 216 in memory
_MOST_KEYS = 20_000  # of one container that are not text: numbers can be chosen so that their hashes collide
_MOST_KEYS_TOGETHER = 200_000  # of all containers that are not text
_MOST_OF_ONE_HASH = 100  # different keys
_BATCH = 1000  # values that pickle appends to a list at a time

# Floats of a list: a mark, G and 8 bytes for each, and e; or a last one and a. Frame headers between them take 9 bytes.
_FLOATS = re.compile(rb"(?:\x95.{8})?(?:\(((?:[G\x95].{8}){1,1001}+)e|(G.{8})a)", re.DOTALL)


def load(path: Path) -> Any:
    """Read a pickle file of any protocol, of Python 2 or 3, with arrays of numpy 1 or 2.

    Returns:
      What it holds: containers, text, numbers, numpy arrays and scalars. Text of Python 2 is decoded as Latin-1. A list
      of two or more floats comes as a 1-D float64 array.

    Raises:
      UserError: the file cannot be read, is damaged, repeats the same contents over and over, or asks for anything
        else than the above, which is named.
    """
    with text.reading(path), path.open("rb", buffering=1 << 20) as file:
        return load_stream(file, str(path))


def load_stream(file: BinaryIO, what: str) -> Any:
    """Read, as `load`, the pickle that begins at the position of a seekable file, which messages call `what`."""
    begin = file.tell()
    size = file.seek(0, os.SEEK_END) - begin
    file.seek(begin)
    with text.intact(f"{what}: the pickle"):
        try:
            value = _Unpickler(file, size).load()
        except _RefusedError as refused:
            raise UserError(
                f"{what}: the pickle asks for {refused}, which is neither a numpy array or scalar nor a built-in "
                "container; it was refused and nothing of it was run. Write the file again with numpy arrays, numbers "
                "and text only, or in the project's own format (python -m tools.prepare convert --help)."
            ) from None
        check_repeats(value, size, what)
        return value


class _RefusedError(Exception):
    """A pickle asked for something that is not data."""


class _Name(str):
    """A name that stands for a function of `_MAKERS`."""


class _DType:
    """A numpy dtype, which a state gives its byte order."""

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype


_SPEC = re.compile(r"[<>=|]?(?:[iu][1248]|f(?:2|4|8|16)|c(?:8|16)|b1|\?|O8?|[SU]\d{0,7}|[bBhHiIlLqQefdg])")
_SCALARS = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bool"),
)


def _dtype(spec: Any, *_: Any) -> _DType:
    """Stand for numpy.dtype(spec, align, copy)."""
    if isinstance(spec, _Name) and spec.removeprefix("numpy.") in _SCALARS:
        return _DType(np.dtype(spec.removeprefix("numpy.")))
    spec = spec.decode("ascii") if isinstance(spec, bytes) else spec
    if not isinstance(spec, str) or not _SPEC.fullmatch(spec):
        raise ValueError(f"the dtype {short(spec, 40)!r}")
    return _DType(np.dtype(spec))


def _bytes(data: Any = b"", encoding: Any = "latin1") -> bytes:
    """Stand for bytes(data), and for _codecs.encode(text, "latin1"), as protocols below 3 write bytes."""
    if isinstance(data, str) and encoding in ("latin1", "latin-1"):
        return data.encode("latin-1")
    if not isinstance(data, bytes | bytearray):  # of a number, bytes() would make as many zeros
        raise ValueError("bytes made from something else")
    return bytes(data)


def _values(machine: _Unpickler, values: Any = ()) -> list[Any]:
    """Stand for list(values)."""
    if not isinstance(values, list | tuple | set | frozenset | np.ndarray):
        raise ValueError("a container made from something else")
    if isinstance(values, np.ndarray):
        machine.charge(values.size + max(values.shape, default=0))
        return np.atleast_1d(values).tolist()
    return list(values)


def _pairs(machine: _Unpickler, pairs: Any = ()) -> dict[Any, Any]:
    """Stand for dict(pairs)."""
    listed = _values(machine, pairs)
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in listed):
        raise ValueError("a dictionary made from something other than pairs")
    return dict(zip(machine.keys([key for key, _ in listed]), [value for _, value in listed], strict=True))


def _fill(machine: _Unpickler, array: np.ndarray, state: Any) -> None:
    """Give an array its state: (version, shape, dtype, whether in Fortran order, bytes or a list of objects)."""
    shape, kind, fortran, data = state[-4:]
    data = _values(machine, data) if kind.dtype.hasobject else _bytes(data)
    if min(shape, default=0) < 0 or len(data) != math.prod(shape) * (kind.dtype.hasobject or kind.dtype.itemsize):
        raise ValueError(f"an array of {len(data)} bytes or objects that claims the shape {shape}")
    array.__setstate__((1, shape, kind.dtype, bool(fortran), data))  # type: ignore[arg-type]
    _check_text(array)


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """Stand for numpy's _frombuffer, which protocol 5 uses."""
    array = np.frombuffer(_bytes(data), kind.dtype).reshape(shape, order="F" if order == "F" else "C")
    _check_text(array)
    return array


def _scalar(kind: Any, data: Any = b"") -> Any:
    """Stand for numpy's scalar."""
    if not data and not kind.dtype.itemsize:  # text without characters
        return np.zeros(1, kind.dtype)[0]
    return _from_buffer(data, kind, (1,), "C")[0]


def _check_text(array: np.ndarray) -> None:
    """Raise `ValueError` for text whose numbers are no characters."""
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        characters = np.frombuffer(array.tobytes(), f"{array.dtype.str[0]}u4")
        if characters.max() > sys.maxunicode:
            raise ValueError("text of characters that do not exist")


_BUILTINS: dict[str, Callable[..., Any]] = {  # each maker takes the machine first, which counts keys
    "list": _values,
    "tuple": lambda machine, *values: tuple(_values(machine, *values)),
    "set": lambda machine, *values: set(machine.keys(_values(machine, *values))),
    "frozenset": lambda machine, *values: frozenset(machine.keys(_values(machine, *values))),
    "dict": lambda machine, *pairs: _pairs(machine, *pairs),
    "bytes": lambda _, *data: _bytes(*data),
    "bytearray": lambda _, *data: bytearray(_bytes(*data)),
    "complex": lambda _, *parts: complex(*map(float, parts)),
}
_MAKERS: dict[str, Callable[..., Any]] = {
    **{f"{module}.{name}": make for module in ("builtins", "__builtin__") for name, make in _BUILTINS.items()},
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: np.empty(0, np.int8) for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": lambda _, *parts: _scalar(*parts) for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": lambda _, *parts: _from_buffer(*parts) for core in ("core", "_core")},
    **{f"numpy.{name}": lambda *_: None for name in ("ndarray", *_SCALARS)},  # they are arguments, and not called
    "numpy.dtype": lambda _, *parts: _dtype(*parts),
    "_codecs.encode": lambda _, *parts: _bytes(*parts),
    "collections.OrderedDict": _BUILTINS["dict"],
    "collections.defaultdict": lambda *_: {},
}
_Machine: Any = pickle._Unpickler  # of which the type stubs know little


def _refuse(what: str) -> Callable[..., None]:
    def refuse(*_: Any) -> None:
        raise _RefusedError(what)

    return refuse


class _Unpickler(_Machine):
    """The standard library's machine; it neither imports nor calls, and counts what it makes."""

    def __init__(self, file: BinaryIO, size: int):
        super().__init__(file, encoding="latin1")
        self._file = file
        self.stack: list[Any] = []
        self.objects = _FREE_OBJECTS + size // _BYTES_AN_OBJECT  # that may still be made
        self._keys = _MOST_KEYS_TOGETHER  # other than text that may still be hashed
        self._hashed: dict[int, set[Any]] = {}  # hash → the keys other than text that have it
        self._floats: dict[int, Any] = {}  # id of an array that stands for a list of floats → its key in the memo

    def find_class(self, module: str, name: str) -> _Name:
        full = f"{module}.{name}"
        if full not in _MAKERS:
            raise _RefusedError(f"`{''.join(c if c.isprintable() else '?' for c in full[:120])}`")
        return _Name(full)

    persistent_load = _refuse("an object kept elsewhere (a persistent id)")
    get_extension = _refuse("a registered extension")
    load_next_buffer = load_readonly_buffer = _refuse("a buffer kept elsewhere")
    _instantiate = load_newobj = load_newobj_ex = _refuse("an instance of a class")

    def load_reduce(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name):
            raise ValueError("a call of something that is no function")
        made = _MAKERS[name](self, *arguments)
        self.charge(1 + max(sys.getsizeof(made), getattr(made, "nbytes", 0)) // 64)
        self.append(made)

    def load_build(self) -> None:
        state, value = self.stack.pop(), self.stack[-1]
        if isinstance(value, _DType):
            value.dtype = value.dtype.newbyteorder(state[1]) if state[1] in ("<", ">") else value.dtype
        elif isinstance(value, np.ndarray) and not value.size:
            _fill(self, value, state)
            self.charge(1 + value.nbytes // 64)
        else:
            raise _RefusedError("a state for an object other than an array")

    def load_put(self) -> None:
        index = int(self.readline())
        if not 0 <= index < 1 << 32:  # large numbers can be chosen so that their hashes collide
            raise ValueError(f"an entry {short(index, 40)} of the memo")
        self.memo[index] = self.stack[-1]

    def load_frame(self) -> None:
        self.read(8)  # how many bytes follow, which are read as they are needed

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def charge(self, objects: int = 1) -> None:
        """Count objects, or copies of 64 bytes; raise `ValueError` for more than the file's size explains."""
        self.objects -= objects
        if self.objects < 0:
            raise ValueError("far more objects than a file of this size needs")

    def load_mark(self) -> None:
        if self.stack and type(self.stack[-1]) is list and not self.stack[-1] and self._load_floats():
            return
        self.charge()
        self.metastack.append(self.stack)
        self.stack = []
        self.append = self.stack.append

    def _load_floats(self) -> bool:
        """Put an array in the place of an empty list if floats follow: 8 bytes each where Python's take 32."""
        found: list[np.ndarray] = []
        following = self._file.read(1)
        self._file.seek(-len(following), os.SEEK_CUR)
        if following not in (b"G", pickle.FRAME):  # reading a block takes time
            return False
        self._file.seek(-1, os.SEEK_CUR)  # before the mark
        while match := _FLOATS.match(block := self._file.read(9 * (_BATCH + 3))):
            rows = np.frombuffer(match[match.lastindex or 0], np.uint8).reshape(-1, 9)
            found.append(np.ascontiguousarray(rows[rows[:, 0] == ord("G"), 1:]).view(">f8")[:, 0])
            self._file.seek(match.end() - len(block), os.SEEK_CUR)
        self._file.seek((not found) - len(block), os.SEEK_CUR)
        if found:
            key = next(reversed(self.memo), None)
            self._replace(np.concatenate(found).astype(np.float64), key)
            self._floats[id(self.stack[-1])] = key
        return bool(found)

    def _replace(self, value: Any, key: Any) -> None:
        """Put a value in the place of the newest on the stack, and in that of its entry in the memo."""
        if key is not None and self.memo.get(key) is self.stack[-1]:
            self.memo[key] = value
        self.stack[-1] = value

    def _top(self, kind: type) -> Any:
        if id(self.stack[-1]) in self._floats:  # more than floats are appended to it, or it stays an array
            self._replace(self.stack[-1].tolist(), self._floats.pop(id(self.stack[-1])))
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"something else in the place of a {kind.__name__}")
        return self.stack[-1]

    def load_append(self) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()
        self._top(list).extend(values)

    def load_additems(self) -> None:
        values = self.pop_mark()
        self._top(set).update(self.keys(values, len(self.stack[-1])))

    def load_frozenset(self) -> None:
        values = self.pop_mark()
        self.append(frozenset(self.keys(values)))

    def load_dict(self) -> None:
        values = self.pop_mark()
        self.append({})
        self._update(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def load_setitems(self) -> None:
        self._update(self.pop_mark())

    def _update(self, values: list[Any]) -> None:
        self._top(dict).update(zip(self.keys(values[::2], len(self.stack[-1])), values[1::2], strict=True))

    def keys(self, keys: list[Any], there: int = 0) -> list[Any]:
        """Return keys for a container that has `there`; raise `ValueError` for those that could take long to hash."""
        others = [key for key in keys if type(key) is not str and type(key) is not bytes]
        for part in (p for key in others for p in (key if type(key) is tuple and len(key) < 16 else (key,))):
            if part is not None and not isinstance(part, str | bytes | int | float | np.generic):
                raise ValueError(f"a {type(part).__name__} in a key")
            if isinstance(part, int) and part.bit_length() > 64:
                raise ValueError("an integer of more than 64 bits in a key")
        self._keys -= len(others)
        if others and (self._keys < 0 or there + len(others) > _MOST_KEYS):
            raise ValueError(f"more than {_MOST_KEYS:,} keys of a container, or {_MOST_KEYS_TOGETHER:,}, are not text")
        for key in others:
            alike = self._hashed.setdefault(hash(key), set())
            alike.add(key)
            if len(alike) > _MOST_OF_ONE_HASH:
                raise ValueError(f"more than {_MOST_OF_ONE_HASH} keys have one hash")
        return keys


def _counted(handler: Callable[[Any], None]) -> Callable[[Any], None]:
    """Count what an instruction makes."""

    def count(machine: _Unpickler) -> None:
        machine.objects -= 1  # `charge` is called where it will raise alone: a call takes time
        if machine.objects < 0:
            machine.charge()
        handler(machine)

    return count


_COUNTED = (
    *(pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET, pickle.LIST, pickle.DICT, pickle.FROZENSET),
    *(pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
)
_Unpickler.dispatch = {  # the library's table with the methods that are replaced above
    code: getattr(_Unpickler, method.__name__) for code, method in _Machine.dispatch.items()
}
_Unpickler.dispatch |= {code: _counted(_Unpickler.dispatch[code]) for (code,) in _COUNTED}

"""Reads pickles of numpy arrays, scalars and built-in containers, and runs nothing that a pickle asks for.

A pickle is a program. Here it runs on a machine that has no way to import or to call anything: the names that it may
use are the keys of `_MAKERS`, each stands for a function of this module, and any other name ends the reading where it
is named, before anything that came with it could run. Sizes that a pickle claims are held against the bytes that are
left in the file, so that nothing is allocated for a claim.
"""

from __future__ import annotations

import codecs
import math
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ariigcn_jax.data.values import short
from ariigcn_jax.types import UserError

_BUFFER = 1 << 20
_FREE_OBJECTS = 1_000_000  # containers, arrays and memo entries that any file may make, however small it is
_BYTES_AN_OBJECT = 8  # of the file, for each one more: an empty set takes 1 byte there and 216 in memory
_MOST_DIGITS = 1024  # bytes of an integer
_RUN = 1000  # floats that pickle appends to a list at a time
_FLOAT, _APPENDS = b"Ge"


def load(path: str | Path) -> Any:
    """Reads a pickle file of any protocol, of Python 2 or 3, with arrays of numpy 1 or 2.

    Args:
      path: the file.

    Returns:
      What it holds: containers, text, numbers, numpy arrays and scalars. Text of Python 2 is decoded as Latin-1, and a
      list of floats may come as a 1-D float64 array.

    Raises:
      UserError: the file cannot be read, is truncated or damaged, claims more than it holds, or asks for anything else
        than the above, which is named.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return load_stream(file, str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None


def load_stream(file: BinaryIO, what: str) -> Any:
    """Reads the pickle that begins at a file's current position.

    Args:
      file: a seekable binary file.
      what: how messages call it.

    Returns:
      As `load`.

    Raises:
      UserError: as `load`.
    """
    try:
        return _Machine(file).run()
    except _RefusedError as refused:
        raise UserError(
            f"{what}: the pickle asks for {refused}, which is neither a numpy array or scalar nor a built-in "
            "container; it was refused and nothing of it was run. Write the file again with numpy arrays, numbers and "
            "text only, or use the project's own format (python -m tools.prepare convert --help)."
        ) from None
    except MemoryError:
        raise UserError(f"{what}: the pickle needs more memory than there is.") from None
    except Exception as error:  # damaged bytes make any handler fail in its own way, and none of them runs foreign code
        words = str(error) or "nothing more is known"
        raise UserError(
            f"{what}: the pickle is truncated or damaged ({type(error).__name__}: {short(words)}). Copy it again."
        ) from None


class _RefusedError(Exception):
    """A pickle asked for something that is not data."""


class _Global:
    """A name that a pickle may use."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class _Type:
    """A numpy dtype as a pickle describes it."""

    __slots__ = ("order", "spec")

    def __init__(self, spec: str):
        self.spec = spec
        self.order: Literal["<", ">", "|", "="] = "="

    def resolve(self) -> np.dtype:
        made = np.dtype(self.spec)
        return made.newbyteorder(self.order) if self.order in "<>" else made


_SPEC = re.compile(r"[<>=|]?(?:[iu][1248]|f(?:2|4|8|16)|c(?:8|16)|b1|\?|O8?|[SU]\d{0,7}|[bBhHiIlLqQefdg])")


def _type(spec: Any, *_: Any) -> _Type:
    """numpy.dtype(spec, align, copy)."""
    if isinstance(spec, _Global) and spec.name.startswith("numpy."):
        spec = spec.name.removeprefix("numpy.")
        if spec not in _SCALARS:
            raise ValueError(f"the dtype numpy.{spec}")
        return _Type(np.dtype(spec).str)
    if isinstance(spec, bytes):
        spec = spec.decode("ascii")
    if not isinstance(spec, str) or not _SPEC.fullmatch(spec):
        raise ValueError(f"the dtype {str(spec)[:40]!r}")
    return _Type(spec)


def _resolved(kind: Any) -> np.dtype:
    if not isinstance(kind, _Type):
        raise ValueError("something that is no dtype in the place of one")
    return kind.resolve()


def _raw(data: Any) -> Any:
    """The bytes of an array; Python 2 wrote them as text."""
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, bytes | bytearray):
        raise ValueError("an array without its bytes")
    return data


def _shape(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, int) and not isinstance(shape, bool):
        shape = (shape,)
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise ValueError("an array with an impossible shape")
    return shape


def _reconstruct(*_: Any) -> np.ndarray:
    """numpy's _reconstruct: an array that its state will fill."""
    return np.empty(0, np.int8)


def _fill(array: np.ndarray, state: Any) -> None:
    """The state of an array: (version, shape, dtype, is Fortran order, bytes)."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise ValueError("an array with an impossible state")
    shape, kind, fortran, data = state[-4:]
    shape, dtype = _shape(shape), _resolved(kind)
    if dtype.hasobject:
        data = _expanded(data) if isinstance(data, list) else data
        if not isinstance(data, list) or len(data) != math.prod(shape):
            raise ValueError("an object array without its objects")
    else:
        data = bytes(_raw(data))
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of {len(data)} bytes that claims the shape {shape}")
    array.__setstate__((1, shape, dtype, bool(fortran), data))  # type: ignore[arg-type]


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """numpy's _frombuffer, which protocol 5 uses."""
    array = np.frombuffer(_raw(data), _resolved(kind))
    return array.reshape(_shape(shape), order="F" if order == "F" else "C")


def _scalar(kind: Any, data: Any = b"") -> Any:
    """numpy's scalar."""
    dtype = _resolved(kind)
    if dtype.hasobject:
        raise ValueError("an object as a numpy scalar")
    data = _raw(data)
    if len(data) != dtype.itemsize:
        raise ValueError("a numpy scalar of the wrong size")
    return np.frombuffer(data, dtype)[0] if dtype.itemsize else dtype.type()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """_codecs.encode, which protocols below 3 use for bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("an encoding other than Latin-1")
    return text.encode("latin-1")


def _bytes(*arguments: Any) -> bytes:
    if not arguments:
        return b""
    return _encode(*arguments) if isinstance(arguments[0], str) else bytes(_buffer(arguments[0]))


def _bytearray(*arguments: Any) -> bytearray:
    return bytearray(_bytes(*arguments))


def _buffer(data: Any) -> bytes | bytearray:
    if not isinstance(data, bytes | bytearray):  # a number would be a size
        raise ValueError("bytes made from something else")
    return data


def _items(values: Any = ()) -> list | tuple | set | frozenset:
    if not isinstance(values, list | tuple | set | frozenset):
        raise ValueError("a container made from something else")
    if any(isinstance(v, _Run) for v in values):
        return _expanded(values)
    return values


def _list(values: Any = ()) -> list:
    return list(_items(values))


def _tuple(values: Any = ()) -> tuple:
    return tuple(_items(values))


def _set(values: Any = ()) -> set:
    return {_key(v) for v in _items(values)}


def _frozenset(values: Any = ()) -> frozenset:
    return frozenset(_set(values))


def _dict(pairs: Any = ()) -> dict:
    if isinstance(pairs, dict):
        return dict(pairs)
    return {_key(k): v for k, v in _items(pairs)}


def _default_dict(*_: Any) -> dict:
    return {}


def _complex(real: Any = 0, imaginary: Any = 0) -> complex:
    return complex(float(real), float(imaginary))


def _none(*_: Any) -> Any:
    raise ValueError("a type that is called")


_SCALARS = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bool"),
)
_BUILTINS: dict[str, Callable[..., Any]] = {
    "list": _list,
    "tuple": _tuple,
    "set": _set,
    "frozenset": _frozenset,
    "dict": _dict,
    "bytes": _bytes,
    "bytearray": _bytearray,
    "complex": _complex,
}
_MAKERS: dict[str, Callable[..., Any]] = {
    **{f"{module}.{name}": make for module in ("builtins", "__builtin__") for name, make in _BUILTINS.items()},
    **{f"{core}.multiarray._reconstruct": _reconstruct for core in ("numpy.core", "numpy._core")},
    **{f"{core}.multiarray.scalar": _scalar for core in ("numpy.core", "numpy._core")},
    **{f"{core}.numeric._frombuffer": _from_buffer for core in ("numpy.core", "numpy._core")},
    **{f"numpy.{name}": _none for name in ("ndarray", *_SCALARS)},
    "numpy.dtype": _type,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _default_dict,
}


def _key(value: Any) -> Any:
    """A dictionary's key or a set's element; hashing nested ones could take for ever."""
    flat = value if type(value) is tuple and len(value) < 16 else (value,)
    if not all(v is None or isinstance(v, str | bytes | int | float | np.generic) for v in flat):
        raise ValueError(f"a {type(value).__name__} as a key")
    return value


class _Mark:
    __slots__ = ()


_MARK = _Mark()


class _Run(np.ndarray):
    """Floats that follow one another, in 8 bytes each where Python's take 32."""


def _expanded(values: Any) -> list[Any]:
    """A list with its runs as single floats."""
    return [x for v in values for x in (v.tolist() if isinstance(v, _Run) else (v,))]


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._end = _size(file)
        self._base = file.tell()  # of the buffer in the file
        self._data = b""
        self._at = 0
        self._stack: list[Any] = []
        self._memo: list[Any] = []  # files number it from 0 without gaps
        self._sparse: dict[int, Any] = {}  # except for strange ones
        self._memoized = 0
        self._last = -1  # index of the newest entry
        self._objects = _FREE_OBJECTS + self._end // _BYTES_AN_OBJECT
        self._ran = False  # whether there are runs of floats in lists

    def run(self) -> Any:
        """Runs to the end; what the pickle holds."""
        handlers = _HANDLERS
        while True:
            if self._at >= len(self._data):
                self._fetch()
            opcode = self._data[self._at]
            self._at += 1
            handler = handlers[opcode]
            if handler is None:
                raise ValueError(f"the byte {opcode:#04x} is no instruction")
            if handler is _stop:
                break
            handler(self)
        value = self.pop()
        self._memo.clear()
        self._sparse.clear()
        return _settled(value) if self._ran else value

    # Reading

    def _left(self) -> int:
        return self._end - self._base - self._at

    def _fetch(self) -> None:
        self._base += self._at
        self._file.seek(self._base)
        self._data, self._at = self._file.read(_BUFFER), 0
        if not self._data:
            raise EOFError("the file ends before the pickle does")

    def read(self, number: int) -> bytes:
        if number < 0 or number > self._left():
            raise EOFError(f"{number:,} bytes are announced where {self._left():,} are left")
        end = self._at + number
        if end <= len(self._data):
            value, self._at = self._data[self._at : end], end
            return value
        self._base += self._at
        self._file.seek(self._base)
        value = self._file.read(number)
        if len(value) != number:
            raise EOFError("the file ends before the pickle does")
        self._base += number
        self._data, self._at = b"", 0
        return value

    def line(self) -> bytes:
        """Up to a newline, without it."""
        end = self._data.find(b"\n", self._at)
        if end < 0:
            self._base += self._at
            self._file.seek(self._base)
            self._data, self._at = self._file.readline(), 0
            if not self._data.endswith(b"\n"):
                raise EOFError("the file ends inside a line")
            end = len(self._data) - 1
        value, self._at = self._data[self._at : end], end + 1
        return value

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    # Stack and memo

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def push_object(self, value: Any) -> None:
        """Pushes what takes more memory than it takes of the file."""
        self.charge()
        self._stack.append(value)

    def charge(self) -> None:
        self._objects -= 1
        if self._objects < 0:
            raise ValueError("far more objects than a file of this size needs")

    def pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise ValueError("an instruction lacks its operand")
        return self._stack.pop()

    def top(self, kind: Any) -> Any:
        if not self._stack or self._stack[-1] is _MARK or not isinstance(self._stack[-1], kind):
            raise ValueError("an instruction lacks its operand")
        return self._stack[-1]

    def is_marked(self) -> bool:
        return bool(self._stack) and self._stack[-1] is _MARK

    def marked(self) -> list[Any]:
        """Takes off what lies above the last mark, and the mark."""
        stack = self._stack
        at = len(stack) - 1
        while at >= 0 and stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise ValueError("an instruction lacks its mark")
        values = stack[at + 1 :]
        del stack[at:]
        return values

    def put(self, index: int | None = None) -> None:
        self.charge()
        value = self.top(object)
        self._last = self._memoized if index is None else index
        self._memoized += 1
        if self._last == len(self._memo):
            self._memo.append(value)
        elif 0 <= self._last < len(self._memo):
            self._memo[self._last] = value
        else:
            self._sparse[self._last] = value

    def get(self, index: int) -> None:
        value = self._memo[index] if 0 <= index < len(self._memo) else self._sparse.get(index, _MARK)
        if value is _MARK:
            raise ValueError("a reference to nothing")
        self._stack.append(value)

    def forget(self, *values: Any) -> None:
        """Drops the newest entries, where they are these: what an array is made of, which no other array shares.

        Without this the memo would keep the bytes of every array beside the array.
        """
        for value in values:
            index = self._last
            if 0 <= index < len(self._memo) and self._memo[index] is value:
                self._memo[index] = _MARK
                self._last = index - 1

    # Names

    def name(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}"
        if full not in _MAKERS:
            raise _RefusedError(f"`{_printable(full)}`")
        self._stack.append(_Global(full))

    def floats(self) -> None:
        """One float, or all that an instruction to append to a list follows."""
        block = np.frombuffer(self._data, np.uint8, offset=self._at - 1)
        block = block[: min(len(block) // 9, _RUN) * 9].reshape(-1, 9)
        other = np.flatnonzero(block[:, 0] != _FLOAT)
        count = int(other[0]) if len(other) else len(block)
        after = self._at - 1 + 9 * count
        if count > 1 and after < len(self._data) and self._data[after] == _APPENDS:
            self._ran = True
            self._stack.append(np.ascontiguousarray(block[:count, 1:]).view(">f8").reshape(count).view(_Run))
            self._at = after
        else:
            self._stack.append(self.number(">d"))


def _size(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return end


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:120])


def _settled(root: Any) -> Any:
    """Lists of floats as arrays, in all that is reachable from `root`."""
    seen: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or not _is_container(value):
            continue
        seen[id(value)] = value
        waiting.extend(_children(value))
    for value in seen.values():
        if isinstance(value, tuple):  # cannot be changed, so what is in it must stay what it is
            for v in value:
                if isinstance(v, list):
                    v[:] = _expanded(v)
    arrays: dict[int, np.ndarray] = {}
    for key, value in seen.items():
        if isinstance(value, list) and any(isinstance(v, _Run) for v in value):
            if all(isinstance(v, _Run | float) for v in value):
                arrays[key] = np.concatenate([np.atleast_1d(np.asarray(v, np.float64)) for v in value])
            else:
                value[:] = _expanded(value)
    for value in seen.values():
        if isinstance(value, dict):
            value.update({k: arrays[id(v)] for k, v in value.items() if id(v) in arrays})
        elif isinstance(value, list) and id(value) not in arrays:
            value[:] = [arrays.get(id(v), v) for v in value]
        elif isinstance(value, np.ndarray):
            for place, v in np.ndenumerate(value):
                value[place] = arrays.get(id(v), v)
    return arrays.get(id(root), root)


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list | tuple) or (
        isinstance(value, np.ndarray) and value.dtype.hasobject and not isinstance(value, _Run)
    )


def _children(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value.flat if isinstance(value, np.ndarray) else value
    return [v for v in children if _is_container(v)]


# Instructions. They are listed in pickletools of the standard library.

_Handler = Callable[[_Machine], Any]


def _stop(_: _Machine) -> None:
    """Ends the program; the machine looks for this function."""


def _int(m: _Machine) -> None:
    text = m.line().decode("ascii")
    m.push({"00": False, "01": True}[text] if text in ("00", "01") else int(text, 0))


def _long_text(m: _Machine) -> None:
    m.push(int(m.line().decode("ascii").removesuffix("L"), 0))


def _long(m: _Machine, size: str) -> None:
    number = m.number(size)
    if number > _MOST_DIGITS:
        raise ValueError(f"an integer of {number:,} bytes")
    m.push(int.from_bytes(m.read(number), "little", signed=True))


def _quoted(m: _Machine) -> None:
    text = m.line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise ValueError("text without quotes")
    m.push(codecs.escape_decode(text[1:-1])[0].decode("latin-1"))


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _pop(m: _Machine) -> None:
    if m.is_marked():
        m.marked()
    else:
        m.pop()


def _append(m: _Machine) -> None:
    value = m.pop()
    m.top(list).append(value)


def _appends(m: _Machine) -> None:
    values = m.marked()
    m.top(list).extend(values)


def _add_items(m: _Machine) -> None:
    values = m.marked()
    m.top(set).update(_key(v) for v in values)


def _set_item(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    m.top(dict)[_key(key)] = value


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise ValueError("a key without its value")
    return {_key(k): v for k, v in zip(values[::2], values[1::2], strict=True)}


def _set_items(m: _Machine) -> None:
    pairs = _pairs(m.marked())
    m.top(dict).update(pairs)


def _tuple_of(m: _Machine, number: int) -> None:
    m.push_object(tuple(reversed([m.pop() for _ in range(number)])))


def _global(m: _Machine) -> None:
    m.name(m.line().decode("utf-8"), m.line().decode("utf-8"))


def _stack_global(m: _Machine) -> None:
    name, module = m.pop(), m.pop()
    m.name(module if isinstance(module, str) else "?", name if isinstance(name, str) else "?")


def _inst(m: _Machine) -> None:
    module, name = (m.line().decode("utf-8", "replace") for _ in range(2))
    raise _RefusedError(f"`{_printable(f'{module}.{name}')}`")


def _reduce(m: _Machine) -> None:
    arguments, function = m.pop(), m.pop()
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise ValueError("a call of something that is no function")
    m.forget(arguments)
    m.push_object(_MAKERS[function.name](*arguments))


def _build(m: _Machine) -> None:
    state = m.pop()
    value = m.top(object)
    if isinstance(value, _Type):
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            value.order = state[1]
            return
        raise ValueError("a dtype with an impossible state")
    if not isinstance(value, np.ndarray) or value.size:
        raise _RefusedError("a state for an object other than an array")
    _fill(value, state)
    # In the order of their entries, newest first. Bytes of length 1 are shared.
    m.forget(state, *(s for s in reversed(state) if isinstance(s, bytes | str | list) and len(s) > 1))


def _new_object(m: _Machine) -> None:
    m.pop()
    made = m.pop()
    raise _RefusedError(f"an instance of {f'`{made.name}`' if isinstance(made, _Global) else 'a class'}")


def _refuse(what: str) -> _Handler:
    def refuse(_: _Machine) -> None:
        raise _RefusedError(what)

    return refuse


def _each(forms: dict[bytes, str], act: Callable[[_Machine, Any], Any]) -> dict[bytes, _Handler]:
    """Handlers that read one number, of the given form, and act on it."""

    def handler(form: str) -> _Handler:
        return lambda m: act(m, m.number(form))

    return {code: handler(form) for code, form in forms.items()}


def _instructions() -> list[_Handler | None]:
    table: dict[bytes, _Handler] = {
        b".": _stop,
        b"\x80": lambda m: m.number("<B"),
        b"\x95": lambda m: m.number("<Q"),  # a frame: bytes to come, which are read as they are needed
        b"(": lambda m: m.push(_MARK),
        b"0": _pop,
        b"1": lambda m: m.marked(),
        b"2": lambda m: m.push(m.top(object)),
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),
        b"\x89": lambda m: m.push(False),
        b"I": _int,
        b"L": _long_text,
        b"\x8a": lambda m: _long(m, "<B"),
        b"\x8b": lambda m: _long(m, "<I"),
        b"F": lambda m: m.push(float(m.line())),
        b"G": _Machine.floats,
        b"S": _quoted,
        b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        b"]": lambda m: m.push_object([]),
        b"l": lambda m: m.push_object(m.marked()),
        b"a": _append,
        b"e": _appends,
        b"}": lambda m: m.push_object({}),
        b"d": lambda m: m.push_object(_pairs(m.marked())),
        b"s": _set_item,
        b"u": _set_items,
        b")": lambda m: m.push(()),
        b"t": lambda m: m.push_object(tuple(m.marked())),
        b"\x85": lambda m: _tuple_of(m, 1),
        b"\x86": lambda m: _tuple_of(m, 2),
        b"\x87": lambda m: _tuple_of(m, 3),
        b"\x8f": lambda m: m.push_object(set()),
        b"\x90": _add_items,
        b"\x91": lambda m: m.push_object(_frozenset(m.marked())),
        b"\x96": lambda m: m.push_object(bytearray(m.read(m.number("<Q")))),
        b"g": lambda m: m.get(int(m.line())),
        b"p": lambda m: m.put(int(m.line())),
        b"\x94": lambda m: m.put(),
        b"c": _global,
        b"\x93": _stack_global,
        b"i": _inst,
        b"R": _reduce,
        b"b": _build,
        b"\x81": _new_object,
        b"\x92": _new_object,
        b"o": _refuse("an instance of a class"),
        b"P": _refuse("an object kept elsewhere (a persistent id)"),
        b"Q": _refuse("an object kept elsewhere (a persistent id)"),
        b"\x97": _refuse("a buffer kept elsewhere"),
        b"\x98": _refuse("a buffer kept elsewhere"),
        **{bytes([code]): _refuse("a registered extension") for code in (0x82, 0x83, 0x84)},
    }
    table |= _each({b"J": "<i", b"K": "<B", b"M": "<H"}, lambda m, n: m.push(n))
    table |= _each({b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q"}, lambda m, n: m.push(_utf8(m.read(n))))
    table |= _each({b"B": "<I", b"C": "<B", b"\x8e": "<Q"}, lambda m, n: m.push(m.read(n)))
    table |= _each({b"T": "<i", b"U": "<B"}, lambda m, n: m.push(m.read(n).decode("latin-1")))
    table |= _each({b"h": "<B", b"j": "<I"}, lambda m, n: m.get(n))
    table |= _each({b"q": "<B", b"r": "<I"}, lambda m, n: m.put(n))
    return [table.get(bytes([code])) for code in range(256)]


_HANDLERS = _instructions()

"""The pickle machine: what data comes out as it went in, and what is refused before it can run."""

import collections
import io
import os
import pickle
import pickletools
import struct
import zipfile

import numpy as np
import pytest

from ariigcn_jax.data.readers import pickles as unpickle
from ariigcn_jax.types import UserError
from tests.support.layout_files import python2


def read(data):
    return unpickle.load_stream(io.BytesIO(data), "strange.pkl")


def refused(data):
    with pytest.raises(UserError) as caught:
        read(data)
    assert str(caught.value).startswith("strange.pkl: ")
    return str(caught.value)


def same(one, other):
    if isinstance(other, np.ndarray | np.generic) or isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
        assert not isinstance(other, np.ndarray) or one.dtype == other.dtype
    elif isinstance(other, dict):
        assert list(one) == list(other)
        for key in other:
            same(one[key], other[key])
    elif isinstance(other, list | tuple):
        assert type(one) is type(other) and len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        assert type(one) is type(other) and one == other


RANDOM = np.random.default_rng(0)
VALUES = [
    [None, True, False, 0, -5, 255, 70000, 2**40, -(2**70), 1.5],
    ["", "größer", "x" * 70_000, b"", b"ab", b"x" * 300, bytearray(b"abc")],
    {"a": (1, 2, 3, 4), 3: {"b": []}, (1, "x"): set(), None: frozenset([1])},
    [{1, 2}, frozenset({"x"}), (), [], {}, 1 + 2j],
    RANDOM.normal(size=(3, 4)),
    np.asfortranarray(RANDOM.normal(size=(300, 4)).astype(np.float32)),
    [np.arange(4, dtype=">i4"), np.array(["a", "bcd"]), np.array([b"a", b"bcd"]), np.array([True, False])],
    [np.zeros((0, 5)), np.array(3.0), np.float32(2.5), np.int64(3), np.bool_(True), np.float16(1)],
    np.array([[1, None], ["x", (1, 2)]], dtype=object),
    np.array([[1.5, 2.5], [3.5, 4.5]], dtype=object),
    collections.OrderedDict(a=1),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_data_of_every_protocol(value, protocol):
    for data in (pickle.dumps(value, protocol), pickle._dumps(value, protocol)):  # C and Python write differently
        same(read(data), dict(value) if isinstance(value, dict) else pickle.loads(data))


@pytest.mark.parametrize("protocol", [2, 3])
def test_names_of_numpy_1(protocol):
    data = pickle.dumps([RANDOM.normal(size=(2, 3)), np.float64(2)], protocol)
    assert b"numpy._core" in data
    same(read(data.replace(b"numpy._core", b"numpy.core")), pickle.loads(data))


def test_python_2():
    value = ({"a": ["größer", "é" * 200, 7]}, {"b": [np.arange(3.0), np.ones((2, 40), np.float32)]})
    got = read(python2(value))
    assert got[0]["a"][0].encode("latin-1").decode("utf-8") == "größer"
    same(got[1], value[1])


@pytest.mark.parametrize("count", [1, 2, 999, 1000, 1001, 30_000, 200_000])
def test_lists_of_floats(count):
    values = RANDOM.normal(size=count)
    data = pickle.dumps({"a": [values.tolist(), values.tolist()], "b": values.tolist()}, 4)
    got = read(data)
    for row in (*got["a"], got["b"]):
        np.testing.assert_array_equal(row, values)


def test_long_lists_of_floats_take_8_bytes_each():
    assert read(pickle.dumps([0.5] * 1000, 2)).dtype == np.float64


def test_floats_among_others_and_in_what_cannot_change():
    value = [[1.5, 2.5, "x", 3.5, 4.5], (1.0, 2.0, 3.0, 4.0), ([1.0, 2.0],), {1.5, 2.5, 3.5}]
    same(read(pickle.dumps(value, 2)), value)
    shared = [1.0, 2.0]
    first, second = read(pickle.dumps([shared, {"a": shared}], 4))
    np.testing.assert_array_equal(first, shared)
    np.testing.assert_array_equal(second["a"], shared)


# What is refused

HOSTILE = {
    "posix.system": b"cposix\nsystem\n(S'touch HACKED'\ntR.",
    "builtins.eval": b'cbuiltins\neval\n(S\'open("HACKED","w")\'\ntR.',
    "__builtin__.getattr": b"c__builtin__\ngetattr\n.",
    "os.system": b"(ios\nsystem\n.",
    "subprocess.Popen": b"\x80\x04\x8c\nsubprocess\x8c\x05Popen\x93.",
    "numpy.load": b"cnumpy\nload\n.",
    "numpy.lib.npyio.NpzFile": b"cnumpy.lib.npyio\nNpzFile\n.",
    "numpy.core.multiarray.fromfile": b"cnumpy.core.multiarray\nfromfile\n.",
    "builtins.object": b"cbuiltins\nobject\n)\x81}b.",
    "torch._utils._rebuild_tensor_v2": b"ctorch._utils\n_rebuild_tensor_v2\n.",
    "a buffer kept elsewhere": b"\x97.",
    "a persistent id": b"Pabc\n.",
    "a registered extension": b"\x82\x01.",
    "`builtins.list`": b"cbuiltins\nlist\n)\x81.",
    "an instance of a class": b"(cbuiltins\nlist\no.",
    "a state for an object": b"}}b.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_by_name_before_it_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(HOSTILE[name])
    assert "the pickle asks for" in message and name in message and "nothing of it was run" in message
    assert not os.listdir(tmp_path)


def test_class_of_a_stranger_is_named():
    class Sample:
        pass

    Sample.__qualname__ = "Sample"
    globals()["Sample"] = Sample
    assert f"`{__name__}.Sample`" in refused(pickle.dumps(Sample(), 4))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]r\xff\xff\xff\xffj\xfe\xff\xff\xff.",  # a memo entry far out
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60),  # bytes that are not there
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x80\x04X\xff\xff\xff\xffx.",
        b"T\xff\xff\xff\xff.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02\x8b\x00\x10\x00\x00" + b"\x7f" * 4096 + b".",  # an integer of 9,864 digits
        b"cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.",
        b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\nU\x02f8\x85R\x89U\x01xtb.",
        b"cnumpy\ndtype\nX\x0b\x00\x00\x00V9999999999\x85R.",
        b"cnumpy.core.numeric\n_frombuffer\n(B\x08\x00\x00\x0012345678cnumpy\ndtype\nU\x01O\x85R)U\x01CtR.",
        b"]" * 20_000 + b".",
        b"}" * 20_000 + b".",
        b"N" + b"\x94" * 20_000 + b".",
        b"\x80\x04((((2222e.",
    ],
    ids=range(16),
)
def test_bombs_end_in_one_clear_error(data, monkeypatch):
    monkeypatch.setattr(unpickle, "_FREE_OBJECTS", 10_000)
    assert "truncated or damaged" in refused(data)


def test_nested_keys_do_not_take_for_ever():
    data = b"N" + b"2\x86" * 60 + b"}" + b"0"  # a tuple of a tuple of … : hashing would visit 2^60 of them
    assert "truncated or damaged" in refused(b"}" + b"N" + b"2\x86" * 60 + b"Ns.")
    assert data


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_every_truncation_is_an_error(value):
    data = pickle.dumps(value, 4)
    for end in {*range(0, len(data), max(1, len(data) // 150)), len(data) - 1}:
        assert "truncated or damaged" in refused(data[:end])


def test_every_instruction_is_known_or_refused():
    known = {ord(op.code) for op in pickletools.opcodes}
    assert known == set(unpickle._Unpickler.dispatch)


def test_reads_from_the_middle_of_an_archive():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("x", b"before" + pickle.dumps([1, "a"]))
    with zipfile.ZipFile(data) as archive, archive.open("x") as file:
        file.read(6)
        assert unpickle.load_stream(file, "x") == [1, "a"]


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        unpickle.load(tmp_path / "gone.pkl")

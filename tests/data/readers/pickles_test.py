"""The reader of pickles: data comes out as it went in; all else is refused before it runs, and in bounded time."""

import collections
import io
import os
import pickle
import pickletools
import signal
import struct
import zipfile

import numpy as np
import pytest

from ariigcn_jax.data import values
from ariigcn_jax.data.readers import pickles
from ariigcn_jax.types import UserError
from tests.support.layout_files import python2


def read(data):
    return pickles.load_stream(io.BytesIO(data), "strange.pkl")


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


@pytest.mark.parametrize("count", [2, 1000, 1001, 30_000])
def test_long_lists_of_floats_take_8_bytes_each(count):
    assert read(pickle.dumps([0.5] * count, 2)).dtype == np.float64
    assert read(pickle.dumps([[0.5] * count] * 2, 4))[1].dtype == np.float64


def test_floats_among_others_and_in_what_cannot_change():
    value = [[1.5, 2.5, "x", 3.5, 4.5], (1.0, 2.0, 3.0, 4.0), ([1.0, 2.0],), {1.5, 2.5, 3.5}]
    same(read(pickle.dumps(value, 2)), value)
    shared = [1.0, 2.0]
    first, second = read(pickle.dumps([shared, {"a": shared}], 4))
    np.testing.assert_array_equal(first, shared)
    np.testing.assert_array_equal(second["a"], shared)


@pytest.mark.parametrize("first", [2, 999, 1000, 1001, 2000, 2001])
@pytest.mark.parametrize("rest", [["x"], [None, 1.5], [7, 8.5, 9.5], [[1.5, 2.5], 3.5], ["x", *[0.5] * 3000, "y"]])
def test_lists_that_begin_with_floats(first, rest):
    value = RANDOM.normal(size=first).tolist() + rest
    for protocol in (2, 4):
        one, other, pair = read(pickle.dumps([value, value, (value,)], protocol))
        same(one, value)
        assert one is other and pair[0] is one


def test_lists_of_floats_by_picklers_that_append_fewer_at_a_time():
    batch = b"(" + b"".join(b"G" + struct.pack(">d", x) for x in (1.5, 2.5, 3.5)) + b"e"
    single = b"G" + struct.pack(">d", 4.5) + b"a"
    same(
        read(b"]q\x07" + batch + batch + single + batch + b"h\x07\x86."),
        (np.array([*[1.5, 2.5, 3.5] * 2, 4.5, 1.5, 2.5, 3.5]),) * 2,
    )
    same(read(b"]" + batch + b"(K\x01Nea"[:0] + b"(K\x01Ne" + single + b"."), [1.5, 2.5, 3.5, 1, None, 4.5])


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
    "an instance": b"cbuiltins\nlist\n)\x81.",
    "an instance of a": b"cbuiltins\nlist\n)}\x92.",
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
    monkeypatch.setattr(pickles, "_FREE_OBJECTS", 10_000)
    assert "truncated or damaged" in refused(data)


def text(words):
    return b"X" + struct.pack("<I", len(words)) + words


MEGABYTE = b"B" + struct.pack("<I", 10**6) + b"x" * 10**6
MERSENNE = 2**61 - 1  # whose multiples all have the hash 0
SWAPPED = (
    b"cnumpy\ndtype\n" + text(b"f8") + b"\x85R(K\x03" + text(b">") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def short_number(number):
    return b"J" + struct.pack("<i", number)


def calls(name, argument, times):
    """`times` calls of one function with one argument."""
    return argument + b"\x85q\x000c" + name + b"\nq\x010(" + b"h\x01h\x00R" * times + b"l."


def keys(numbers, form=b""):
    return b"}(" + b"".join(b"\x8a\x0b" + number.to_bytes(11, "little") + form + b"N" for number in numbers) + b"u."


SLOW = {
    "lists of ten lists": b"(" + b"N" * 10 + b"lq\x00" + b"0(" .join([b""] + [b"h\x00" * 10 + b"lq\x00"] * 30) + b".",
    "one list many times": b"(" + b"N" * 1000 + b"lq\x000(" + b"h\x00" * 100_000 + b"l.",
    "one dictionary many times": b"}(" + b"".join(text(b"%d" % i) + b"N" for i in range(1000))
    + b"uq\x000(" + b"h\x00" * 100_000 + b"l.",
    "one text many times": text(b"x" * 10**6) + b"q\x000(" + b"h\x00" * 100_000 + b"l.",
    "one array many times": pickle.dumps(np.zeros(10**5), 2)[:-1]
    + b"r\xff\x00\x00\x000(" + b"j\xff\x00\x00\x00" * 10_000 + b"l.",
    "an array of no width": b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01\x8a\x06" + (1 << 40).to_bytes(6, "little")
    + b"K\x00\x86cnumpy\ndtype\n" + text(b"f8") + b"\x85R\x89" + text(b"") + b"tb.",
    "a list in itself": b"]q\x00(" + b"h\x00" * 100_000 + b"e.",
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "copies of bytes": calls(b"builtins\nbytearray", MEGABYTE, 300),
    "copies of text": calls(b"_codecs\nencode", text(b"x" * 10**6), 300),
    "copies of a list": calls(b"builtins\nlist", b"(" + b"N" * 10**5 + b"l", 300),
    "copies of an array": b"(K\x01J" + struct.pack("<i", 125_000) + b"\x85" + SWAPPED + b"\x89" + MEGABYTE + b"tq\x000"
    b"cnumpy.core.multiarray\n_reconstruct\nq\x010(" + b"h\x01)Rh\x00b" * 300 + b"l.",
    "integers of one hash": keys(k * MERSENNE for k in range(1, 20_000)),
    "tuples of one hash": keys((k * MERSENNE for k in range(1, 20_000)), b"\x85"),
    "integers of similar hashes": keys(k << 40 for k in range(20_001)),
    "many sets of numbers": calls(b"builtins\nset", b"(" + b"".join(map(short_number, range(20_000))) + b"l", 11),
}  # fmt: skip


def out_of_time(*_):
    raise TimeoutError


@pytest.mark.parametrize("name", SLOW)
def test_what_would_take_for_ever_is_refused(name):
    """Each within 10 seconds; those that repeat or copy would take gigabytes."""
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(10)
    try:
        message = refused(SLOW[name])
    finally:
        signal.alarm(0)
    assert "truncated or damaged" in message or "repeated over and over" in message
    assert "TimeoutError" not in message
    assert "far more objects" in message or not name.startswith("copies")  # while they are made, and not afterwards


def test_repetition_in_measure_is_read(monkeypatch):
    row, names = np.ones(300), [f"d{i}" for i in range(1000)]
    data = pickle.dumps({"rows": [row] * 1000, "one-hot": [[0, 1, 0]] * 1000, "names": names, "order": names}, 4)
    assert len(read(data)["rows"]) == 1000
    monkeypatch.setattr(values, "_SLACK", 100_000)
    assert "would take 0.0 GB" in refused(data)


def test_numbers_as_keys():
    value = {number: str(number) for number in range(20_000)}
    same(read(pickle.dumps(value, 4)), value)
    assert "more than 20,000 keys" in refused(pickle.dumps({-1: ""} | value, 4))
    same(read(pickle.dumps({str(k): k for k in range(50_000)}, 4)), {str(k): k for k in range(50_000)})


@pytest.mark.parametrize(
    ("value", "letter", "none"),
    [
        (np.array(["abc"]), b"a\0\0\0", b"\xff\xff\xff\xff"),
        (np.array(["abc"]), b"a\0\0\0", b"\0\0\x11\0"),
        (np.array(["abc"], ">U3"), b"\0\0\0a", b"\0\x11\0\0"),
        (np.str_("abc"), b"a\0\0\0", b"\0\0\x11\0"),
    ],
)
def test_text_of_no_characters(value, letter, none):
    for protocol in (3, 5):
        data = pickle.dumps(value, protocol)
        assert letter in data and "do not exist" in refused(data.replace(letter, none))


def test_nested_keys_do_not_take_for_ever():
    assert "truncated or damaged" in refused(b"}" + b"N" + b"2\x86" * 60 + b"Ns.")  # hashing would visit 2^60 tuples


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_every_truncation_is_an_error(value):
    data = pickle.dumps(value, 4)
    for end in {*range(0, len(data), max(1, len(data) // 150)), len(data) - 1}:
        assert "truncated or damaged" in refused(data[:end])


def test_every_instruction_is_known_or_refused():
    known = {ord(op.code) for op in pickletools.opcodes}
    assert known == set(pickles._Unpickler.dispatch)


def test_reads_from_the_middle_of_an_archive():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("x", b"before" + pickle.dumps([1, "a"]))
    with zipfile.ZipFile(data) as archive, archive.open("x") as file:
        file.read(6)
        assert pickles.load_stream(file, "x") == [1, "a"]


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        pickles.load(tmp_path / "gone.pkl")

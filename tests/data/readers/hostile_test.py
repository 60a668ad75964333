"""Small files that were made to never end or to fill the memory: each is refused or read within 10 s and 2 GiB.

All are read by one process of its own, which says for each how long it worked and how much memory it had at most.
"""

import itertools
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ariigcn_jax.data.readers.dialogue_tuples import LAYOUTS

ROOT = Path(__file__).resolve().parents[3]
SECONDS, MEGABYTES = 10, 2048
READ = """
import json, resource, sys, time
from ariigcn_jax import data
from ariigcn_jax.types import UserError
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")  # begins the peak anew
    begun = time.process_time()
    try:
        words = f"read {len(data.load(path))}"
    except UserError as error:
        words = str(error)
    peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024
    print(json.dumps([path, time.process_time() - begun, peak, words[:300]]), flush=True)
"""
MANY = 2 * 10**9  # rows, of no width
MERSENNE = 2**61 - 1  # whose multiples all have the hash 0
RECONSTRUCT, FLOAT = b"cnumpy.core.multiarray\n_reconstruct\n)R", b"cnumpy\ndtype\nU\x02f8\x85R"
REFERENCES = b"(" + b"h\x00" * 1_000_000 + b"l."  # a list of the memo's first entry


def whole(number):
    return b"\x8a\x09" + number.to_bytes(9, "little")


def nothing(*shape):
    """The instructions for an array of this shape that has no values."""
    return RECONSTRUCT + b"(K\x01(" + b"".join(map(whole, shape)) + b"t" + FLOAT + b"\x89U\x00tb"


def call(name, *arguments):
    return b"c" + name.replace(b".", b"\n") + b"\n(" + b"".join(arguments) + b"tR"


def colliding_tuples():
    """Tuples of -1 and -2, whose hashes are the same."""
    return [tuple(signs) for signs in itertools.islice(itertools.product((-1, -2), repeat=15), 20_000)]


def from_buffer():
    buffer = b"(\x96" + struct.pack("<Q", 10**6) + b"x" * 10**6 + FLOAT + whole(125_000) + b"\x85U\x01Ctq\x000"
    return buffer + b"cnumpy.core.numeric\n_frombuffer\nq\x010(" + b"h\x01h\x00R" * 20_000 + b"l."


def mmsa(values):
    """The layout of MMSA with these features, and as many labels as the memo's first entry has."""
    part = b"(U\x04text" + values + b"U\x11regression_labels" + values + b"d"
    return b"(U\x05train" + part + b"U\x04test" + part + b"d."


def repeated_tuples(width, utterances, dialogues):
    """DialogueRNN's layout with one list for all dialogues, and one vector for all utterances of it."""
    names = [f"Ses01F_impro{d}" for d in range(dialogues)]
    columns = {"ids": "a", "speaker": "M", "label": 0, "transcript": "hi"}
    lists = {role: [columns.get(role, np.zeros(width))] * utterances for role in next(iter(LAYOUTS.values()))}
    splits = {"train": names[: dialogues // 2], "test": names[dialogues // 2 :]}
    return pickle.dumps(tuple(splits.get(role) or dict.fromkeys(names, values) for role, values in lists.items()), 4)


NO_DATA, REPEATED, CLAIMS = "truncated or damaged (ValueError: ", "repeated over and over", "claims 2,000,000,000 utt"
OBJECTS, NO_LAYOUT = NO_DATA + "far more objects", "a pickle of no layout that is known"
PICKLES = {
    "an array of no width": (nothing(MANY, 0) + b".", NO_DATA + "an array without values that claims the shape"),
    "a list of an array of no width": (call(b"builtins.list", nothing(MANY, 0)) + b".", OBJECTS),
    "a set of an array of no width": (call(b"builtins.set", nothing(MANY, 0)) + b".", OBJECTS),
    "features of no width": (mmsa(nothing(MANY, 1, 0)), NO_DATA + "an array without values"),
    "objects of no width": (nothing(MANY, 0).replace(FLOAT, b"cnumpy\ndtype\nU\x01O\x85R") + b".", NO_DATA),
    "one list millions of times": (b"(" + b"N" * 1000 + b"lq\x000" + REFERENCES, REPEATED),
    "one bytes millions of times": (b"B" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"q\x000" + REFERENCES, REPEATED),
    "one array millions of times": (pickle.dumps(np.zeros(99), 0)[:-1] + b"q\x000" + REFERENCES, REPEATED),
    "one empty array millions of times": (nothing(0) + b"q\x000" + REFERENCES, NO_LAYOUT),
    "one text millions of times": (b"U\x01xq\x000" + REFERENCES, NO_LAYOUT),
    "one value millions of times": (b"N" + b"2" * 1_000_000 + b".", NO_LAYOUT),
    "nothing appended millions of times": (b"]" + b"(e" * 1_400_000 + b".", OBJECTS),
    "lists millions of times": (b"](e0" * 700_000 + b"N.", OBJECTS),
    "pairs of a million": (
        b"(" + b"N" * 10**6 + b"lq\x000cbuiltins\ndict\n(" + b"h\x00" * 50_000 + b"l\x85R.",
        NO_DATA + "a dictionary made from something other than pairs",
    ),
    "copies of a buffer": (from_buffer(), OBJECTS),
    "keys of one hash": (pickle.dumps(dict.fromkeys(colliding_tuples()), 4), NO_DATA + "more than 100 keys have one"),
    "keys of one hash in sets": (pickle.dumps([{key} for key in colliding_tuples()], 4), "more than 100 keys"),
    "entries of one hash": (
        b"N" + b"".join(b"p%d\n" % (k * MERSENNE) for k in range(1, 100_000)) + b".",
        NO_DATA + "an entry 2305843009213693951 of the memo",
    ),
    "one dialogue again and again": (repeated_tuples(2, 4000, 100), "claims 400,000 utterances"),
    "one dialogue again and again, and few": (repeated_tuples(8, 1800, 100), "read 180000"),
}


def archive(path, **members):
    """An .npz of zeros: field → (dtype, shape)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, (dtype, shape) in members.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                header(member, dtype, shape)
                left = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
                for size in [2**20] * (left >> 20) + [left % 2**20]:
                    member.write(bytes(size))


def header(file, dtype, shape):
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


FEW = {"dialogue_id": ("<U1", (3,)), "label": ("<i8", (3,)), "text": ("<f4", (3, 2))}
ARCHIVES = {
    "features of no width.npz": (FEW | {"text": ("<f4", (MANY, 0))}, f"`text`: {CLAIMS}"),
    "ids of no width.npz": (FEW | {"dialogue_id": ("<U0", (MANY,))}, f"`dialogue_id`: {CLAIMS}"),
    "all of no width.npz": (
        {"dialogue_id": ("|S0", (MANY,)), "label": ("|S0", (MANY,)), "text": ("<f4", (MANY, 0))},
        CLAIMS,
    ),
    "many small rows.npz": ({name: ("|i1", (10**8,)) for name in FEW}, "claims 100,000,000 utterances"),
    "long text.npz": (FEW | {"dialogue_id": ("<U70000000", (3,))}, "would unpack to 0.8 GB"),
    "features of 250 megabytes.npz": (
        {"dialogue_id": ("<i4", (10**5,)), "label": ("<i4", (10**5,)), "text": ("<f2", (10**5, 1250))},
        "read 100000",
    ),
}
SHAPES = [(MANY, 0), (0, MANY), (1, MANY, 0), (MANY, 0, 1)]
FILES = {
    "deep.json": ("[" * 300_000, "the JSON is truncated or damaged"),
    "a quote.csv": ("dialogue_id,label,text\n" + 'a,"x\n' * 200_000, "line 2 cannot be read"),
    "lines.csv": ('dialogue_id,label,transcript,text\na,0,"' + "x\n" * 500_000 + '",1 2\n', "read 1"),
    "a clock.csv": ("dialogue_id,label,start,text\na,0," + "1:" * 200_000 + ",1 2\n", "read 1"),
}


def tables_of_nothing(folder):
    """Parquet and Arrow of few bytes, or of none at all, for each row."""
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    import pyarrow.parquet as pq

    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * 10**6]))
    pq.write_table(pa.table({"dialogue_id": pa.array(["a"] * 10**7).dictionary_encode()}), folder / "one.parquet")
    pq.write_table(pa.table({"dialogue_id": one}), folder / "long.parquet")
    for name, column in {
        "nothing.arrow": pa.nulls(MANY // 10),
        "lists.arrow": pa.FixedSizeListArray.from_arrays(pa.nulls(10**8), 10**7),
    }.items():
        table = pa.table({"dialogue_id": column})
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    return {
        "one.parquet": "claims 10,000,000 utterances",
        "long.parquet": REPEATED,
        "nothing.arrow": "claims 200,000,000 utterances",
        "lists.arrow": REPEATED,
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Name of a file → what it should say, seconds, megabytes and what it says."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux says there how much memory was taken")
    folder = tmp_path_factory.mktemp("hostile")
    expected = {}
    for name, (content, words) in PICKLES.items():
        (folder / f"{name}.pkl").write_bytes(content)
        expected[f"{name}.pkl"] = words
    for name, (members, words) in ARCHIVES.items():
        archive(folder / name, **members)
        expected[name] = words
    for name, (content, words) in FILES.items():
        (folder / name).write_text(content)
        expected[name] = words
    for k, shape in enumerate(SHAPES):
        with (folder / f"{k}.npy").open("wb") as file:
            header(file, "<f4", shape)
        (folder / f"{k}.csv").write_text(f"dialogue_id,label,text,audio_file\na,1,1 2,{k}.npy\nb,0,1 2,{k}.npy\n")
        expected[f"{k}.csv"] = "read 2"
    expected |= tables_of_nothing(folder)
    for name in expected:
        assert (folder / name).stat().st_size < 10e6, name
    command = [sys.executable, "-c", READ, *(str(folder / name) for name in expected)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    found = {Path(path).name: rest for path, *rest in map(json.loads, done.stdout.splitlines())}
    assert list(found) == list(expected), done.stderr[-2000:]
    return {name: (words, *found[name]) for name, words in expected.items()}


def test_each_is_refused_or_read_in_time(outcomes):
    slow = {name: seconds for name, (_, seconds, _, _) in outcomes.items() if seconds > SECONDS}
    large = {name: peak for name, (_, _, peak, _) in outcomes.items() if peak > MEGABYTES}
    other = {name: said for name, (words, _, _, said) in outcomes.items() if words not in said}
    assert not slow and not large and not other

"""Damaged files of every layout end in a corpus or in one clear message, whatever was done to their bytes.

    python -m pytest -n 0 -m slow -s tests/data/readers/fuzz_test.py       100,000 files; FUZZ_FILES=1000000 for more

The mutations are deterministic: file number i of a seed is the same in every run. FUZZ_FIRST=50000 begins at that file,
so that several processes can share the work.
"""

import json
import os
import random
import signal
import time

import pytest

from ariigcn_jax.data import load
from ariigcn_jax.types import UserError
from tests.support import spoken_files
from tests.support.layout_files import conversations, every_layout

SECONDS = 10  # that one file may take
SPOKEN = "words:"  # begins the names of conversations of words alone
INTERESTING = [
    *(b"\0", b"\xff", b"\x80", b"\x7f", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0\0\0\0\x40"),
    *(
        b"nan",
        b"-1",
        b"1e999",
        b"9" * 30,
        b"null",
        b"[]",
        b"{}",
        b'"',
        b",",
        b"\n",
        b"\\",
        b".",
        b"(",
        b"c",
        b"R",
        b"b",
    ),
    *(b"\x92", "\u2028".encode(), b"\xfe\xff", b"00:01:05,003", b"NA"),
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """(name, root of the corpus, its files) of each layout, as small as they can be."""
    folder = tmp_path_factory.mktemp("originals")
    with pytest.MonkeyPatch.context() as patch:
        small = dict(dialogues=5, utterances=(1, 2), widths={"text": 3, "audio": 2, "visual": 2})
        patch.setattr("tests.support.layout_files.WIDTHS", small["widths"])
        patch.setattr("tests.support.layout_files.conversations", lambda **options: conversations(**(small | options)))
        made = every_layout(folder)
    spoken = spoken_files.write(folder / "spoken")
    spoken["srt beside rttm"] = spoken["srt beside rttm"].parent
    made |= {f"{SPOKEN} {name}": path for name, path in spoken.items()}
    return [(name, path, _files(path)) for name, path in made.items()]


def _files(path):
    return [p for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path]


def mutate(data, rng, others):
    """One to four changes of some bytes."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1) if data else 0
        size = min(rng.choice((1, 1, 2, 4, 8, 64)), len(data) - at)
        match rng.randrange(9):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + size] = rng.randbytes(size)
            case 2:
                del data[at : at + size]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
            case 5:
                data[at : at + rng.choice((0, 1))] = rng.choice(INTERESTING)
            case 6:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                data[at : at + size] = other[start : start + rng.choice((1, 8, 200))]
            case 7:
                numbers = [i for i in range(len(data)) if 48 <= data[i] <= 57]
                if numbers:
                    place = rng.choice(numbers)
                    data[place : place + 1] = rng.choice((b"0", b"9", b"-1", b"99999999", b"0.5", b""))
            case _:
                span = data[at : at + rng.choice((4, 40, 400))]
                to = rng.randrange(len(data) + 1)
                data[to:to] = span
    return bytes(data)


class OvertimeError(BaseException):
    """Not an Exception, which a reader may well catch."""


def _alarm(*_):
    raise OvertimeError


def fuzz(originals, folder, number, seed=0):
    """Reads `number` mutated files; how many were read and refused, what went wrong otherwise, and the slowest."""
    rng = random.Random(seed)
    contents = {path: path.read_bytes() for _, _, files in originals for path in files}
    others = list(contents.values())
    counts = {"read": 0, "refused": 0}
    broken = []
    slowest = (0.0, "")
    signal.signal(signal.SIGALRM, _alarm)
    for index in range(number):
        name, root, files = originals[index % len(originals)]
        chosen = rng.choice(files)
        if root.name.startswith("own") and rng.random() < 0.7:  # else checksums would end nearly all of them alike
            chosen = root / "schema.json"
        mutated = mutate(contents[chosen], rng, others)
        place, undo = _install(root, chosen, mutated, contents, folder, rng)
        signal.alarm(SECONDS)
        begun = time.perf_counter()
        try:
            load(place, words=name.startswith(SPOKEN), training=not name.startswith(SPOKEN))
            counts["read"] += 1
        except UserError as error:
            counts["refused"] += 1
            message = str(error)
            if not message.strip() or len(message) > 6000 or "Traceback" in message:
                broken.append((index, name, f"message: {message[:300]!r}"))
        except BaseException as error:  # the very thing that is looked for
            (folder / f"broken{index}{chosen.suffix}").write_bytes(mutated)
            broken.append((index, name, f"{type(error).__name__}: {error}"[:300]))
            if isinstance(error, KeyboardInterrupt):
                raise
        finally:
            signal.alarm(0)
            slowest = max(slowest, (time.perf_counter() - begun, f"file {index} of {name}"))
            undo()
    return counts, broken, slowest


def _install(root, chosen, mutated, contents, folder, rng):
    """Puts the mutated file where it is read, and says how to undo it."""
    if root == chosen:
        place = folder / f"mutated{chosen.suffix}"
        place.write_bytes(mutated)
        return place, place.unlink
    if chosen.name != "schema.json" and (root / "schema.json").exists():  # let it through to the reader
        schema = json.loads(contents[root / "schema.json"])
        schema["checksums"] = {}
        (root / "schema.json").write_text(json.dumps(schema))
    chosen.write_bytes(mutated)

    def undo():
        for path in {chosen, root / "schema.json"} & set(contents):
            path.write_bytes(contents[path])

    return root, undo


def test_a_few_damaged_files_of_each_layout(originals, tmp_path):
    counts, broken, slowest = fuzz(originals, tmp_path, 20 * len(originals))
    assert not broken and slowest[0] < SECONDS
    assert counts["read"] and counts["refused"]


@pytest.mark.slow
def test_many_damaged_files(originals, tmp_path, capsys):
    number, first = int(os.environ.get("FUZZ_FILES", "100000")), int(os.environ.get("FUZZ_FIRST", "0"))
    counts, broken, done, begun, slowest = {"read": 0, "refused": 0}, [], 0, time.perf_counter(), (0.0, "")
    while done < number:
        part, wrong, slow = fuzz(originals, tmp_path, min(10_000, number - done), seed=1 + first + done)
        counts = {key: counts[key] + part[key] for key in counts}
        broken += wrong
        slowest = max(slowest, slow)
        done += sum(part.values()) + len([w for w in wrong if not w[2].startswith("message")])
        peak = _peak()
        with capsys.disabled():
            seconds = time.perf_counter() - begun
            print(*wrong, sep="\n")
            print(f"\n{done:,} files, {counts}, {len(broken)} broken, {seconds:.0f} s, peak {peak:.0f} MB, ", end="")
            print(f"the slowest {slowest[0]:.2f} s: {slowest[1]}", flush=True)
    assert not broken, broken[:20]
    assert peak < 2000 and slowest[0] < SECONDS


def _peak():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_mutations_are_the_same_in_every_run():
    data = bytes(range(256))
    assert mutate(data, random.Random(3), [data]) == mutate(data, random.Random(3), [data]) != data

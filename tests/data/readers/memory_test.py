"""Reading a pickle takes less than three times its size of memory, in whatever form its vectors are.

    PICKLE_MB=500 python -m pytest -n 0 -m slow -s tests/data/readers/memory_test.py

Measured is the peak of a process of its own, above what it takes before it reads.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ariigcn_jax.data.readers.dialogue_tuples import LAYOUTS
from tests.support.layout_files import conversations, dump, mmsa, tuple_elements

ROOT = Path(__file__).resolve().parents[3]
WIDTHS = {"text": 100, "audio": 1582, "visual": 342}  # IEMOCAP's in most published files
FRAMES = 50
READ = """
import sys
from ariigcn_jax import data
def peak():  # resource's ru_maxrss would begin with that of the process that started this one
    status = open("/proc/self/status").read()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
before = peak()
data.load(sys.argv[1])
print(before, peak())
"""


def tuples(corpus):
    layout, roles = next(iter(LAYOUTS.items()))
    return tuple_elements(corpus, layout, roles)


def lists(corpus):
    vectors = [
        isinstance(part, dict) and isinstance(next(iter(part.values()))[0], np.ndarray) for part in tuples(corpus)
    ]
    return tuple(
        {dialogue: [v.tolist() for v in values] for dialogue, values in part.items()} if is_vectors else part
        for part, is_vectors in zip(tuples(corpus), vectors, strict=True)
    )


FORMS = {  # how the vectors are written, and about how many bytes each number takes
    "DialogueRNN's tuple, arrays": (tuples, 8),
    "DialogueRNN's tuple, lists of floats": (lists, 9),
    "MMSA's dictionary": (lambda corpus: mmsa(corpus, frames=FRAMES), 4 * FRAMES),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says there how much memory was taken")
@pytest.mark.parametrize("form", FORMS)
def test_peak_is_less_than_three_times_the_file(form, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tests.support.layout_files.WIDTHS", WIDTHS)
    make, number = FORMS[form]
    utterances = int(os.environ.get("PICKLE_MB", "60")) * 1e6 / (number * sum(WIDTHS.values()))
    corpus = conversations(dialogues=int(utterances / 20), utterances=(20, 20), classes=3, widths=WIDTHS)
    path = dump(tmp_path / "x.pkl", make(corpus))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    before, peak = map(int, done.stdout.split())
    size = path.stat().st_size
    with capsys.disabled():
        print(f"\n{form}: {size / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB, {before / 1e6:.0f} of them before reading")
    assert peak - before < 3 * size

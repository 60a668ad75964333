"""Commands in the environments that people have: terminals, pipes, notebooks, machines without the device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ariigcn_jax.commands import command, start
from ariigcn_jax.files import local, write_atomically
from ariigcn_jax.types import UserError

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LC_", "LANG", "JAX_PLATFORM", "MPL"))}
SAID = "tools.prepare: loading JAX"


def python(*arguments, stdout=subprocess.PIPE, **environment):
    line = [sys.executable, *map(str, arguments)]
    options = dict(cwd=ROOT, env=PLAIN | environment, timeout=120, encoding="utf-8", errors="replace", check=False)
    return subprocess.run(line, stdout=stdout, stderr=subprocess.PIPE, **options)


@pytest.fixture
def table(tmp_path):
    rows = [f"d{n // 3},Jörg,{'fröhlich…' if n % 2 else '悲しい'},{n},1,2" for n in range(30)]
    path = tmp_path / "gespräch.csv"
    path.write_text("\n".join(["dialogue_id,speaker,label,turn,text_0,text_1", *rows]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_output_that_the_terminal_cannot_show_is_replaced(table, environment):
    done = python("-m", "tools.prepare", "inspect", table, **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert done.stderr.startswith(SAID) and "?" in done.stdout and "30 utterances in 10 dialogues" in done.stdout


def test_tool_whose_reader_has_ended_says_so(table):
    reader, writer = os.pipe()
    os.close(reader)
    done = python("-m", "tools.prepare", "inspect", table, stdout=writer)
    os.close(writer)
    assert done.returncode == 1 and "Stopped: the output was closed." in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_print_of_a_run_is_dropped_where_nobody_reads():
    reader, writer = os.pipe()
    with open(writer, "w", encoding="ascii") as given:
        stream = start._stream(given, lasting=True)
        print("Grün", file=stream, flush=True)
        assert os.read(reader, 100) == b"Gr?n\n"
        os.close(reader)
        print("nobody reads", file=stream, flush=True)
        stream.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_print_of_a_run_is_dropped_where_the_disk_is_full():
    with open("/dev/full", "w", encoding="utf-8") as full:
        stream = start._stream(full, lasting=True)
        print("no place", file=stream, flush=True)


def test_closed_descriptor_takes_prints():
    with start._stream(None, lasting=True) as stream:
        print("nowhere", file=stream, flush=True)


def test_first_line_comes_before_anything_heavy_is_imported():
    code = "import sys; sys.argv[0] = '-m'; import tools; print({'jax', 'numpy', 'matplotlib'} & set(sys.modules))"
    done = python("-c", code)
    assert done.stdout == ": loading JAX …\nset()\n", done.stderr


def test_import_in_a_notebook_changes_nothing():
    code = "import os, sys; o = sys.stdout; import experiments, tools; print(o is sys.stdout, os.environ['MPLBACKEND'])"
    assert python("-c", code, MPLBACKEND="module://of.a.notebook").stdout == "True module://of.a.notebook\n"


# --- Devices ----------------------------------------------------------------------------------------------------------

ASKS = """
import sys, jax
from ariigcn_jax.commands import command
sys.exit(command.guarded(lambda: print(jax.devices())))
"""


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("JAX_PLATFORMS", "cuda", "Install the extra `cuda`, pip install -e '.[cuda]', or unset JAX_PLATFORMS"),
        ("JAX_PLATFORMS", "gpu", "Install the extra `cuda`"),
        ("JAX_PLATFORMS", "tpu", "Install the extra `tpu`, pip install -e '.[tpu]'"),
        ("JAX_PLATFORMS", "abacus", "Name one of cpu, cuda and tpu, or unset JAX_PLATFORMS"),
        ("JAX_PLATFORM_NAME", "cuda", "Install the extra `cuda`, pip install -e '.[cuda]', or unset JAX_PLATFORM_NAME"),
    ],
)
def test_platform_that_is_not_there_is_one_message(variable, value, remedy):
    done = python("-c", ASKS, **{variable: value})
    if done.returncode == 0:
        pytest.skip(f"this machine has {done.stdout}")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"error: {variable}={value}: JAX finds no such device here, only ")
    assert remedy in done.stderr


def test_other_errors_stay_as_they_are(monkeypatch):
    def fails():
        raise RuntimeError("out of memory")

    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(RuntimeError, match="out of memory"):
        command.guarded(fails)


# --- Places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["gs://bucket/run", "s3://bucket/run", "hdfs://host/run", Path("gs://bucket/run")])
def test_url_is_no_place(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"this is a URL, .* Name a local path, and copy from or to the URL\."):
        write_atomically(url, b"")
    assert not list(tmp_path.iterdir())


def test_url_of_a_file_is_written_as_a_path():
    with pytest.raises(UserError, match=r"file:///tmp/run: this is a URL, .* Write the path alone\."):
        local("file:///tmp/run")


@pytest.mark.parametrize("path", ["C:/run", "a:b/run", "run", "/x/gs:/run", "./gs://run", "d 1://x"])
def test_local_paths_stay_as_they_are(path):
    assert local(path) == Path(path)

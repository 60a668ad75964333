"""The commands in README.md name modules, config files and config keys that exist."""

import importlib.util
import itertools
import pathlib
import re
import shlex
import sys

import pytest
from absl import flags
from ml_collections import config_flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
SET_UP = "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.lock && .venv/bin/python -m "


def bash_blocks(markdown: str) -> list[str]:
    """The contents of the fenced bash blocks of a Markdown text."""
    return re.findall(r"^```bash\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)


def module_runs(bash: str) -> list[list[str]]:
    """The words [module, argument, ...] of every `python -m experiments.* …` or `… tools.* …` in a bash text."""
    runs = []
    for line in bash.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        commands: list[list[str]] = [[]]
        for word in lexer:
            if set(word) <= set("();<>|&"):
                commands.append([])
            else:
                commands[-1].append(word)
        for words in commands:
            for flag, module in itertools.pairwise(words):
                if flag == "-m" and module.startswith(("experiments.", "tools.")):
                    runs.append(words[words.index(module) :])
    return runs


def parse_config_flags(arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    """Parses `--config=file[:argument]` and `--config.key=value` as a run would; the config, or None without one."""
    argv = ["run", *(a for a in arguments if re.match(r"--config[.=]", a))]
    if len(argv) == 1:
        return None
    monkeypatch.setattr(sys, "argv", argv)  # where config_flags looks for the overrides
    monkeypatch.chdir(ROOT)
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values)
    values(argv)
    return holder.value


BLOCKS = bash_blocks((ROOT / "README.md").read_text())
RUNS = [run for block in BLOCKS for run in module_runs(block)]


def test_first_block_sets_up_and_trains():
    line = BLOCKS[0].strip()
    assert line.startswith(SET_UP + "experiments.run --config=")
    assert "\n" not in line


def test_second_block_sets_up_and_tests():
    assert BLOCKS[1].strip() == SET_UP + "pytest"


@pytest.mark.parametrize("run", RUNS, ids=" ".join)
def test_command_names_what_exists(run, monkeypatch):
    module, *arguments = run
    assert "--config" not in arguments, "write --config=FILE: the check and config_flags' own messages need the ="
    assert importlib.util.find_spec(module), f"no module {module}"
    config = parse_config_flags(arguments, monkeypatch)
    if module == "experiments.run" and not any(a.startswith("--reproduce=") for a in arguments):
        assert config is not None, "experiments.run needs a --config"


def test_commands_are_found_behind_set_up_variables_and_continuations():
    bash = "cd x && A=1 python -m experiments.run --config=a.py \\\n  --config.b.c='(1, 2)'  # why\npython -m pytest\n"
    assert module_runs(bash) == [["experiments.run", "--config=a.py", "--config.b.c=(1, 2)"]]


@pytest.mark.parametrize("override", ["--config.optimizer.lrr=1", "--config.optimizer.lr=fast", "--config.epochs.x=1"])
def test_wrong_override_is_refused(override, tmp_path, monkeypatch):
    path = tmp_path / "config.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config(arg=None):\n"
        "    return ml_collections.ConfigDict(dict(epochs=3, arg=str(arg), optimizer=dict(lr=0.1)))\n"
    )
    config = parse_config_flags([f"--config={path}:a", "--config.optimizer.lr=1e-3", "--workdir=x"], monkeypatch)
    assert (config.optimizer.lr, config.arg) == (1e-3, "a")
    with pytest.raises((AttributeError, KeyError, ValueError, TypeError, flags.Error)):
        parse_config_flags([f"--config={path}", override], monkeypatch)

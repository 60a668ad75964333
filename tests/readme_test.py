"""The documents agree with the code: commands parse, links lead somewhere, README stays a front page."""

import argparse
import importlib.util
import itertools
import pathlib
import re
import runpy
import shlex
import signal
import sys
import warnings

import pytest
from absl import flags

from ariigcn_jax import cli
from ariigcn_jax.commands import command

ROOT = pathlib.Path(__file__).resolve().parents[1]
SET_UP = "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.lock && .venv/bin/python -m "
PAGES = (
    "README.md",
    "tools/README.md",
    "experiments/RESULTS.md",
    "experiments/SEARCH.md",
    "SECURITY.md",
    "CHANGELOG.md",
)
TEXTS = {name: (ROOT / name).read_text() for name in PAGES}
LONGEST_README = 250  # lines


class ParsedError(BaseException):
    """A command line was read to its end; no command catches it."""


def bash_blocks(markdown: str) -> list[str]:
    """Return the contents of the fenced bash blocks of a Markdown text."""
    return re.findall(r"^```bash\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)


def spans(markdown: str) -> list[str]:
    """Return the contents of the inline code of a Markdown text."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL))


def module_runs(bash: str) -> list[list[str]]:
    """Return the words of every `python -m experiments.* …`, `python -m tools.* …` or `ariigcn …` in a bash text.

    They are [module, argument, ...], or [ariigcn, argument, ...].
    """
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
            if words[:1] == ["ariigcn"]:
                runs.append(words)
            for flag, module in itertools.pairwise(words):
                if flag == "-m" and module.startswith(("experiments.", "tools.")):
                    runs.append(words[words.index(module) :])
    return runs


def parse(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command read its command line, configuration and all, and end there.

    Raises:
      SystemExit: an argument is wrong, or one is missing.
    """

    def ending(read):
        def wrapped(*args, **kwargs):
            read(*args, **kwargs)
            raise ParsedError

        return wrapped

    def reading(argv, read=cli.read):
        options = read(argv)
        if options.command not in ("train", "features"):  # which read further by themselves
            raise ParsedError
        return options

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cli, "read", reading)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.delitem(sys.modules, "config_config", raising=False)  # the file of --config that an earlier test read
    monkeypatch.setattr(command, "parse", ending(command.parse))
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", ending(argparse.ArgumentParser.parse_args))
    known = set(flags.FLAGS)
    try:
        with warnings.catch_warnings(), pytest.raises(ParsedError):
            warnings.simplefilter("ignore")  # of runpy, that the module is there already
            if module == "ariigcn":
                sys.exit(cli.main(arguments))
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(markdown: str) -> set[str]:
    """Return the anchors of a Markdown text's headings."""
    outside = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", outside, re.MULTILINE)}


BLOCKS = bash_blocks(TEXTS["README.md"])
IN_BLOCKS = [run for text in TEXTS.values() for block in bash_blocks(text) for run in module_runs(block)]
IN_TEXT = [run for text in TEXTS.values() for span in spans(text) if "python -m" in span for run in module_runs(span)]
WHOLE = [*IN_BLOCKS, *(run for run in IN_TEXT if len(run) > 1 and run[1].startswith("--"))]
RUNS = [list(run) for run in dict.fromkeys(map(tuple, WHOLE))]
LINKS = [(name, link) for name, text in TEXTS.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)]


def test_first_block_sets_up_and_trains():
    line = BLOCKS[0].strip()
    assert line.startswith(SET_UP + "experiments.run --config=")
    assert "\n" not in line


def test_second_block_sets_up_and_tests():
    assert BLOCKS[1].strip() == SET_UP + "pytest"


def test_readme_is_a_front_page():
    assert len(TEXTS["README.md"].splitlines()) <= LONGEST_README


@pytest.mark.parametrize("run", RUNS, ids=" ".join)
def test_command_parses(run, monkeypatch):
    module, *arguments = run
    assert "--config" not in arguments, "write --config=FILE, as the commands' own messages do"
    assert module == "ariigcn" or importlib.util.find_spec(module), f"no module {module}"
    parse(module, arguments, monkeypatch)


@pytest.mark.parametrize("module", sorted({run[0] for run in IN_TEXT}))
def test_named_command_is_there(module):
    assert importlib.util.find_spec(module)


@pytest.mark.parametrize("name, link", LINKS, ids=str)
def test_link_leads_to_a_file_and_a_heading(name, link):
    if "://" in link:
        return
    path, _, anchor = link.partition("#")
    target = (ROOT / name).parent / path if path else ROOT / name
    assert target.exists()
    assert not anchor or anchor in anchors(target.read_text())


def test_reference_has_a_section_for_every_command():
    commands = set()
    for folder in ("experiments", "tools"):
        for file in (ROOT / folder).rglob("*.py"):
            if '__name__ == "__main__"' in file.read_text():
                parts = [part for part in file.relative_to(ROOT).with_suffix("").parts if part != "__main__"]
                if len(parts) == 2:  # what is deeper is a process that a command starts
                    commands.add(".".join(parts))
    sections = re.findall(r"^## (.*)$", TEXTS["tools/README.md"], re.MULTILINE)
    assert sorted(sections) == sorted([*commands, "ariigcn"])


def test_commands_are_found_behind_set_up_variables_and_continuations():
    bash = "cd x && A=1 python -m experiments.run --config=a.py \\\n  --config.b.c='(1, 2)'  # why\npython -m pytest\n"
    assert module_runs(bash) == [["experiments.run", "--config=a.py", "--config.b.c=(1, 2)"]]
    assert module_runs("echo 'Ann: Oh!' | ariigcn predict --run a -\n") == [["ariigcn", "predict", "--run", "a", "-"]]


def test_anchors_are_those_of_github():
    assert anchors("# A-b `b.c`, d\n```bash\n# no heading\n```\n## E_f − 1\n") == {"a-b-bc-d", "e_f--1"}


@pytest.mark.parametrize(
    "wrong",
    [
        "experiments.run",
        "experiments.run --config=experiments/synthetic.py --config.optimizer.lrr=1",
        "experiments.run --config=experiments/synthetic.py --config.optimizer.lr=fast",
        "experiments.run --config=experiments/synthetic.py --config.num_epochs.x=1",
        "experiments.run --config=experiments/synthetic.py:no_such_part",
        "experiments.ablate --config=experiments/synthetic.py --ablation=no_tgan",
        "tools.predict --runs=x conversation.jsonl",
        "tools.predict conversation.jsonl",
        "ariigcn predict conversation.jsonl",
        "ariigcn predikt --run runs/x conversation.jsonl",
        "ariigcn predict --run runs/x conversation.jsonl --config.seed=3",
        "ariigcn train calls.csv --confg.seed=3",
        "ariigcn train calls.csv --config.optimizer.lrr=1",
        "ariigcn train calls.csv --config=own.py --names=words",
        "ariigcn train calls.csv more.csv",
        "ariigcn train calls.csv --names=no_such_part",
        "ariigcn train",
    ],
)
def test_wrong_command_is_refused(wrong, monkeypatch):
    module, *arguments = wrong.split()
    with pytest.raises(SystemExit) as end:
        parse(module, arguments, monkeypatch)
    assert end.value.code

"""Run commands: read their flags, and turn a mistake of the user into one message."""

import argparse
import collections
import itertools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging
from ml_collections import config_flags

from ariigcn_jax.types import UserError, first_line

NEEDS = {"int()": "a whole number", "float": "a number", "boolean": "true or false"}  # by a word of absl's message
EXTRAS = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}  # platform of JAX -> the extra that installs it
CONFIG_HELP = (
    "an experiment's file, e.g. experiments/synthetic.py; --config.KEY=VALUE changes one of its options,\n"
    "    which ariigcn_jax/options/base.py lists; :NAME behind the file swaps parts, as named in\n"
    "    ariigcn_jax/options/ablations.py, or takes other data: words, frozen_words or generated, in the\n"
    "    experiments that have it"
)


def define_config() -> None:
    """Define --config."""
    config_flags.DEFINE_config_file("config", None, CONFIG_HELP)


def parse(argv: Sequence[str], instead: str = "", values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Read absl's flags, of which `instead` may replace --config; return the config's keys that the user set."""
    try:
        left = values(list(argv))[1:]
        config = values.config
        if config is not None:
            config.keys()  # raises what loading the file raised
    except Exception as error:  # what importing an experiment's file raises cannot be listed
        raise UserError(_parse_message(error, argv)) from error
    if left:
        raise UserError(f"unrecognised argument {left[0]!r}. Options begin with --, as in --config.seed=3.")
    if instead and values[instead].value:
        if config is not None:
            raise UserError(f"--{instead} has a config of its own. Leave --config out.")
        return []
    if config is None:
        raise UserError("--config is missing, for example --config=experiments/synthetic.py")
    return list(config_flags.get_override_values(values["config"]))


def _parse_message(error: Exception, argv: Sequence[str]) -> str:
    if isinstance(error, UserError):
        return str(error)
    words = str(error).replace("\\n", "\n").strip("\"'\n")
    last = words.splitlines()[-1].strip() if words else type(error).__name__
    joined = [f"{a}={b}" if a == "--config" else a for a, b in itertools.pairwise([*argv, ""])]  # or `--config FILE`
    file = next((a.partition("=")[2] for a in joined if a.startswith("--config=")), "")
    if isinstance(error, OSError):
        return f"--config={file}: there is no such file, or it cannot be read. experiments/ holds those of the project."
    if "no attribute 'get_config" in words:
        return f"--config={file}: not usable as an experiment's file: it has no function get_config()."
    if "get_config() takes" in last:
        return f"--config={file}: this experiment takes nothing behind a colon."
    if isinstance(error, AttributeError | KeyError):
        given = [a.partition("=")[0] for a in argv if a.startswith("--config.")]
        name = re.findall(r"\w+", last)[-1:]  # the message ends with it
        meant = ", ".join([key for key in given if name and name[0] in key.split(".")] or given)
        return f"{file} has no such option as {meant or 'one of those given'}: {last}"
    wrong = re.match(r"flag --config\.([\w.]+)=(.*?): ", words)
    if wrong and isinstance(error, flags.IllegalFlagValueError):
        key, value = wrong.groups()
        if "is not a dict" in last:
            return f"{key} is a group of options: set one of them, as in --config.{key}.KEY=VALUE."
        need = next((need for sign, need in NEEDS.items() if sign in last), "a value of another type")
        return f"{key}={value!r}: {need} is needed."
    if isinstance(error, flags.Error):
        return last
    return f"--config={file}: not usable as an experiment's file ({type(error).__name__}: {last})"


def main(command: Callable[[list[str]], None], doc: str, argv: Sequence[str], instead: str = "") -> int:
    """Run a command that takes an experiment's file; return the exit status, as `guarded`.

    Args:
      command: takes the keys that the user set.
      doc: printed for --help.
      argv: the program and its arguments.
      instead: name of a flag that replaces --config.
    """
    if {"--help", "-h", "--helpfull"} & set(argv[1:]):
        words = f"{doc.strip()}\n\nOptions:\n\n  --config: {CONFIG_HELP}{flags.FLAGS.main_module_help()}"
        return guarded(lambda: print(words))
    resume = "The same command with the run's --workdir resumes from its last checkpoint."
    return guarded(lambda: command(parse(argv, instead)), resume)


def call(command: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Run a command with the options that a parser reads from arguments; return the exit status, as `guarded`."""
    options = parser.parse_args(argv)
    return guarded(lambda: command(options))


def guarded(command: Callable[[], None], resume: str = "") -> int:
    """Run a command, and report in one message why it ended early, with `resume` after an interruption.

    Return the exit status: 0, 1 after a UserError or when the output was closed, 130 after an interruption.
    """
    _handle_signals()
    try:
        command()
        print(end="", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (RuntimeError, AssertionError):  # JAX asserts where the plugin of a platform is not installed
        problem = _missing_platform()
        if not problem:
            raise
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has ended
        print(f"Stopped: the output was closed. {resume}".strip(), file=sys.stderr)
        sys.stdout = None  # or Python reports it once more at its end
        return 1
    except KeyboardInterrupt:
        print(f"\nStopped. {resume}".rstrip(), file=sys.stderr)
        return 130
    return 0


def _missing_platform() -> str:
    """Say which platform JAX is told to use and does not find, what it finds, and what to do; "" where it finds it."""
    import jax

    name = next((name for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(name)), "")
    try:
        jax.devices()
        return ""
    except (RuntimeError, AssertionError) as error:
        if not name:
            return ""
        says = str(error) and f" JAX says: {first_line(error).partition(' (set ')[0]}"
    jax.config.update("jax_platforms", None)
    jax.config.update("jax_platform_name", "")
    kinds = collections.Counter(device.device_kind for device in jax.devices())
    found = ", ".join(f"{number} × {kind}" for kind, number in kinds.items())
    extra = next((EXTRAS[platform] for platform in os.environ[name].lower().split(",") if platform in EXTRAS), "")
    remedy = f"Install the extra `{extra}`, pip install -e '.[{extra}]'" if extra else "Name one of cpu, cuda and tpu"
    problem = f"{name}={os.environ[name]}: JAX finds no such device here, only {found}"
    return f"{problem}. {remedy}, or unset {name} to use what was found.{says}"


def _handle_signals() -> None:
    """Make SIGTERM an interruption as Ctrl-C is, lose neither, and silence the log of libraries."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = _unraisable
    logging.set_verbosity(logging.FATAL)  # an error that a library logs it also raises


def _unraisable(raised: Any, usual: Callable[[Any], Any] = sys.unraisablehook) -> None:
    """Send an interruption again that came while garbage was collected, where Python drops it."""
    if issubclass(raised.exc_type, KeyboardInterrupt):
        # To the main thread, which may be waiting. As SIGTERM, because a background program ignores SIGINT.
        later = threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGTERM])
        later.daemon = True
        later.start()
    else:
        usual(raised)


def flag(name: str) -> Any:
    """Return a flag's value."""
    return flags.FLAGS[name].value

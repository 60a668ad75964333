"""Measure how fast this machine trains and applies a model:

    python -m tools.bench
    python -m tools.bench --config=experiments/iemocap.py --only=epoch,length --out=runs/bench

Without --config, conversations of IEMOCAP's shape are generated (experiments/iemocap_shape.py), so no data is needed.
Sections: epoch, start, seeds, latency, length, corpus, words (of --encoder=FOLDER). The folder gets bench.md,
bench.json and environment.json with versions, device and commit. On a machine that does other work, compare CPU seconds
and not wall seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from ariigcn_jax.commands import machine
from ariigcn_jax.commands.command import CONFIG_HELP, flag, main
from ariigcn_jax.objective import terms
from ariigcn_jax.runs import compilation, workdir
from ariigcn_jax.runs.session import load
from ariigcn_jax.types import UserError
from tools.bench import corpora, report, sections

DEFAULT = Path(__file__).parents[2] / "experiments" / "iemocap_shape.py"
JSON, TABLE = "bench.json", "bench.md"
# the smallest model that has all parts
QUICK = {"model.hidden": 16, "model.graph.layers": 1, "model.graph.heads": 2, "num_epochs": 2, "diagnostics.every": 0}


def command(overrides: Sequence[str]) -> None:
    """Measure what the flags say."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # other processes need some of the device's memory
    if flag("quick"):
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for the other processes
        jax.config.update("jax_disable_most_optimizations", True)

    names = chosen(flag("only"), list(sections.SECTIONS))
    terms.check_overrides(flag("config").losses.to_dict(), overrides)
    bench = prepare(flag("config"), flag("quick"))
    bench.encoder = flag("encoder")
    # a later benchmark may write into the same folder with other options
    config = bench.config.to_dict()
    with workdir.open(flag("out"), "bench", config, may_differ=tuple(config), tensorboard=False) as directory:
        print(f"{directory.path}: the benchmark's folder", flush=True)
        compilation.enable()
        try:
            content = _measure(bench, names, directory)
        except KeyboardInterrupt:
            raise UserError(f"Stopped. {directory.path} holds what was measured until then.") from None
        print(report.table(content))
        print(f"{directory.path}: wrote {TABLE} and {JSON}.")


def chosen(only: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the sections that the user names, in their order; all if none is named.

    Raises:
      UserError: there is no such section.
    """
    if wrong := [name for name in only if name not in known]:
        raise UserError(f"--only={wrong[0]}: there is no such section. Known: {', '.join(known)}.")
    return [name for name in known if not only or name in only]


def prepare(config: Any, quick: bool) -> sections.Bench:
    """Return the Bench of a config, with its corpus; a small one of both for a quick check."""
    with config.unlocked():
        config.data.cross_validation = False  # one model is measured, on the splits of the file
    corpus = load(config)
    if quick:
        with config.unlocked():
            config.update_from_flattened_dict(QUICK)
        corpus = corpora.of_size(corpus, utterances=400)
    return sections.Bench(config, corpus, quick)


def _measure(bench: sections.Bench, names: list[str], directory: workdir.WorkDir) -> dict[str, Any]:
    """Measure; where a benchmark is stopped, keep what it has measured."""
    content: dict[str, Any] = {"experiment": bench.config.experiment, "quick": bench.quick}
    content |= {"machine": machine.describe(), "sections": bench.rows}
    with tqdm(bar_format="{desc} [{elapsed}]", desc="compiling") as bar:
        try:
            for section, point, left in sections.measure(bench, names):
                directory.write_json(JSON, content)
                bar.set_description_str(f"{section}: {point}, {left} to come")
        finally:
            directory.write_json(JSON, content)
            directory.write_text(TABLE, report.table(content))
    return content


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(DEFAULT), CONFIG_HELP)
    flags.DEFINE_list("only", [], "sections to measure, separated by commas; all by default")
    flags.DEFINE_bool("quick", False, "few points with a tiny model, to check that everything works")
    flags.DEFINE_string("encoder", "", "of the section words: a text encoder's folder; without it, random weights")
    flags.DEFINE_string("out", None, "folder for the results; by default a new one under runs/")
    sys.exit(main(command, __doc__, sys.argv))

"""Measures how fast this machine trains and applies a model, beside what the machine could do at best:

    python -m tools.bench --against=reference
    python -m tools.bench --config=experiments/iemocap.py --only=epoch,length --out=runs/bench

Without --config, generated conversations of IEMOCAP's shape are used (experiments/iemocap_shape.py), so no data is
needed. Sections: epoch, floor, start, seeds, hidden, modalities, latency, length, corpus, run. The folder gets
bench.md, bench.json and bench.png, and environment.json with versions, device and commit. On a machine that does other
work, compare CPU seconds and not wall seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from ariigcn_jax.types import UserError
from experiments.command import CONFIG_HELP, flag, main

DEFAULT = Path(__file__).parents[2] / "experiments" / "iemocap_shape.py"
JSON, TABLE, PICTURE = "bench.json", "bench.md", "bench.png"
AGAINST = ("reference",)
# the smallest model that has all parts, and a compiler that is in a hurry
QUICK = {"model.hidden": 16, "model.graph.layers": 1, "model.graph.heads": 2, "num_epochs": 2, "diagnostics.every": 0}
QUICK_UTTERANCES = 400


def command(overrides: Sequence[str]) -> None:
    """Measures what the flags say."""
    import jax

    from ariigcn_jax.objective import terms as objective
    from ariigcn_jax.runs import compilation, workdir
    from tools.bench import report, sections

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the probes need some of the device's memory
    if flag("quick"):
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for the probes
        jax.config.update("jax_disable_most_optimizations", True)

    names = _chosen(flag("only"), list(sections.SECTIONS), sections.SLOW if flag("quick") else ())
    against = flag("against")
    if against and against not in AGAINST:
        raise UserError(f"--against={against}: there is {' and '.join(AGAINST)} to compare with.")
    if against and "epoch" not in names:
        raise UserError("--against compares epochs: name epoch in --only too.")
    objective.check_overrides(flag("config").losses.to_dict(), overrides)
    bench = _bench(flag("config"), flag("quick"), bool(against))
    # a later benchmark may write where an earlier one did, with other options
    config = bench.config.to_dict()
    with workdir.open(flag("out"), "bench", config, may_differ=tuple(config), tensorboard=False) as directory:
        print(f"{directory.path}: the benchmark's folder", flush=True)
        compilation.enable()
        try:
            content = _measure(bench, names, directory)
        except KeyboardInterrupt:
            raise UserError(f"Stopped. {directory.path} holds what was measured until then.") from None
        print(report.table(content))
        print(f"{directory.path}: {TABLE}, {JSON} and {PICTURE} are there.")


def _chosen(only: Sequence[str], known: Sequence[str], slow: Sequence[str]) -> list[str]:
    """Sections in their order."""
    wrong = [name for name in only if name not in known]
    if wrong:
        raise UserError(f"--only={wrong[0]}: there is no such section. Known: {', '.join(known)}.")
    return [name for name in known if name in only] if only else [name for name in known if name not in slow]


def _bench(config: Any, quick: bool, against: bool) -> Any:
    from experiments.session import load
    from tools.bench import corpora, sections

    if against and config.data.ratings:
        print("note: without data.ratings, which the reference does not learn")
        with config.unlocked():
            config.data.ratings = ()
    with config.unlocked():
        config.data.cross_validation = False  # speed is one model's, of the splits that the file has
    corpus = load(config)
    if quick:
        with config.unlocked():
            config.update_from_flattened_dict(QUICK)
        corpus = corpora.of_size(corpus, QUICK_UTTERANCES)
    return sections.Bench(config, corpus, quick, against)


def _measure(bench: Any, names: list[str], directory: Any) -> dict[str, Any]:
    """Measures; a benchmark that is stopped keeps the points that it had."""
    from tqdm import tqdm

    from tools.bench import chart, machine, report, sections

    content: dict[str, Any] = {
        "experiment": bench.config.experiment,
        "quick": bench.quick,
        "machine": machine.describe(),
        "rates": bench.rates._asdict(),
        "sections": bench.rows,
    }
    with tqdm(bar_format="{desc} [{elapsed}]", desc="compiling") as bar:
        try:
            for section, point, left in sections.measure(bench, names):
                directory.write_json(JSON, content)
                bar.set_description_str(f"{section}: {point}, {left} to come")
        finally:
            directory.write_json(JSON, content)
            directory.write_text(TABLE, report.table(content))
            directory.write_bytes(PICTURE, chart.draw(content))
    return content


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(DEFAULT), CONFIG_HELP)
    flags.DEFINE_list("only", [], "sections to measure, separated by commas; all by default")
    flags.DEFINE_bool("quick", False, "few points with a tiny model: a check that all works, no figures to quote")
    flags.DEFINE_string("out", None, "folder for the results; by default a new one under runs/")
    flags.DEFINE_string("against", None, "reference: also time the same model written the plain way")
    sys.exit(main(command, __doc__, sys.argv))

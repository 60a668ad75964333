"""Tries values of options and chooses by the validation split; the test split is not read:

    python -m experiments.sweep --config=experiments/iemocap.py:single --sweep=margin
    python -m experiments.sweep --config=experiments/mosi.py --grid losses.iccl.weight=0,0.1 --grid model.hidden=64,128
    python -m experiments.sweep --config=experiments/meld.py --random optimizer.lr=log:3e-4:1e-2 --trials 20

KEY+KEY=… gives several options the same value. --grid takes values; --random takes log:LOW:HIGH, uniform:LOW:HIGH,
int:LOW:HIGH or values to choose from; together they are tried in every combination. --sweep names a ready-made grid:

{ready}

Each setting is a work directory below --workdir. The same command resumes where it stopped; more values or trials add
to it. What comes out: sweep.md, .csv, .tex, .json, sweep.png (the score and the F1 of each class, or a panel for each
of several options), and the command that trains with the selected setting and reads the test split.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
import math
import shlex
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from ml_collections import config_flags

from ariigcn_jax.types import UserError
from experiments import ablations
from experiments.command import define_config, flag, main
from experiments.run import MAY_DIFFER, load_corpus


@dataclasses.dataclass(frozen=True)
class Ready:
    """A ready-made sweep.

    Attributes:
      words: what is swept.
      grid: as for --grid.
      fixed: options that it needs.
    """

    words: str
    grid: str
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _contrast(option: str, values: str) -> str:
    return f"losses.iccl.{option}+losses.imcl.{option}={values}"


SWEEPS = {
    "margin": Ready(
        "margin β of ICCL and IMCL in the margin form",
        _contrast("margin", "0.1,0.2,0.3,0.5,0.7,1.0,1.5"),
        {"losses.iccl.fn": "margin", "losses.imcl.fn": "margin"},
    ),
    "similarity_margin": Ready(
        "margin β of ICCL and IMCL in the temperature form",
        _contrast("similarity_margin", "-1.0,-0.5,-0.25,0.0,0.25,0.5"),
        {"losses.iccl.fn": "supervised_nce", "losses.imcl.fn": "supervised_nce"},
    ),
    "temperature": Ready(
        "temperature τ of ICCL and IMCL",
        _contrast("temperature", "0.05,0.1,0.2,0.5,1.0"),
        {"losses.iccl.fn": "supervised_nce", "losses.imcl.fn": "supervised_nce"},
    ),
    "lambda_tgan": Ready("λ of the adversarial term", "losses.adversarial.weight=0.0,0.01,0.03,0.1,0.3,1.0"),
    "lambda_iccl": Ready("λ of ICCL", "losses.iccl.weight=0.0,0.03,0.1,0.3,1.0"),
    "lambda_imcl": Ready("λ of IMCL", "losses.imcl.weight=0.0,0.03,0.1,0.3,1.0"),
    "lambda_contrast": Ready("λ of ICCL and IMCL together", _contrast("weight", "0.0,0.03,0.1,0.3,1.0")),
    "window": Ready(
        "utterances before and after that a node hears; -1 is the whole dialogue",
        "model.graph.past+model.graph.future=0,1,2,5,10,20,-1",
    ),
}

# With other seeds, or other scores: of another split, classes, dialogues or noise.
FIXED = (
    *ablations.MEASURED,
    *("data.valid_fraction", "data.cross_validation", "data.leaky"),
    *("seed", "num_seeds", "eval.test", "eval.report_best_test"),
)
GENERATED = "data.generate"  # and its options: of other conversations


# --- Options and their values -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Axis:
    """One option, or several that go together, and where its values come from.

    Attributes:
      label: the keys, joined by `+`.
      values: of a grid, or to choose from.
      draw: "choice" among the values, or "log", "uniform" or "int" between the two; "" for a grid.
    """

    label: str
    values: tuple[Any, ...]
    draw: str = ""

    @property
    def keys(self) -> list[str]:
        return self.label.split("+")

    def at(self, trial: int, seed: int) -> Any:
        """Value of a trial: a function of its number, the seed and the option alone, so that adding trials or options
        changes no value."""
        random = np.random.default_rng([seed, trial, zlib.crc32(self.label.encode())])
        if self.draw == "choice":
            return self.values[random.integers(len(self.values))]
        low, high = self.values
        if self.draw == "int":
            return int(random.integers(low, high, endpoint=True))
        value = (
            math.exp(random.uniform(math.log(low), math.log(high))) if self.draw == "log" else random.uniform(low, high)
        )
        return min(max(float(f"{value:.3g}"), low), high)  # digits that a person reads, and that name a folder


def _split(text: str, what: str) -> tuple[str, str]:
    label, equals, values = (part.strip() for part in text.partition("="))
    if not label or not equals or not values:
        raise UserError(f"{what} {text}: write it as KEY=VALUES, for example {what} losses.iccl.weight=0,0.1,0.3")
    return label, values


def _literals(text: str) -> tuple[Any, ...]:
    """Values between commas: Python's literals, a list as a tuple, and words as they are."""
    try:
        return tuple(tuple(v) if isinstance(v, list) else v for v in ast.literal_eval(f"[{text}]"))
    except (SyntaxError, ValueError):
        return tuple(_literal(word.strip()) for word in text.split(","))


def _literal(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (SyntaxError, ValueError):
        return word


def grid_axis(text: str) -> Axis:
    """`KEY=V,V,…` as an axis.

    Raises:
      UserError: it is written otherwise, or has a value twice.
    """
    label, words = _split(text, "--grid")
    values = _literals(words)
    if len(set(map(repr, values))) < len(values):
        raise UserError(f"--grid {text}: a value is there twice.")
    return Axis(label, values)


def random_axis(text: str) -> Axis:
    """`KEY=log:LOW:HIGH`, `uniform:`, `int:` or `V,V,…` as an axis.

    Raises:
      UserError: it is written otherwise, or its range is empty.
    """
    label, words = _split(text, "--random")
    draw, *ends = words.split(":")
    if not ends:
        return Axis(label, _literals(words), "choice")
    kind: Any = int if draw == "int" else float
    try:
        low, high = map(kind, ends)
    except ValueError:
        low, high = 1, 0
    known = draw in ("log", "uniform", "int") and math.isfinite(high - low)
    if not known or not low < high or (draw == "log" and low <= 0):
        raise UserError(
            f"--random {text}: write log:LOW:HIGH (0 < LOW < HIGH), uniform:LOW:HIGH, int:LOW:HIGH (whole numbers), "
            "or values to choose from, V,V,…"
        )
    return Axis(label, (low, high), draw)


def settings(axes: Sequence[Axis], trials: int, seed: int) -> list[tuple[Any, ...]]:
    """One value for each axis: every point of the grid, in each trial of the random axes.

    Raises:
      UserError: there is nothing to try, an option is on two axes, or settings could not be compared.
    """
    if not axes:
        raise UserError(f"Which options? --sweep={'|'.join(SWEEPS)}, --grid KEY=V,V,… or --random KEY=log:LOW:HIGH")
    keys = [key for axis in axes for key in axis.keys]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise UserError(f"{', '.join(twice)}: swept twice. Name each option once.")
    if groups := [axis.label for axis in axes if any(isinstance(value, dict | set) for value in axis.values)]:
        raise UserError(f"{groups[0]} takes no value in braces. Sweep its options one by one: KEY.OPTION=V,V.")
    if fixed := [key for key in keys if key in FIXED or key.startswith(GENERATED)]:
        raise UserError(f"{fixed[0]} changes what is measured, so its values have no scores to compare. Leave it out.")
    found = []
    for trial in range(trials if any(axis.draw for axis in axes) else 1):
        drawn = [(axis.at(trial, seed),) if axis.draw else axis.values for axis in axes]
        found += list(itertools.product(*drawn))
    return list(dict.fromkeys(found))


def changes(axes: Sequence[Axis], setting: Sequence[Any]) -> dict[str, Any]:
    """Dotted key -> value of one setting."""
    return {key: value for axis, value in zip(axes, setting, strict=True) for key in axis.keys}


def folder_name(axes: Sequence[Axis], setting: Sequence[Any]) -> str:
    """The folder of one setting's run."""
    from experiments import study

    return study.folder_name(",".join(f"{axis.label}={value}" for axis, value in zip(axes, setting, strict=True)))


# --- Results ----------------------------------------------------------------------------------------------------------


def rows(
    axes: Sequence[Axis], contents: Mapping[tuple[Any, ...], Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], tuple[Any, ...]]:
    """Validation scores of every setting, and the setting whose mean over the seeds is the highest, the first of
    equals."""
    from ariigcn_jax.analysis import statistics
    from ariigcn_jax.runs import results
    from experiments import study

    first = next(iter(contents.values()))
    select, sign = first["select"], results.task_of(first).better(first["select"])
    means = {setting: sign * content["valid"][select]["mean"] for setting, content in contents.items()}
    selected = max(means, key=lambda setting: means[setting])
    per_seed = {str(s): content["valid"][select]["per_seed"] for s, content in contents.items()}
    behind = statistics.compare(per_seed[str(selected)], {k: v for k, v in per_seed.items() if k != str(selected)})
    found = []
    for setting, content in contents.items():
        row: dict[str, Any] = {"values": {a.label: v for a, v in zip(axes, setting, strict=True)}}
        row |= {"selected": setting == selected, "epochs": content["selected_epochs"]}
        row["valid"] = {score: content["valid"][score] for score in (*study.scores(content), "class_f1")}
        if str(setting) in behind:
            row["behind"] = behind[str(setting)].to_dict()
        found.append(row)
    return found, selected


def table(
    found: Sequence[Mapping[str, Any]], select: str, label_names: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Header and cells for people: scores in percent, differences in points; a metric that is no share as it is."""
    from ariigcn_jax.objective import tasks
    from ariigcn_jax.runs import results
    from experiments import study

    others = [score for score in found[0]["valid"] if score not in (select, "class_f1")]
    titles = [tasks.all_metrics()[score].title for score in (select, *others)]
    header = [
        *found[0]["values"],
        titles[0],
        "Δ",
        "95 % interval",
        *titles[1:],
        *(f"F1 {name}" for name in label_names),
    ]
    cells = []
    for row in found:
        valid = row["valid"]
        cells.append(
            [
                *map(str, row["values"].values()),
                results.number(valid[select], select),
                *(
                    ["selected", ""]
                    if row["selected"]
                    else tasks.difference(select, *(row["behind"][key] for key in ("mean", "low", "high")))
                ),
                *(results.number(valid[score], score) for score in others),
                *(study.percent(valid["class_f1"], index) for index in range(len(label_names))),
            ]
        )
    return header, cells


def picture(
    axes: Sequence[Axis], contents: Mapping[tuple[Any, ...], Mapping[str, Any]], selected: tuple[Any, ...]
) -> bytes:
    """Curves of the score and of each class's F1 over one option; of several options a panel each."""
    from ariigcn_jax.objective import tasks
    from ariigcn_jax.runs import figures, results

    first = next(iter(contents.values()))
    select, names = first["select"], first["label_names"]
    share = (
        tasks.all_metrics()[select].scale / 100
    )  # the pictures are in percent, and a metric that is no share is shown as is
    title = f"{first['experiment']}: validation, {len(first['seeds'])} seed(s), {results.unit(results.task_of(first))}"
    if len(axes) > 1:
        order = list(contents)
        options = [_option(axis, [setting[k] for setting in order]) for k, axis in enumerate(axes)]
        dots = np.array([contents[setting]["valid"][select]["per_seed"] for setting in order])
        return figures.setting_dots(options, share * dots, f"{title}: {select}", order.index(selected))
    order = sorted(contents, key=lambda setting: setting[0]) if axes[0].draw not in ("", "choice") else list(contents)
    option = _option(axes[0], [setting[0] for setting in order])
    valid = [contents[setting]["valid"] for setting in order]
    scores = {tasks.all_metrics()[select].title: share * np.array([v[select]["per_seed"] for v in valid])}
    by_class = np.array([v["class_f1"]["per_seed"] for v in valid])
    scores |= {f"F1 {name}": by_class[:, :, index] for index, name in enumerate(names)}
    places, ticks, log = option["places"], option["ticks"], option["log"]
    return figures.value_curves(
        places, scores, axes[0].label, title, ticks=ticks, log=log, selected=order.index(selected)
    )


def _option(axis: Axis, values: Sequence[Any]) -> dict[str, Any]:
    """How an axis is drawn: drawn numbers to scale, and a grid's values evenly spaced, as words."""
    if axis.draw in ("log", "uniform", "int"):
        return {"label": axis.label, "places": list(values), "ticks": None, "log": axis.draw == "log"}
    known = list(dict.fromkeys(axis.values))
    whole = all(key.endswith((".past", ".future")) for key in axis.keys)
    ticks = ["all" if whole and value == -1 else str(value) for value in known]
    return {"label": axis.label, "places": [known.index(v) for v in values], "ticks": ticks, "log": False}


def write(
    axes: Sequence[Axis], contents: Mapping[tuple[Any, ...], Mapping[str, Any]], directory: Any
) -> tuple[str, tuple[Any, ...]]:
    """Writes tables and picture into an open work directory; returns the table as Markdown, and what was selected."""
    from ariigcn_jax.objective import tasks
    from ariigcn_jax.runs import results, tables
    from experiments import study

    first = next(iter(contents.values()))
    compared = study.scores(first)
    select, names, seeds = first["select"], first["label_names"], first["seeds"]
    found, selected = rows(axes, contents)
    header, cells = table(found, select, names)
    words = (
        f"{first['experiment']}: validation split, {results.which_epoch(first)}; mean ± std of {len(seeds)} seed(s), "
        f"{results.unit(results.task_of(first))}. Δ: behind the selected setting, seed by seed, in "
        f"{tasks.difference_unit(select)}; interval: studentised bootstrap over seeds. "
        "The selected score is the best of many on this split and so flatters; the test split has not been read."
    )
    text = f"{tables.markdown(header, cells)}\n\n{words}\n"
    directory.write_text("sweep.md", text)
    directory.write_text("sweep.tex", tables.latex(header, cells, words))
    titles = [*compared, *(f"f1 of {name}" for name in names)]
    lines = []
    for row in found:
        blocks = [(s, np.asarray(row["valid"][s]["per_seed"])) for s in compared]
        by_class = np.asarray(row["valid"]["class_f1"]["per_seed"])
        blocks += [(title, by_class[:, k]) for k, title in enumerate(titles[len(compared) :])]
        lines += [
            [*row["values"].values(), row["selected"], title, seed, value]
            for title, values in blocks
            for seed, value in zip(seeds, values, strict=True)
        ]
    columns = [*(axis.label for axis in axes), "selected", "score", "seed", "value"]
    directory.write_text("sweep.csv", tables.comma_separated(columns, lines))
    directory.write_json("sweep.json", {"split": "valid", "select": select, "seeds": seeds, "rows": found})
    directory.write_bytes("sweep.png", picture(axes, contents, selected))
    return text, selected


# --- The command ------------------------------------------------------------------------------------------------------


def axes_of(sweeps: Sequence[str], grids: Sequence[str], random: Sequence[str]) -> tuple[list[Axis], dict[str, Any]]:
    """The axes that the flags name, and the options that the ready-made sweeps need.

    Raises:
      UserError: an unknown sweep, two that do not go together, or an axis that is written otherwise.
    """
    fixed: dict[str, Any] = {}
    for name in sweeps:
        if name not in SWEEPS:
            raise UserError(f"There is no sweep {name!r}.{ablations.nearest(name, SWEEPS)} Known: {', '.join(SWEEPS)}.")
        for key, value in SWEEPS[name].fixed.items():
            if fixed.setdefault(key, value) != value:
                raise UserError(f"{' and '.join(sweeps)} do not go together: {key} would be {fixed[key]} and {value}.")
    named = [grid_axis(SWEEPS[name].grid) for name in sweeps]
    return named + [grid_axis(text) for text in grids] + [random_axis(text) for text in random], fixed


def final_command(file: str, config: Any, keys: Sequence[str], selected: Mapping[str, Any]) -> str:
    """The command that trains with the selected setting and reads the test split."""
    from ariigcn_jax.files import flatten

    values = flatten(config.to_dict())
    given = {key: values[key] for key in (*keys, "num_seeds") if not key.startswith("eval.test")} | dict(selected)
    parts = [f"--config={file}", *(f"--config.{key}={value}" for key, value in given.items())]
    return " ".join(["python -m experiments.run", *map(shlex.quote, parts)])


def command(overrides: Sequence[str]) -> None:
    """Runs what the flags say."""
    config = flag("config")
    axes, fixed = axes_of(flag("sweep"), flag("grid"), flag("random"))
    if flag("seeds") or "num_seeds" not in overrides:
        config.num_seeds = flag("seeds") or 3
    ablations.override(config, fixed | {"eval.test": False, "eval.report_best_test": False})
    tried = settings(axes, flag("trials"), config.seed)
    corpus = load_corpus(config, overrides)
    from ariigcn_jax.objective import terms as objective
    from ariigcn_jax.runs import workdir as workdirs
    from experiments import study

    objective.check_overrides(config.losses.to_dict(), overrides)
    configs = {}
    for setting in tried:
        changed = config.copy_and_resolve_references()
        ablations.override(changed, changes(axes, setting))
        study.check(changed, corpus, changes(axes, setting))
        configs[folder_name(axes, setting)] = changed
    name = f"{config.experiment}-sweep"
    with workdirs.open(flag("workdir"), name, config.to_dict(), may_differ=MAY_DIFFER) as directory:
        print(f"{directory.path}: {len(configs)} settings, {config.num_seeds} seed(s) each", flush=True)
        done, failures = study.run_all(configs, directory.path)
        contents = {s: done[n] for s in tried if (n := folder_name(axes, s)) in done}
        if contents:
            text, selected = write(axes, contents, directory)
            print(f"\n{text}\n{directory.path}: sweep.md, .csv, .tex, .json, .png")
            file = config_flags.get_config_filename(flags.FLAGS["config"])
            best = fixed | changes(axes, selected)
            print(f"\nTo read the test split with what was selected:\n{final_command(file, config, overrides, best)}")
        study.complain(failures, directory.path)


__doc__ = __doc__.format(ready="\n".join(f"    {name:<18} {sweep.words}" for name, sweep in SWEEPS.items()))

if __name__ == "__main__":
    define_config()
    flags.DEFINE_list("sweep", [], "ready-made sweeps, as listed above")
    flags.DEFINE_multi_string("grid", [], "KEY=V,V,…; may be given several times")
    flags.DEFINE_multi_string("random", [], "KEY=log:LOW:HIGH, uniform:LOW:HIGH, int:LOW:HIGH or V,V,…; several times")
    flags.DEFINE_integer("trials", 20, "draws of the --random options", lower_bound=1)
    flags.DEFINE_integer(
        "seeds", None, "seeds of each setting, config.seed and those after it; 3 by default", lower_bound=1
    )
    flags.DEFINE_string("workdir", None, "folder of all runs, made or resumed; by default a new one under runs/")
    sys.exit(main(command, __doc__, sys.argv))

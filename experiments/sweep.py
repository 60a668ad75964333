"""Try values of options and choose by the validation split; the test split is not read:

    python -m experiments.sweep --config=experiments/iemocap.py:single --sweep=margin
    python -m experiments.sweep --config=experiments/mosi.py --grid losses.iccl.weight=0,0.1 --grid model.hidden=64,128
    python -m experiments.sweep --config=experiments/meld.py --random optimizer.lr=log:3e-4:1e-2 --trials 20

KEY+KEY=… gives several options the same value. --grid takes values; --random takes log:LOW:HIGH, uniform:LOW:HIGH,
int:LOW:HIGH or values to choose from; together they are tried in every combination. --sweep names a ready-made grid:

{ready}

Each setting is a work directory below --workdir. The same command resumes where it stopped; more values or trials add
to it. The results are sweep.md, .csv, .tex, .json, sweep.png (the score and the F1 of each class, or a panel for each
of several options), and the command that trains with the selected setting and reads the test split.
"""

import ast
import itertools
import math
import shlex
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import config_flags

from ariigcn_jax.analysis import statistics
from ariigcn_jax.commands.command import flag, main
from ariigcn_jax.files import flatten
from ariigcn_jax.objective import tasks, terms
from ariigcn_jax.options import ablations
from ariigcn_jax.runs import figures, results
from ariigcn_jax.runs.session import load
from ariigcn_jax.types import UserError
from experiments import study

Settings = Mapping[tuple[Any, ...], Mapping[str, Any]]  # one value for each axis -> content of the run's results.json
# --sweep=NAME -> a grid; FORMS has the ablation that it needs, a form of ICCL and IMCL
SWEEPS = {
    "margin": "losses.iccl.margin+losses.imcl.margin=0.1,0.2,0.3,0.5,0.7,1.0,1.5",
    "similarity_margin": "losses.iccl.similarity_margin+losses.imcl.similarity_margin=-1.0,-0.5,-0.25,0.0,0.25,0.5",
    "temperature": "losses.iccl.temperature+losses.imcl.temperature=0.05,0.1,0.2,0.5,1.0",
    "lambda_tgan": "losses.adversarial.weight=0.0,0.01,0.03,0.1,0.3,1.0",
    "lambda_iccl": "losses.iccl.weight=0.0,0.03,0.1,0.3,1.0",
    "lambda_imcl": "losses.imcl.weight=0.0,0.03,0.1,0.3,1.0",
    "lambda_contrast": "losses.iccl.weight+losses.imcl.weight=0.0,0.03,0.1,0.3,1.0",
    "window": "model.graph.past+model.graph.future=0,1,2,5,10,20,-1",
}
FORMS = {"margin": "contrast_margin"} | dict.fromkeys(("similarity_margin", "temperature"), "contrast_supervised_nce")

# Options whose values have other seeds, or scores of another split, classes, dialogues or noise.
FIXED = {*ablations.MEASURED, "data.valid_fraction", "data.cross_validation", "seed", "num_seeds", "eval.test"}
FIXED |= {"eval.report_best_test"}
GENERATED = "data.generate"  # and its options: they make other conversations


# --- Options and their values -----------------------------------------------------------------------------------------


class Axis(NamedTuple):
    """One option, or several with the same value, and where the values come from."""

    label: str  # the keys, joined by `+`
    values: tuple[Any, ...]  # of a grid, or to choose from; or LOW and HIGH
    draw: str = ""  # "choice" among the values, or "log", "uniform" or "int" between LOW and HIGH; "" for a grid

    def at(self, trial: int, seed: int) -> Any:
        """Return a trial's value, of its number, the seed and the label alone: more trials or options change none."""
        random = np.random.default_rng([seed, trial, zlib.crc32(self.label.encode())])
        if self.draw == "choice":
            return self.values[random.integers(len(self.values))]
        low, high = self.values
        if self.draw == "int":
            return int(random.integers(low, high, endpoint=True))
        log = self.draw == "log"
        value = math.exp(random.uniform(math.log(low), math.log(high))) if log else random.uniform(low, high)
        return min(max(float(f"{value:.3g}"), low), high)  # few digits, as it names a folder


def _split(text: str, what: str) -> tuple[str, str]:
    label, _, values = (part.strip() for part in text.partition("="))
    if not label or not values:
        raise UserError(f"{what} {text}: write it as KEY=VALUES, for example {what} losses.iccl.weight=0,0.1,0.3")
    return label, values


def _literals(text: str) -> tuple[Any, ...]:
    """Read values between commas: Python's literals, a list as a tuple, and words as they are."""
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
    """Read `KEY=V,V,…`; raise UserError where it is written otherwise or has a value twice."""
    label, words = _split(text, "--grid")
    values = _literals(words)
    if len(set(map(repr, values))) < len(values):
        raise UserError(f"--grid {text}: a value is there twice.")
    return Axis(label, values)


def random_axis(text: str) -> Axis:
    """Read `KEY=log:LOW:HIGH`, `uniform:`, `int:` or `V,V,…`; raise UserError for another form or an empty range."""
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
    """Return every point of the grid, in each trial of the random axes; raise UserError where scores do not compare."""
    if not axes:
        ready = "|".join(SWEEPS)
        raise UserError(f"No option is named: --sweep={ready}, --grid KEY=V,V,… or --random KEY=log:LOW:HIGH")
    keys = [key for axis in axes for key in axis.label.split("+")]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"{', '.join(repeated)}: swept twice. Name each option once.")
    if groups := [axis.label for axis in axes if any(isinstance(value, dict | set) for value in axis.values)]:
        raise UserError(f"{groups[0]} takes no value in braces. Sweep its options one by one: KEY.OPTION=V,V.")
    if fixed := [key for key in keys if key in FIXED or key.startswith(GENERATED)]:
        raise UserError(f"{fixed[0]} changes what is measured, so its values have no scores to compare. Leave it out.")
    found: list[tuple[Any, ...]] = []
    for trial in range(trials if any(axis.draw for axis in axes) else 1):
        found += itertools.product(*([axis.at(trial, seed)] if axis.draw else axis.values for axis in axes))
    return list(dict.fromkeys(found))


def changes(axes: Sequence[Axis], setting: Sequence[Any]) -> dict[str, Any]:
    """Return the dotted key -> value of one setting."""
    return {key: value for axis, value in zip(axes, setting, strict=True) for key in axis.label.split("+")}


def run_name(axes: Sequence[Axis], setting: Sequence[Any]) -> str:
    """Return the name of one setting's run."""
    return ",".join(f"{axis.label}={value}" for axis, value in zip(axes, setting, strict=True))


# --- Results ----------------------------------------------------------------------------------------------------------


def rows(axes: Sequence[Axis], contents: Settings) -> tuple[list[dict[str, Any]], tuple[Any, ...]]:
    """Return validation scores of every setting, and the selected one.

    Selected is the setting whose mean over the seeds is the best, the first of equals. A row has values, selected,
    epochs, valid (score -> mean, std, per_seed) and, but for the selected setting, behind (the difference from it).
    """
    first = next(iter(contents.values()))
    select, sign = first["select"], results.task_of(first).better(first["select"])
    selected = max(contents, key=lambda setting: sign * contents[setting]["valid"][select]["mean"])
    per_seed = {str(setting): content["valid"][select]["per_seed"] for setting, content in contents.items()}
    behind = statistics.compare(per_seed.pop(str(selected)), per_seed)
    found = []
    for setting, content in contents.items():
        row: dict[str, Any] = {"values": {a.label: v for a, v in zip(axes, setting, strict=True)}}
        row |= {"selected": setting == selected, "epochs": content["selected_epochs"]}
        row["valid"] = {score: content["valid"][score] for score in (*study.scores(content), "class_f1")}
        if str(setting) in behind:
            row["behind"] = behind[str(setting)].to_dict()
        found.append(row)
    return found, selected


def table(contents: Settings, found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the header and the rows for people: scores in percent, or in the unit of a metric that is no share."""
    first = next(iter(contents.values()))
    titles = study.titles(first) | {f"f1 of {name}": f"F1 {name}" for name in first["label_names"]}
    select, *others = titles
    lines = [[*found[0]["values"], titles[select], "Δ", "95 % interval", *(titles[score] for score in others)]]
    for row, content in zip(found, contents.values(), strict=True):
        behind = ["selected", ""]
        if not row["selected"]:
            behind = tasks.difference(select, *(row["behind"][key] for key in ("mean", "low", "high")))
        valid = study.summarise(study.per_seed(content, "valid"))
        score, *scores = (results.number(valid[name], name) for name in titles)
        lines.append([*map(str, row["values"].values()), score, *behind, *scores])
    return lines


def picture(axes: Sequence[Axis], contents: Settings, selected: tuple[Any, ...]) -> bytes:
    """Draw curves of the score and of each class's F1 over one option; of several options a panel each."""
    first = next(iter(contents.values()))
    select, task = first["select"], results.task_of(first)
    title = f"{first['experiment']}: validation, {len(first['seeds'])} seed(s), {results.unit(task)}"
    drawn = len(axes) == 1 and axes[0].draw not in ("", "choice")
    order = sorted(contents) if drawn else list(contents)
    options = [_option(axis, values) for axis, values in zip(axes, zip(*order, strict=True), strict=True)]
    valid = [study.per_seed(contents[setting], "valid") for setting in order]
    # figures multiplies by 100; a metric that is no share is drawn as it is
    score = task.metrics[select].scale / 100 * np.array([v[select] for v in valid])
    index = order.index(selected)
    if len(axes) > 1:
        return figures.setting_dots(options, score, f"{title}: {select}", index)
    panels = {study.titles(first)[select]: score}
    panels |= {f"F1 {name}": np.array([v[f"f1 of {name}"] for v in valid]) for name in first["label_names"]}
    option = options[0]
    return figures.value_curves(option.pop("places"), panels, title=title, selected=index, **option)


def _option(axis: Axis, values: Sequence[Any]) -> dict[str, Any]:
    """Return how an axis is drawn: random numbers to scale, and a grid's values evenly spaced, as words."""
    if axis.draw in ("log", "uniform", "int"):
        return {"label": axis.label, "places": list(values), "ticks": None, "log": axis.draw == "log"}
    known = list(dict.fromkeys(axis.values))
    window = all(key.endswith((".past", ".future")) for key in axis.label.split("+"))
    ticks = ["all" if window and value == -1 else str(value) for value in known]
    return {"label": axis.label, "places": [known.index(v) for v in values], "ticks": ticks, "log": False}


def write(axes: Sequence[Axis], contents: Settings, directory: Any) -> tuple[str, tuple[Any, ...]]:
    """Write tables and picture into an open work directory; return what to print, and the selected setting."""
    first = next(iter(contents.values()))
    select, seeds = first["select"], first["seeds"]
    found, selected = rows(axes, contents)
    caption = (
        f"{first['experiment']}: validation split, {results.which_epoch(first)}; mean ± std of {len(seeds)} seed(s), "
        f"{results.unit(results.task_of(first))}. Δ: behind the selected setting, seed by seed, in "
        f"{tasks.difference_unit(select)}; interval: studentised bootstrap over seeds. "
        "The selected score is the best of many on this split and so flatters; the test split has not been read."
    )
    csv: list[list[object]] = [[*(axis.label for axis in axes), "selected", "score", "seed", "value"]]
    for row, content in zip(found, contents.values(), strict=True):
        for score, values in study.per_seed(content, "valid").items():
            for seed, value in zip(seeds, values, strict=True):
                csv.append([*row["values"].values(), row["selected"], score, seed, float(value)])
    cells, drawn = table(contents, found), picture(axes, contents, selected)
    content = {"split": "valid", "select": select, "seeds": seeds, "rows": found}
    return study.write_tables(directory, "sweep", cells, caption, csv, content, drawn), selected


# --- The command ------------------------------------------------------------------------------------------------------


def axes_of(sweeps: Sequence[str], grids: Sequence[str], random: Sequence[str]) -> tuple[list[Axis], dict[str, Any]]:
    """Return the axes that the flags name, and the options of the ready-made sweeps; raise UserError for wrong ones."""
    fixed: dict[str, Any] = {}
    for name in sweeps:
        if name not in SWEEPS:
            raise UserError(f"There is no sweep {name!r}.{ablations.nearest(name, SWEEPS)} Known: {', '.join(SWEEPS)}.")
        for key, value in ablations.options(FORMS.get(name, "")).items():
            if fixed.setdefault(key, value) != value:
                raise UserError(f"{' and '.join(sweeps)} do not go together: {key} would be {fixed[key]} and {value}.")
    grid = [grid_axis(text) for text in (*(SWEEPS[name] for name in sweeps), *grids)]
    return grid + [random_axis(text) for text in random], fixed


def final_command(file: str, config: Any, keys: Sequence[str], selected: dict[str, Any]) -> str:
    """Return the command that trains with the selected setting and reads the test split."""
    values = flatten(config.to_dict())
    given = {key: values[key] for key in (*keys, "num_seeds") if not key.startswith("eval.test")} | selected
    parts = [f"--config={file}", *(f"--config.{key}={value}" for key, value in given.items())]
    return " ".join(["python -m experiments.run", *map(shlex.quote, parts)])


def command(overrides: Sequence[str]) -> None:
    """Run what the flags say."""
    axes, fixed = axes_of(flag("sweep"), flag("grid"), flag("random"))
    config = study.config_of_flags(3, overrides)
    ablations.override(config, fixed | {"eval.test": False, "eval.report_best_test": False})
    names = {run_name(axes, setting): setting for setting in settings(axes, flag("trials"), config.seed)}
    corpus = load(config, overrides)
    terms.check_overrides(config.losses.to_dict(), overrides)
    configs = {}
    for name, setting in names.items():
        configs[name] = config.copy_and_resolve_references()
        ablations.override(configs[name], changes(axes, setting))
        study.check(configs[name], corpus, changes(axes, setting))

    def finish(contents: study.Contents, directory: Any) -> str:
        text, selected = write(axes, {names[name]: content for name, content in contents.items()}, directory)
        file = config_flags.get_config_filename(flags.FLAGS["config"])
        line = final_command(file, config, overrides, fixed | changes(axes, selected))
        return f"{text}\n\nTo read the test split with the selected setting:\n{line}"

    study.carry_out("sweep", config, configs, finish)


__doc__ = __doc__.format(ready="\n".join(f"    {name:<18} {grid}" for name, grid in SWEEPS.items()))

if __name__ == "__main__":
    study.define_flags(seeds=3)
    flags.DEFINE_list("sweep", [], "ready-made sweeps, as listed above")
    flags.DEFINE_multi_string("grid", [], "KEY=V,V,…; may be given several times")
    flags.DEFINE_multi_string("random", [], "KEY=log:LOW:HIGH, uniform:LOW:HIGH, int:LOW:HIGH or V,V,…; several times")
    flags.DEFINE_integer("trials", 20, "draws of the --random options", lower_bound=1)
    sys.exit(main(command, __doc__, sys.argv))

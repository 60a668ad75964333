"""Trains the full model and ablations of it with the same seeds, and says what each one costs:

    python -m experiments.ablate --config=experiments/iemocap.py:single --ablations=no_tgan,no_iccl,no_imcl --seeds=10

Names of ablations and of groups of them are in experiments/ablations.py; `+` joins two into one. --config.KEY=VALUE
changes the full model, and with it every ablation.

Each run is a work directory below --workdir. The same command resumes where it stopped; a longer list of ablations adds
the new ones. The seeds of one ablation share one compilation, and all processes the compilation cache.

What comes out: ablations.md, .csv, .tex, .json and .png, with the difference from the full model seed by seed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from ariigcn_jax.data import normalisation
from ariigcn_jax.types import Corpus, UserError
from experiments import ablations
from experiments.command import define_config, flag, main
from experiments.run import MAY_DIFFER, load_corpus

FULL = "full"


def variants(config: Any, names: Sequence[str], corpus: Corpus) -> dict[str, Any]:
    """The full model and every ablation as configs.

    Args:
      config: of the full model.
      names: ablations and groups.
      corpus: of the full model.

    Returns:
      name -> config, the full model first. Members of a group that change nothing here are left out.

    Raises:
      UserError: an ablation is unknown, cannot be built, or changes nothing.
    """
    from ariigcn_jax.objective import terms as objective
    from experiments import study

    if twice := [name for name in names if list(names).count(name) > 1]:
        raise UserError(f"--ablations names {twice[0]} twice. Leave one of them out.")
    configs = {FULL: config}
    for name in ablations.expand(names, corpus.modalities):
        changed = config.copy_and_resolve_references()
        ablations.override(changed, ablations.options(name))
        if name in names:
            own = "+".join(part for part in name.split("+") if part not in ablations.WHOLE)
            objective.check_overrides(changed.losses.to_dict(), ablations.options(own))
        if _effective(changed, corpus) == _effective(config, corpus):
            if name in names:
                raise UserError(f"The ablation {name} changes nothing: the full model is as it says. Leave it out.")
            continue
        if set(ablations.MEASURED) & set(ablations.options(name)):
            raise UserError(
                f"{name} changes what is measured, so it has no difference from the full model. Put it behind the "
                f"configuration's file, as in --config=experiments/iemocap.py:{name}"
            )
        ablations.apply(changed, name)
        study.check(changed, corpus, ())
        configs[name] = changed
    if len(configs) == 1:
        raise UserError("Which ablations? For example --ablations=no_tgan,no_iccl,no_imcl or --ablations=components")
    study.check(config, corpus, ())
    return configs


def _effective(config: Any, corpus: Any) -> dict[str, Any]:
    """The options that count on a corpus: no hyper-parameter of a loss that is not taken, and none about ratings,
    other modalities, or copies and ranks of modalities that the corpus does not have."""
    from ariigcn_jax.objective import terms as objective

    options: dict[str, Any] = config.to_dict()
    for slot, loss in options["losses"].items():
        if loss["fn"] in objective.TERMS[slot].forms:  # another is refused where the model is built
            taken = {"fn", "weight", *objective.hyper_parameters(slot, loss["fn"])}
            options["losses"][slot] = {key: value for key, value in loss.items() if key in taken}
    if corpus.ratings is None:
        rated = [slot for slot in options["losses"] if objective.TERMS[slot].truth == "ratings"]
        options["losses"] = {slot: loss for slot, loss in options["losses"].items() if slot not in rated}
        options["data"] = options["data"] | {"ratings": ()}
    if len(corpus.modalities) == 1:  # there is no other to translate, to contrast with, to be silenced by, or to miss
        dropout = ("modality_dropout", "dialogue_dropout")
        across = [slot for slot in options["losses"] if objective.TERMS[slot].across]
        options["losses"] = {slot: loss for slot, loss in options["losses"].items() if slot not in across}
        options["model"] = {name: x for name, x in options["model"].items() if name not in ("gan", *dropout)}
        options.pop("discriminator")
    for option in normalisation.OPTIONS:
        fitting = [b for b in options["data"][option] if any(m.startswith(b) for m in corpus.modalities)]
        options["data"] = options["data"] | {option: fitting}
    return options


def rows(contents: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every score of every run, and its difference from the full model's.

    Args:
      contents: name -> content of results.json; the full model is there, and all have the same seeds.

    Returns:
      For each split, score and run a dictionary: ablation, split, score, mean, std, per_seed, and but for the full
      model difference, low, high, p, corrected (over the ablations, for this score); on validation only of those that
      are validated as the full model is (`data.cross_validation`).
    """
    from ariigcn_jax.analysis import statistics
    from experiments import study

    found = []
    full = contents[FULL]
    scores = [(name, None) for name in study.scores(full)] + [("class_f1", k) for k in range(len(full["label_names"]))]
    for split in ("test", "valid"):
        for score, index in scores:
            title = score if index is None else f"f1 of {full['label_names'][index]}"
            summaries = {name: _element(content[split][score], index) for name, content in contents.items()}
            alike = [
                n for n in contents if n != FULL and (split == "test" or _validated(contents[n]) == _validated(full))
            ]
            others = {name: summaries[name]["per_seed"] for name in alike}
            differences = statistics.compare(summaries[FULL]["per_seed"], others)
            for name, summary in summaries.items():
                row = {"ablation": name, "split": split, "score": title, **summary}
                if name in differences:
                    difference = differences[name].to_dict()
                    row |= {"difference": difference.pop("mean"), **difference, "per_seed": summary["per_seed"]}
                found.append(row)
    return found


def _validated(content: Mapping[str, Any]) -> int:
    """What validation scores are of: single members, each on the part that it left out of so many; 0 for the run's
    answers to one validation split."""
    return content["members"] if content.get("cross_validation") else 0


def _element(summary: Mapping[str, Any], index: int | None) -> dict[str, Any]:
    if index is None:
        return {key: summary[key] for key in ("mean", "std", "per_seed")}
    return {
        "mean": summary["mean"][index],
        "std": summary["std"][index],
        "per_seed": [seed[index] for seed in summary["per_seed"]],
    }


def table(
    contents: Mapping[str, Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[list[str]]]:
    """Header and cells for people: scores in percent, differences in points; a metric that is no share as it is."""
    from ariigcn_jax.runs import results
    from experiments import study

    select = contents[FULL]["select"]
    titles = {name: metric.title for name, metric in results.task_of(contents[FULL]).metrics.items()}
    others = [score for score in study.scores(contents[FULL]) if score != select]
    header = ["ablation", titles[select], "Δ", "95 % interval", "p", "p (Holm)"]
    header += [*(titles[score] for score in others), f"valid {titles[select]}"]
    main_rows = {row["ablation"]: row for row in found if row["split"] == "test" and row["score"] == select}
    cells = [
        [
            name,
            results.number(content["test"][select], select),
            *_compared(main_rows[name], select),
            *(results.number(content["test"][score], score) for score in others),
            results.number(content["valid"][select], select),
        ]
        for name, content in contents.items()
    ]
    return header, cells


def _compared(row: Mapping[str, Any], select: str) -> list[str]:
    from ariigcn_jax.objective import tasks
    from experiments import study

    if "difference" not in row:
        return ["", "", "", ""]
    tests = [study.p_value(row["p"]), study.p_value(row["corrected"])]
    return [*tasks.difference(select, row["difference"], row["low"], row["high"]), *tests]


def caption(contents: Mapping[str, Mapping[str, Any]]) -> str:
    """What the table's numbers are."""
    from ariigcn_jax.objective import tasks
    from ariigcn_jax.runs import results

    count, tests = len(contents[FULL]["seeds"]), len(contents) - 1
    unit = results.unit(results.task_of(contents[FULL]))
    validated = {_validated(content) for content in contents.values()}
    unlike = " Validation scores differ in what they are of (data.cross_validation)." if len(validated) > 1 else ""
    unpaired = (
        " Seeds of runs with other numbers of models begin otherwise: they are paired in name only."
        if len({content.get("members", 1) for content in contents.values()}) > 1
        else ""
    )
    points = tasks.difference_unit(contents[FULL]["select"])
    return (
        f"{contents[FULL]['experiment']}: test split, {results.which_epoch(contents[FULL])}; mean ± std of {count} "
        f"seed(s), {unit}. Δ: ablation − full model, seed by seed, in {points}; interval: studentised bootstrap over "
        "seeds. "
        f"p: paired t-test, and after Holm's correction for {tests} ablation(s). Seeds vary, the corpus and its splits "
        f"do not.{unlike}{unpaired}"
    )


def write(contents: Mapping[str, Mapping[str, Any]], directory: Any) -> str:
    """Writes the tables and the picture into an open work directory; returns the table as Markdown."""
    from ariigcn_jax.objective import tasks
    from ariigcn_jax.runs import figures, tables

    found = rows(contents)
    header, cells = table(contents, found)
    words, select = caption(contents), contents[FULL]["select"]
    text = f"{tables.markdown(header, cells)}\n\n{words}\n"
    directory.write_text("ablations.md", text)
    directory.write_text("ablations.tex", tables.latex(header, cells, words))
    columns = ["ablation", "split", "score", "mean", "std", "difference", "low", "high", "p", "corrected"]
    seeds = contents[FULL]["seeds"]
    directory.write_text(
        "ablations.csv",
        tables.comma_separated(
            [*columns, *(f"seed_{seed}" for seed in seeds)],
            [[*(row.get(column, "") for column in columns), *row["per_seed"]] for row in found],
        ),
    )
    directory.write_json("ablations.json", {"seeds": seeds, "select": select, "rows": found})
    drawn = {
        row["ablation"]: row
        for row in found
        if row["split"] == "test" and row["score"] == select and row["ablation"] != FULL
    }
    if drawn:
        full = contents[FULL]["test"][select]["per_seed"]
        title = f"{contents[FULL]['experiment']}: test {select}, difference from the full model"
        directory.write_bytes(
            "ablations.png", figures.differences(drawn, full, title, scale=tasks.all_metrics()[select].scale)
        )
    return text


def command(overrides: Sequence[str]) -> None:
    """Runs what the flags say."""
    config = flag("config")
    if flag("seeds") or "num_seeds" not in overrides:
        config.num_seeds = flag("seeds") or 10
    corpus = load_corpus(config, overrides)
    from ariigcn_jax.objective import terms as objective
    from ariigcn_jax.runs import workdir as workdirs
    from experiments import study

    objective.check_overrides(config.losses.to_dict(), overrides)
    if not config.eval.test:
        raise UserError("The table is of the test split: leave eval.test=True. experiments.sweep looks at validation.")
    if not corpus.labelled("test").any():
        raise UserError(
            f"The table is of the test split, and the corpus {corpus.name!r} has no labelled utterance in it. "
            "--config.data.split=fold1of5 holds a fifth of the dialogues out; experiments.sweep looks at validation."
        )
    configs = variants(config, flag("ablations"), corpus)
    name = f"{config.experiment}-ablate"
    with workdirs.open(flag("workdir"), name, config.to_dict(), may_differ=MAY_DIFFER) as directory:
        print(f"{directory.path}: {len(configs)} runs of {config.num_seeds} seed(s)", flush=True)
        contents, failures = study.run_all(configs, directory.path)
        if FULL in contents and len(contents) > 1:
            print(f"\n{write(contents, directory)}\n{directory.path}: ablations.md, .csv, .tex, .json, .png")
        study.complain(failures, directory.path)


if __name__ == "__main__":
    define_config()
    flags.DEFINE_list(
        "ablations", [], "what to take out: names of experiments/ablations.py, groups of them, or name+name"
    )
    flags.DEFINE_integer(
        "seeds", None, "seeds of each run, config.seed and those after it; 10 by default", lower_bound=1
    )
    flags.DEFINE_string("workdir", None, "folder of all runs, made or resumed; by default a new one under runs/")
    sys.exit(main(command, __doc__, sys.argv))

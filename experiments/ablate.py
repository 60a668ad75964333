"""Trains the full model and ablations of it with the same seeds, and tells what each one costs:

    python -m experiments.ablate --config=experiments/iemocap.py:single --ablations=no_tgan,no_iccl,no_imcl --seeds=10

Names of ablations and of groups of them are in experiments/ablations.py; `+` joins two into one. --config.KEY=VALUE
changes the full model, and with it every ablation.

Each run is a work directory below --workdir. The same command resumes where it stopped; a longer list of ablations adds
the new ones. The seeds of one ablation share one compilation, and all processes the compilation cache.

The results are ablations.md, .csv, .tex, .json and .png, with the difference from the full model seed by seed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from ariigcn_jax.analysis import statistics
from ariigcn_jax.data import normalisation
from ariigcn_jax.objective import tasks
from ariigcn_jax.objective import terms as objective
from ariigcn_jax.runs import figures, results
from ariigcn_jax.types import Corpus, UserError
from experiments import ablations, study
from experiments.command import flag, main
from experiments.session import load

FULL = "full"


def variants(config: Any, names: Sequence[str], corpus: Corpus) -> dict[str, Any]:
    """Return the full model and every ablation as configs.

    Args:
      config: of the full model.
      names: ablations and groups.
      corpus: of the full model.

    Returns:
      name -> config, the full model first. Members of a group that change nothing here are left out.

    Raises:
      UserError: an ablation is unknown, cannot be built, or changes nothing.
    """
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
        raise UserError("--ablations is missing, for example --ablations=no_tgan,no_iccl,no_imcl or =components.")
    study.check(config, corpus, ())
    return configs


def _effective(config: Any, corpus: Any) -> dict[str, Any]:
    """Return the options that have an effect on a corpus.

    Left out are hyper-parameters that a loss does not take, and options about ratings, other modalities, or copies and
    ranks of modalities where the corpus has none.
    """
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


def rows(contents: study.Contents) -> list[dict[str, Any]]:
    """Return every score of every run, and its difference from the full model's.

    Args:
      contents: name -> content of results.json; the full model is among them, and all have the same seeds.

    Returns:
      For each split, score and run a dictionary: ablation, split, score, mean, std, per_seed; and for an ablation
      difference, low, high, p, corrected (over the ablations, for this score). On validation an ablation has these only
      if it was validated as the full model was (`data.cross_validation`).
    """
    found = []
    full = contents[FULL]
    for split in ("test", "valid"):
        values = {name: study.per_seed(content, split) for name, content in contents.items()}
        alike = [
            name for name, content in contents.items() if split == "test" or _validated(content) == _validated(full)
        ]
        for score in values[FULL]:
            scores = {name: of_run[score] for name, of_run in values.items()}
            others = {name: scores[name] for name in alike if name != FULL}
            differences = statistics.compare(scores[FULL], others)
            for name, summary in study.summarise(scores).items():
                row = {"ablation": name, "split": split, "score": score, **summary}
                if name in differences:
                    difference = differences[name].to_dict()
                    row |= {"difference": difference.pop("mean"), **difference, "per_seed": summary["per_seed"]}
                found.append(row)
    return found


def _validated(content: Mapping[str, Any]) -> int:
    """Return what validation scores are of: so many single members, each on a fold of its own, or 0 for the average of
    all members on one validation split."""
    return content["members"] if content.get("cross_validation") else 0


def table(contents: study.Contents, found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the header and the rows for people: scores in percent, or in the unit of a metric that is no share."""
    titles = study.titles(contents[FULL])
    select, *others = titles
    header = ["ablation", titles[select], "Δ", "95 % interval", "p", "p (Holm)"]
    header += [*(titles[score] for score in others), f"valid {titles[select]}"]
    by_name = {row["ablation"]: row for row in found if (row["split"], row["score"]) == ("test", select)}
    lines = [header]
    for name, content in contents.items():
        row, compared = by_name[name], ["", "", "", ""]
        if "difference" in row:
            compared = tasks.difference(select, row["difference"], row["low"], row["high"])
            compared += [study.p_value(row["p"]), study.p_value(row["corrected"])]
        after = [results.number(content["test"][score], score) for score in others]
        valid = results.number(content["valid"][select], select)
        lines.append([name, results.number(content["test"][select], select), *compared, *after, valid])
    return lines


def caption(contents: study.Contents) -> str:
    """Return what the table's numbers are."""
    full = contents[FULL]
    words = (
        f"{full['experiment']}: test split, {results.which_epoch(full)}; mean ± std of {len(full['seeds'])} seed(s), "
        f"{results.unit(results.task_of(full))}. Δ: ablation − full model, seed by seed, in "
        f"{tasks.difference_unit(full['select'])}; interval: studentised bootstrap over seeds. p: paired t-test, and "
        f"after Holm's correction for {len(contents) - 1} ablation(s). Seeds vary, the corpus and its splits do not."
    )
    if len({_validated(content) for content in contents.values()}) > 1:
        words += " Validation scores differ in what they are of (data.cross_validation)."
    if len({content.get("members", 1) for content in contents.values()}) > 1:
        words += " Runs with different numbers of models start from different seeds: they are paired in name only."
    return words


def write(contents: study.Contents, directory: Any) -> str:
    """Write the tables and the picture into an open work directory; return what to print."""
    if FULL not in contents or len(contents) == 1:
        return ""
    full, found = contents[FULL], rows(contents)
    select, seeds = full["select"], full["seeds"]
    drawn = {
        row["ablation"]: row
        for row in found
        if (row["split"], row["score"]) == ("test", select) and row["ablation"] != FULL
    }
    title = f"{full['experiment']}: test {select}, difference from the full model"
    columns = ["ablation", "split", "score", "mean", "std", "difference", "low", "high", "p", "corrected"]
    return study.write_tables(
        directory,
        "ablations",
        cells=table(contents, found),
        caption=caption(contents),
        csv=[[*columns, *(f"seed_{seed}" for seed in seeds)]]
        + [[*(row.get(column, "") for column in columns), *row["per_seed"]] for row in found],
        content={"seeds": seeds, "select": select, "rows": found},
        picture=figures.differences(drawn, full["test"][select]["per_seed"], title, scale=study.scale(full)),
    )


def command(overrides: Sequence[str]) -> None:
    """Run what the flags say."""
    config = study.config_of_flags(10, overrides)
    corpus = load(config, overrides)
    objective.check_overrides(config.losses.to_dict(), overrides)
    if not config.eval.test:
        raise UserError("The table is of the test split: leave eval.test=True. experiments.sweep looks at validation.")
    if not corpus.labelled("test").any():
        raise UserError(
            f"The table is of the test split, and the corpus {corpus.name!r} has no labelled utterance in it. "
            "--config.data.split=fold1of5 holds a fifth of the dialogues out; experiments.sweep looks at validation."
        )
    study.carry_out("ablate", config, variants(config, flag("ablations"), corpus), write)


if __name__ == "__main__":
    study.define_flags(seeds=10)
    flags.DEFINE_list(
        "ablations", [], "what to take out: names of experiments/ablations.py, groups of them, or name+name"
    )
    sys.exit(main(command, __doc__, sys.argv))

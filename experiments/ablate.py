"""Train the full model and ablations of it with the same seeds, and measure what each one costs:

    python -m experiments.ablate --config=experiments/iemocap.py:single --ablations=no_tgan,no_iccl,no_imcl --seeds=10

Ablations and groups of them are named in ariigcn_jax/options/ablations.py; `+` joins two into one. --config.KEY=VALUE
changes the full model, and with it every ablation. Each run is a work directory below --workdir. The same command
resumes where it stopped; a longer list of ablations adds the new ones. The seeds of one ablation share one compilation,
and all processes the compilation cache.

The results are ablations.md, .csv, .tex, .json and .png, with the difference from the full model seed by seed.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from ariigcn_jax.analysis import statistics
from ariigcn_jax.commands.command import flag, main
from ariigcn_jax.data import normalisation
from ariigcn_jax.objective import tasks, terms
from ariigcn_jax.options import ablations
from ariigcn_jax.runs import figures, results
from ariigcn_jax.runs.session import load
from ariigcn_jax.types import WORDS, Corpus, UserError
from experiments import study

FULL = "full"


def variants(config: Any, names: Sequence[str], corpus: Corpus) -> dict[str, Any]:
    """Return name -> config: the full model, then ablations of it, without a group's members that change nothing.

    Raise UserError where an ablation is unknown, cannot be built, or changes nothing though it is named itself.
    """
    if repeated := [name for name in names if list(names).count(name) > 1]:
        raise UserError(f"--ablations names {repeated[0]} twice. Leave one of them out.")
    configs = {FULL: config}
    for name in ablations.expand(names, corpus.modalities):
        changes = ablations.options(name)
        changed = config.copy_and_resolve_references()
        ablations.override(changed, changes)
        if name in names:
            parts = [part for part in name.split("+") if part not in ablations.WHOLE]
            terms.check_overrides(changed.losses.to_dict(), ablations.options("+".join(parts)))
        if _effective(changed, corpus) == _effective(config, corpus):
            if name in names:
                raise UserError(f"The ablation {name} changes nothing in the full model. Leave it out.")
            continue
        if set(ablations.MEASURED) & set(changes):
            raise UserError(
                f"{name} changes what is measured, so it has no difference from the full model. Put it behind the "
                f"configuration's file, as in --config=experiments/iemocap.py:{name}"
            )
        ablations.apply(changed, name)
        study.check(changed, corpus)
        configs[name] = changed
    if len(configs) == 1:
        raise UserError("--ablations is missing, for example --ablations=no_tgan,no_iccl,no_imcl or =components.")
    study.check(config, corpus)
    return configs


def _effective(config: Any, corpus: Corpus) -> dict[str, Any]:
    """Return the options that have an effect on a corpus."""
    options: dict[str, Any] = config.to_dict()
    alone, rated = len(corpus.modalities) == 1, corpus.ratings is not None
    for slot, loss in list(options["losses"].items()):
        term = terms.TERMS[slot]
        if (alone and term.across) or (term.truth == "ratings" and not rated):
            del options["losses"][slot]
        elif loss["fn"] in term.forms:  # another is refused where the model is built
            taken = {"fn", "weight", *terms.hyper_parameters(slot, loss["fn"])}
            options["losses"][slot] = {key: value for key, value in loss.items() if key in taken}
    if not rated:
        del options["data"]["ratings"]
    if alone:  # there is no other modality to translate to, to contrast with, or to lose
        for name in ("gan", "modality_dropout", "dialogue_dropout"):
            del options["model"][name]
        del options["discriminator"]
    if WORDS not in corpus.modalities:
        del options["model"]["text"], options["optimizer"]["words"]
    for option in normalisation.OPTIONS:
        beginnings = options["data"][option]
        options["data"][option] = [b for b in beginnings if any(m.startswith(b) for m in corpus.modalities)]
    return options


def rows(contents: study.Contents) -> list[dict[str, Any]]:
    """Return every score of every run, and its difference from the full model's; all runs have the same seeds.

    A row has ablation, split, score, mean, std, per_seed; and for an ablation difference, low,
    high, p, corrected (over the ablations, for this score). On validation an ablation has these only if it was
    validated as the full model was (`data.cross_validation`).
    """
    found = []
    for split in ("test", "valid"):
        values = {name: study.per_seed(content, split) for name, content in contents.items()}
        alike = [n for n, c in contents.items() if split == "test" or _validated(c) == _validated(contents[FULL])]
        for score in values[FULL]:
            scores = {name: of_run[score] for name, of_run in values.items()}
            differences = statistics.compare(scores[FULL], {name: scores[name] for name in alike if name != FULL})
            for name, summary in study.summarise(scores).items():
                row = {"ablation": name, "split": split, "score": score, **summary}
                if name in differences:
                    difference = differences[name].to_dict()
                    row |= {"difference": difference.pop("mean"), **difference, "per_seed": summary["per_seed"]}
                found.append(row)
    return found


def _validated(content: Mapping[str, Any]) -> int:
    """Return how many models are validated, each on its fold; 0 for the average of all on one validation split."""
    return content["members"] if content.get("cross_validation") else 0


def table(contents: study.Contents, found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the header and the rows for people: scores in percent, or in the unit of a metric that is no share."""
    titles = study.titles(contents[FULL])
    select, *others = titles
    header = ["ablation", titles[select], "Δ", "95 % interval", "p", "p (Holm)"]
    lines = [[*header, *(titles[score] for score in others), f"valid {titles[select]}"]]
    by_name = {row["ablation"]: row for row in found if (row["split"], row["score"]) == ("test", select)}
    for name, content in contents.items():
        row, compared = by_name[name], [""] * 4
        if "difference" in row:
            compared = tasks.difference(select, row["difference"], row["low"], row["high"])
            compared += [study.p_value(row["p"]), study.p_value(row["corrected"])]
        first, *rest = (results.number(content["test"][score], score) for score in titles)
        lines.append([name, first, *compared, *rest, results.number(content["valid"][select], select)])
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
    select, seeds, task = full["select"], full["seeds"], results.task_of(full)
    tested = [row for row in found if (row["split"], row["score"]) == ("test", select)]
    drawn = {row["ablation"]: row for row in tested if row["ablation"] != FULL}
    title = f"{full['experiment']}: test {select}, difference from the full model"
    columns = ["ablation", "split", "score", "mean", "std", "difference", "low", "high", "p", "corrected"]
    return study.write_tables(
        directory,
        "ablations",
        cells=table(contents, found),
        caption=caption(contents),
        csv=study.with_seeds(columns, found, seeds),
        content={"seeds": seeds, "select": select, "rows": found},
        picture=figures.differences(drawn, full["test"][select]["per_seed"], title, scale=task.metrics[select].scale),
    )


def command(overrides: Sequence[str]) -> None:
    """Run what the flags say."""
    config = study.config_of_flags(10, overrides)
    corpus = load(config, overrides)
    terms.check_overrides(config.losses.to_dict(), overrides)
    if not config.eval.test:
        raise UserError("The table is of the test split: leave eval.test=True. experiments.sweep looks at validation.")
    if not corpus.labelled("test").any():
        raise UserError(
            f"The test split of the corpus {corpus.name!r} has no labelled utterance in it. "
            "--config.data.split=fold1of5 holds a fifth of the dialogues out; experiments.sweep looks at validation."
        )
    study.carry_out("ablate", config, variants(config, flag("ablations"), corpus), write)


if __name__ == "__main__":
    study.define_flags(seeds=10)
    flags.DEFINE_list("ablations", [], "what to take out: names of options/ablations.py, groups, or name+name")
    sys.exit(main(command, __doc__, sys.argv))

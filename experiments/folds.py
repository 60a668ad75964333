"""Hold out one fold of a corpus after the other, with the same seeds, and score the model on people or dialogues that
it has not seen:

    python -m experiments.folds --config=experiments/iemocap.py:four_way+single --splits=sessions --seeds=10
    python -m experiments.folds --config=experiments/own.py --config.data.path=mine.csv --splits=5folds:speaker

--splits takes values of data.split (ariigcn_jax/data/splits.py): session1,session2,…, which `sessions` stands for;
fold1of5,fold2of5,…, which `5folds` stands for; speaker=Ann,speaker=Bob. No dialogue may be tested in two of them.
Validation dialogues come out of those that a fold trains on. Each run is a work directory below --workdir. The same
command resumes where it stopped; more splits add to it.

The results are folds.md, .csv, .tex and .json, with each fold, the mean of the folds, and all test utterances together.
"""

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from ariigcn_jax.commands.command import flag, main
from ariigcn_jax.data import splits
from ariigcn_jax.objective import tasks, terms
from ariigcn_jax.options import ablations
from ariigcn_jax.runs import results
from ariigcn_jax.runs.results import MEAN, POOLED
from ariigcn_jax.runs.session import load
from ariigcn_jax.types import UserError
from experiments import study


def variants(config: Any, folds: Sequence[str], overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, int]]:
    """Return fold -> checked config, and fold -> how many labelled utterances it tests.

    `folds` are values of data.split, `overrides` the dotted keys that the user set by hand.

    Raises:
      UserError: a fold cannot be run, or two test the same dialogue.
    """
    configs, tested = {}, {}
    fold_of: dict[str, str] = {}  # dialogue -> the fold that tests it
    notes: dict[str, None] = {}  # most are the same for every fold
    for fold in folds:
        changed = config.copy_and_resolve_references()
        ablations.override(changed, {"data.split": fold})
        changed.experiment += ("+" if ":" in config.experiment else ":") + fold
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            corpus = load(changed, overrides)
        notes |= dict.fromkeys(printed.getvalue().splitlines())
        study.check(changed, corpus)
        for name in ("valid", "test"):
            if not corpus.labelled(name).any():
                raise UserError(f"The fold {fold} has no labelled utterance in its {name} split. Leave it out.")
        for d in np.unique(corpus.dialogue[corpus.split == "test"]):
            name = corpus.dialogue_ids[d]
            if fold_of.setdefault(name, fold) != fold:
                raise UserError(
                    f"{fold_of[name]} and {fold} both test the dialogue {name!r}. Name splits that do not overlap."
                )
        configs[fold], tested[fold] = changed, int(corpus.labelled("test").sum())
    print("\n".join(notes), flush=True)
    return configs, tested


def rows(contents: study.Contents, tested: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return every test score of every fold, of their mean, and of all folds' utterances together.

    A row is of a score and a fold: fold, score, utterances, mean, std and per_seed. The mean of the folds is taken seed
    by seed; a class's F1 is that of the folds that test the class. The scores of all utterances follow from the sum of
    the confusion matrices, so they are there for classes alone. `tested` is fold -> labelled test utterances.
    """
    first = next(iter(contents.values()))
    by_fold = {fold: study.per_seed(content, "test") for fold, content in contents.items()}
    support = np.array([content["test"]["support"]["per_seed"] for content in contents.values()])  # [folds, S, C]
    weights = {f"f1 of {name}": support[:, :, k] > 0 for k, name in enumerate(first["label_names"])}
    mean = {}
    for score in next(iter(by_fold.values())):
        values = np.array([scores[score] for scores in by_fold.values()])
        weight = weights.get(score, np.ones_like(values))
        mean[score] = (values * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1)
    by_fold[MEAN] = mean
    counts = np.sum([content["test"]["confusion"] for content in contents.values()], axis=0)
    pooled = results.summarise([results.task_of(first).by_class(of_seed) for of_seed in counts])
    if pooled.keys() >= set(study.scores(first)):
        by_fold[POOLED] = study.per_seed({**first, "test": pooled}, "test")
    total = sum(tested[fold] for fold in contents)
    return [
        {"fold": fold, "score": score, "utterances": tested[fold] if fold in contents else total, **summary}
        for fold, scores in by_fold.items()
        for score, summary in study.summarise(scores).items()
    ]


def table(contents: study.Contents, found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the header and the rows for people."""
    titles = study.titles(next(iter(contents.values())))
    lines: dict[str, list[str]] = {row["fold"]: [row["fold"], f"{row['utterances']:,}"] for row in found}
    by_fold = {(row["fold"], row["score"]): row for row in found}
    for fold, line in lines.items():
        line += [results.number(by_fold[fold, score], score) for score in titles]
    return [["test split", "utterances", *titles.values()], *lines.values()]


def caption(contents: study.Contents, found: Sequence[Mapping[str, Any]]) -> str:
    """Return what the table's numbers are."""
    first = next(iter(contents.values()))
    select, task = first["select"], results.task_of(first)
    means = [row["mean"] for row in found if row["score"] == select and row["fold"] in contents]
    spread = tasks.shown(select, float(np.std(means, ddof=1))) if len(means) > 1 else "–"
    return (
        f"{len(contents)} fold(s), each tested by models that were trained on the other dialogues; "
        f"{results.which_epoch(first)}; mean ± std over {len(first['seeds'])} seed(s), {results.unit(task)}. "
        f"{MEAN}: seed by seed, each fold counts the same (in a class's F1 each that tests the class); the folds' "
        f"{task.metrics[select].title} has the standard deviation {spread}."
        + (f" {POOLED}: the folds' confusion matrices added up." if any(row["fold"] == POOLED for row in found) else "")
    )


def write(contents: study.Contents, tested: Mapping[str, int], directory: Any) -> str:
    """Write the tables into an open work directory; return what to print."""
    found = rows(contents, tested)
    first = next(iter(contents.values()))
    return study.write_tables(
        directory,
        "folds",
        cells=table(contents, found),
        caption=caption(contents, found),
        csv=study.with_seeds(["fold", "score", "utterances", "mean", "std"], found, first["seeds"]),
        content={"seeds": first["seeds"], "select": first["select"], "rows": found},
    )


def command(overrides: Sequence[str]) -> None:
    """Run what the flags say."""
    config = study.config_of_flags(10, overrides)
    folds = splits.expand(flag("splits"))
    if not folds or config.data.split:
        raise UserError("--splits names the folds, as in --splits=sessions; data.split stays empty.")
    if not config.eval.test:
        raise UserError("The table is of the folds' test splits: leave eval.test=True.")
    terms.check_overrides(config.losses.to_dict(), overrides)
    configs, tested = variants(config, folds, overrides)
    study.carry_out("folds", config, configs, lambda contents, directory: write(contents, tested, directory))


if __name__ == "__main__":
    study.define_flags(seeds=10)
    flags.DEFINE_list("splits", [], "what is held out in turn: sessions, 5folds, 5folds:FIELD, or values of data.split")
    sys.exit(main(command, __doc__, sys.argv))

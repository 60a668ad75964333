"""Holds out one part of a corpus after the other, with the same seeds, and says what the model scores on people or
dialogues that it has not seen:

    python -m experiments.folds --config=experiments/iemocap.py:four_way+single --splits=sessions --seeds=10
    python -m experiments.folds --config=experiments/own.py --config.data.path=mine.csv --splits=5folds:speaker

--splits takes values of data.split (ariigcn_jax/data/splits.py): session1,session2,…, which `sessions` stands for;
fold1of5,fold2of5,…, which `5folds` stands for; speaker=Ann,speaker=Bob. No dialogue may be tested in two of them.
Validation dialogues come out of those that a fold trains on.

Each run is a work directory below --workdir. The same command resumes where it stopped; more splits add to it.

What comes out: folds.md, .csv and .json, with each fold, the mean of the folds, and all test utterances together.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from ariigcn_jax.types import UserError
from experiments import ablations
from experiments.command import define_config, flag, main
from experiments.run import MAY_DIFFER, load_corpus

MEAN, POOLED = "mean of folds", "all utterances"


def variants(
    config: Any, splits: Sequence[str], overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, int]]:
    """A config for each fold, checked, so that the last fold cannot fail on what could be known before.

    Args:
      config: of the experiment; its data.split is empty.
      splits: values of data.split.
      overrides: dotted keys that the user set by hand.

    Returns:
      split -> config, and split -> how many labelled utterances it tests.

    Raises:
      UserError: a fold cannot be run, or two test the same dialogue.
    """
    from experiments import study

    configs, tested = {}, {}
    owner: dict[str, str] = {}
    said: dict[str, None] = {}
    for split in splits:
        changed = config.copy_and_resolve_references()
        ablations.override(changed, {"data.split": split})
        changed.experiment += ("+" if ":" in config.experiment else ":") + split
        with contextlib.redirect_stdout(io.StringIO()) as notes:  # most are the same for every fold
            corpus = load_corpus(changed, overrides)
        said |= dict.fromkeys(notes.getvalue().splitlines())
        study.check(changed, corpus, ())
        for name in ("valid", "test"):
            if not corpus.labelled(name).any():
                raise UserError(f"The fold {split} has no labelled utterance in its {name} split. Leave it out.")
        for d in np.unique(corpus.dialogue[corpus.split == "test"]):
            name = corpus.dialogue_ids[d]
            if owner.setdefault(name, split) != split:
                raise UserError(
                    f"{owner[name]} and {split} both test the dialogue {name!r}, which would count twice. Name splits "
                    "that do not overlap."
                )
        configs[split], tested[split] = changed, int(corpus.labelled("test").sum())
    print("\n".join(said), flush=True)
    return configs, tested


def rows(contents: Mapping[str, Mapping[str, Any]], tested: Mapping[str, int]) -> list[dict[str, Any]]:
    """Every test score of every fold, of their mean, and of all folds' utterances together.

    Args:
      contents: split -> content of results.json; all have the same seeds and classes.
      tested: split -> labelled test utterances.

    Returns:
      For each score and fold a dictionary: fold, score, utterances, mean, std and per_seed, over the seeds. The mean of
      the folds is taken seed by seed. What all utterances score follows from the sum of the confusion matrices, so it
      is there for classes alone.
    """
    from ariigcn_jax.runs import results
    from experiments import study

    first = next(iter(contents.values()))
    task, seeds, total = results.task_of(first), range(len(first["seeds"])), sum(tested[split] for split in contents)
    scores = [*study.scores(first), "class_f1"]
    by_fold: dict[str, list[dict[str, Any]]] = {
        split: [{name: content["test"][name]["per_seed"][s] for name in scores} for s in seeds]
        for split, content in contents.items()
    }
    counted = dict(tested)
    by_fold[MEAN] = [{name: _mean(name, contents, s) for name in scores} for s in seeds]
    if task.from_counts:
        counts = np.sum([content["test"]["confusion"] for content in contents.values()], axis=0)
        by_fold[POOLED] = [{name: task.by_class(counts[s])[name] for name in scores} for s in seeds]
    found = []
    for fold, per_seed in by_fold.items():
        flat = [_by_title(seed, first["label_names"]) for seed in per_seed]
        for title, summary in results.summarise(flat).items():
            found.append({"fold": fold, "score": title, "utterances": counted.get(fold, total), **summary})
    return found


def _mean(name: str, contents: Mapping[str, Mapping[str, Any]], seed: int) -> Any:
    """A score of the folds' mean for the seed at a place; a class's F1 is of the folds that test the class."""
    values = np.array([content["test"][name]["per_seed"][seed] for content in contents.values()])
    if name != "class_f1":
        return values.mean(axis=0)
    tested = np.array([content["test"]["support"]["per_seed"][seed] for content in contents.values()]) > 0
    return (values * tested).sum(axis=0) / np.maximum(tested.sum(axis=0), 1)


def _by_title(scores: Mapping[str, Any], label_names: Sequence[str]) -> dict[str, float]:
    """A seed's scores, each class's F1 under a title of its own."""
    found = {name: float(value) for name, value in scores.items() if name != "class_f1"}
    return found | {f"f1 of {name}": float(x) for name, x in zip(label_names, scores["class_f1"], strict=True)}


def table(
    contents: Mapping[str, Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[list[str]]]:
    """Header and cells for people."""
    from ariigcn_jax.runs import results
    from experiments import study

    first = next(iter(contents.values()))
    select = first["select"]
    scores = [select, *(score for score in study.scores(first) if score != select)]
    by = {(row["fold"], row["score"]): row for row in found}
    header = ["test split", "utterances", *(results.task_of(first).metrics[score].title for score in scores)]
    cells = [
        [fold, f"{by[fold, select]['utterances']:,}", *(results.number(by[fold, score], score) for score in scores)]
        for fold in dict.fromkeys(row["fold"] for row in found)
    ]
    return header, cells


def caption(contents: Mapping[str, Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> str:
    """What the table's numbers are."""
    from ariigcn_jax.objective import tasks
    from ariigcn_jax.runs import results

    first = next(iter(contents.values()))
    select, task = first["select"], results.task_of(first)
    means = [row["mean"] for row in found if row["score"] == select and row["fold"] in contents]
    spread = tasks.shown(select, float(np.std(means, ddof=1))) if len(means) > 1 else "–"
    return (
        f"{len(contents)} fold(s), each tested by models that were trained on the other dialogues; "
        f"{results.which_epoch(first)}; mean ± std over {len(first['seeds'])} seed(s), {results.unit(task)}. "
        f"{MEAN}: seed by seed, each fold counts the same (in a class's F1 each that tests the class); the folds' "
        f"{task.metrics[select].title} has the standard deviation {spread}."
        + (f" {POOLED}: the folds' confusion matrices added up." if task.from_counts else "")
    )


def write(contents: Mapping[str, Mapping[str, Any]], tested: Mapping[str, int], directory: Any) -> str:
    """Writes the tables into an open work directory; returns the one for people."""
    from ariigcn_jax.runs import tables

    found = rows(contents, tested)
    first = next(iter(contents.values()))
    text = f"{tables.markdown(*table(contents, found))}\n\n{caption(contents, found)}\n"
    directory.write_text("folds.md", text)
    columns = ["fold", "score", "utterances", "mean", "std"]
    directory.write_text(
        "folds.csv",
        tables.comma_separated(
            [*columns, *(f"seed_{seed}" for seed in first["seeds"])],
            [[*(row[column] for column in columns), *row["per_seed"]] for row in found],
        ),
    )
    directory.write_json("folds.json", {"seeds": first["seeds"], "select": first["select"], "rows": found})
    return text


def command(overrides: Sequence[str]) -> None:
    """Runs what the flags say."""
    config = flag("config")
    if flag("seeds") or "num_seeds" not in overrides:
        config.num_seeds = flag("seeds") or 10
    from ariigcn_jax import data as corpora
    from ariigcn_jax.objective import terms as objective
    from ariigcn_jax.runs import workdir as workdirs
    from experiments import study

    splits = corpora.splits.expand(flag("splits"))
    if not splits or config.data.split:
        raise UserError("Which folds? Name them by --splits, as in --splits=sessions, in the place of data.split.")
    if not config.eval.test:
        raise UserError("The table is of the folds' test splits: leave eval.test=True.")
    objective.check_overrides(config.losses.to_dict(), overrides)
    configs, tested = variants(config, splits, overrides)
    folders = {split: study.folder_name(split) for split in splits}
    name = f"{config.experiment}-folds"
    with workdirs.open(flag("workdir"), name, config.to_dict(), may_differ=MAY_DIFFER) as directory:
        print(f"{directory.path}: {len(configs)} folds of {config.num_seeds} seed(s)", flush=True)
        done, failures = study.run_all({folders[s]: c for s, c in configs.items()}, directory.path)
        contents = {split: done[name] for split, name in folders.items() if name in done}
        if contents:
            print(f"\n{write(contents, tested, directory)}\n{directory.path}: folds.md, .csv, .json")
        study.complain(failures, directory.path)


if __name__ == "__main__":
    define_config()
    flags.DEFINE_list("splits", [], "what is held out in turn: sessions, 5folds, 5folds:FIELD, or values of data.split")
    flags.DEFINE_integer(
        "seeds", None, "seeds of each fold, config.seed and those after it; 10 by default", lower_bound=1
    )
    flags.DEFINE_string("workdir", None, "folder of all runs, made or resumed; by default a new one under runs/")
    sys.exit(main(command, __doc__, sys.argv))

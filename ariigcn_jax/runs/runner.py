"""Train epoch by epoch on the host: the choice of the epoch, checkpoints and the log."""

from __future__ import annotations

import dataclasses
import operator
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from ariigcn_jax import __version__, parallel
from ariigcn_jax.data import find, packing, prepare
from ariigcn_jax.nn import pretrained
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import divergence, outcome, workdir
from ariigcn_jax.runs.checkpoint import FOLDER, Checkpoints
from ariigcn_jax.runs.progress import Progress, Run
from ariigcn_jax.runs.version import CORPUS, FORMAT
from ariigcn_jax.runs.workdir import WorkDir
from ariigcn_jax.training import diagnostics
from ariigcn_jax.training.seeds import Seeds, make
from ariigcn_jax.types import SPLITS, Corpus, UserError

RESULTS = workdir.RESULTS


def run(config: Any, corpus: Corpus, directory: WorkDir) -> dict[str, Any]:
    """Train a run to its end, from its newest checkpoint if there is one, and return the content of results.json.

    Args:
      config: as `options.base.get_config`.
      corpus: as read.
      directory: the work directory, open.

    Raises:
      UserError: training diverged, the corpus or config does not fit the run, or its folder cannot be written.
    """
    started = time.perf_counter()
    if config.eval.report_best_test and not config.eval.test:
        raise UserError("eval.report_best_test=True needs eval.test=True: it reads the test split in every epoch.")
    described = describe(corpus)
    parallel.from_first(lambda: check_corpus(directory, described), otherwise=None)
    corpus, normalisation = prepare.standardise(corpus)
    seeds = make(config, corpus)
    _print_packing(seeds, corpus)
    checkpoints = Checkpoints(directory.path, config.checkpoint.keep)
    this = Run(config, corpus, normalisation, seeds, checkpoints, directory)
    try:
        progress = this.start()
        if corpus.encoder is not None and parallel.is_first():
            pretrained.copy(corpus.encoder[0], directory.path / pretrained.FOLDER)
        directory.write_json(CORPUS, described)
        first = progress.epoch
        seconds = _train(this, progress)
        this.save(progress)
        content = outcome.write(this, progress, started, first, seconds)
        checkpoints.wait()  # results.json marks a finished run, so it is written last
        if content:
            directory.write_json(RESULTS, content)
    finally:
        checkpoints.finish()
    return content


def describe(corpus: Corpus) -> dict[str, Any]:
    """Return the content of corpus.json, of a corpus as read.

    It has modalities, labels, sizes of the splits, how features were made (`recipes`), and checksums.
    """
    labelled = corpus.label >= 0

    def count(chosen: np.ndarray) -> dict[str, int]:
        dialogues = len(np.unique(corpus.dialogue[chosen]))
        return {"dialogues": dialogues, "utterances": int(chosen.sum()), "labelled": int((chosen & labelled).sum())}

    return {
        "format": FORMAT,
        "version": __version__,
        "name": corpus.name,
        "modalities": [{"name": m, "width": width} for m, width in corpus.widths.items()],
        "task": corpus.task,
        "label_names": list(corpus.label_names),
        "target_names": list(corpus.target_names),
        "ratings": 0 if corpus.ratings is None else corpus.ratings.shape[1],
        "splits": {split: count(corpus.used(split)) for split in SPLITS},
        "cross_validation": corpus.fold is not None,
        "recipes": {m: dict(how) for m, how in corpus.recipes.items()},
        "digest": find.digest(corpus),
    }


def text_encoder(path: Path) -> Path | None:
    """Return the folder of the text encoder in a run's folder, if it is whole; None where there is none.

    So a run resumes, and is made again, on a machine that lacks the folder that its options name.
    """
    folder, described = path / pretrained.FOLDER, path / CORPUS
    try:
        known = workdir.read_json(described)["digest"].get(find.TEXT_ENCODER) if described.exists() else None
        return folder if known and pretrained.read(folder).digest == known else None
    except (UserError, KeyError):
        return None


def changed(before: Mapping[str, Any], described: Mapping[str, Any]) -> list[str]:
    """Return the parts of the digest, and names, in which two results of `describe` differ; `before` may lack some."""
    stored, given = before.get("digest", {}), described["digest"]
    parts = [name for name in {**stored, **given} if stored and stored.get(name) != given.get(name)]
    names = ("label_names", "target_names")
    return parts + [name for name in names if before.get(name, described[name]) != described[name]]


def check_corpus(directory: WorkDir, described: dict[str, Any]) -> None:
    """Raise a UserError if the corpus differs from the one that the run began with."""
    file = directory.path / CORPUS
    if differing := changed(workdir.read_json(file) if file.exists() else {}, described):
        raise UserError(
            f"The corpus has changed since the run in {directory.path} began ({', '.join(differing)}). Use the same "
            "file, or another --workdir."
        )


def _print_packing(seeds: Seeds, corpus: Corpus) -> None:
    layout = seeds.experiment.layout["train"]
    full = packing.fill(seeds.experiment.index["train"])
    count = len(seeds.numbers) * seeds.members
    print(
        f"{corpus.name}: {len(corpus):,} utterances, modalities {', '.join(corpus.modalities)}; "
        f"an epoch is {layout.steps} step(s) of {layout.rows} x {layout.length} slots, {full:.1%} of them utterances"
        + (f"; {count} {'models' if seeds.members > 1 else 'seeds'} by {seeds.way}" if count > 1 else ""),
        flush=True,
    )


def _train(run: Run, progress: Progress) -> dict[str, float]:
    """Run the remaining epochs; return the seconds spent compiling, training, evaluating, and elsewhere."""
    seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0, "diagnose": 0.0, "loop": 0.0}
    config, seeds = run.config, run.seeds
    if progress.epoch >= config.num_epochs:
        return seconds
    splits = ("valid", "test") if config.eval.report_best_test else ("valid",)
    print("Compiling …", flush=True)
    begun = time.perf_counter()
    diagnosed = bool(config.diagnostics.every) and not seeds.experiment.streamed  # it reads the whole split
    seeds.compile(progress.states, splits, diagnosed)
    run.scores("valid", seeds.evaluate("valid", progress.best))  # its first use compiles, too
    diagnose = _diagnosis(seeds, config.diagnostics.every if diagnosed else 0, run.directory)
    first = config.num_epochs if config.eval.epoch == "last" else 0
    saved = time.perf_counter()
    seconds["compile"] = saved - begun
    bar = _bar(progress.epoch, config.num_epochs)
    for epoch in range(progress.epoch + 1, config.num_epochs + 1):
        begun = time.perf_counter()
        progress.states, logs = seeds.train(progress.states)
        trained = time.perf_counter()
        row: dict[str, Any] = {"train": _for_log(logs)}
        lost = ~np.all([np.isfinite(values) for values in logs.values()], axis=0)  # [S] bool
        for split in splits if not lost.any() else ():
            evaluating = time.perf_counter()
            given = seeds.evaluate(split, seeds.weights(progress.states))
            seconds["evaluate"] += time.perf_counter() - evaluating
            lost = lost | outcome.unanswered(seeds, split, given).any(axis=(1, 2))
            row[split] = {} if lost.any() else _merged(run.scores(split, given))
        if lost.any():
            bar.close()
            raise UserError(_diverged(run, progress, epoch, np.flatnonzero(lost)))
        evaluated = time.perf_counter()
        row |= diagnose(progress.states, epoch, bar)
        seconds["diagnose"] += time.perf_counter() - evaluated
        progress.choose(seeds, epoch, run.sign * np.atleast_1d(row["valid"][config.eval.select]), first)
        progress.epoch = epoch
        run.directory.log(epoch, {**row, "seconds": evaluated - begun})
        if time.perf_counter() - saved >= config.checkpoint.every_seconds:
            run.save(progress)
            saved = time.perf_counter()
            if saved - begun >= config.checkpoint.every_seconds:  # a kill repeats no more than the epoch under way
                run.checkpoints.wait()
        _show(bar, row, config.eval.select)
        seconds["train"] += trained - begun
        seconds["loop"] += time.perf_counter() - begun
    bar.close()
    return seconds


def _for_log(values: Any) -> Any:
    """Return a tree of values [S] as numbers for one seed, lists for several."""
    return jax.tree.map(lambda x: x.tolist() if len(x) > 1 else float(x[0]), values)


def _merged(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the seeds' numbers and confusion matrix as one dictionary: a value for one seed, a list for several."""
    names = [k for k, v in scores[0].items() if np.ndim(v) == 0 or k == "confusion"]
    return {k: scores[0][k] if len(scores) == 1 else [s[k] for s in scores] for k in names}


def _diagnosis(seeds: Seeds, every: int, directory: WorkDir) -> Callable[[Any, int, tqdm], dict[str, Any]]:
    """Return a function of (states, epoch, bar): diagnostics for the log each `every` epochs (0: never), else {}."""
    watch = diagnostics.Watch(r["diagnostics"] for r in directory.read_metrics() if "diagnostics" in r)

    def look(states: Any, epoch: int, bar: tqdm) -> dict[str, Any]:
        if not every or epoch % every:
            return {}
        numbers = _for_log(seeds.diagnose(states))
        for words in watch.see(numbers):
            bar.write(f"warning: {words}", file=sys.stderr)
        return {"diagnostics": numbers}

    return look


def _diverged(run: Run, progress: Progress, epoch: int, lost: np.ndarray) -> str:
    """Save the state before a bad epoch as a checkpoint; return the fault of the seeds `lost` in words."""
    seeds, path = run.seeds, run.directory.path
    states = run.trained_until(epoch - 1, progress)
    kept = f"No epoch was done before it, so {path} has no checkpoint."
    if epoch > 1:
        run.save(dataclasses.replace(progress, epoch=epoch - 1, states=states))
        run.checkpoints.wait()
        kept = f"The last good state, after epoch {epoch - 1}, is kept in {path / FOLDER / str(epoch - 1)}."
    every, first = seeds.host(states), lost[0] * seeds.members
    for member in range(1, seeds.members + 1):
        state = jax.tree.map(operator.itemgetter(first + member - 1), every)
        state = state.replace(key=jax.random.wrap_key_data(state.key))
        if fault := divergence.locate(seeds.experiment, run.corpus, state):
            break
    which = ", ".join(str(seeds.numbers[index]) for index in lost)
    of = [f"seed {seeds.numbers[lost[0]]}"] if len(lost) > 1 else []
    if fault is None:
        found = (
            "Run again one by one, its steps are finite: this device does not repeat its numbers, or only answers to "
            "the validation split are not finite. Lower optimizer.lr."
        )
    else:
        of += [f"model {member} of {seeds.members}"] if seeds.members > 1 else []
        found = divergence.words(fault, seeds.experiment.steps)
        if run.config.debug.nans:
            print("Looking for the operation …", flush=True)
            found += "\n" + divergence.operation(seeds.experiment.step, fault.state, fault.batch)
        else:
            found += "\nThe same command with --config.debug.nans=true names the operation, too."
    others = f" (what follows is of {', '.join(of)})" if of else ""
    parallel.barrier()  # so that each of several processes reports it before one ends
    return f"Training diverged in epoch {epoch}, seed {which}{others}. {found}\n{kept}"


def _bar(done: int, total: int) -> tqdm:
    return tqdm(
        disable=not parallel.is_first(),
        total=total,
        initial=done,
        unit="epoch",
        dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else 10,
        bar_format="{desc}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
    )


def _show(bar: tqdm, row: dict[str, Any], select: str) -> None:
    loss, valid = np.mean(row["train"]["total"]), np.mean(row["valid"][select])
    bar.set_postfix_str(f"loss {loss:.3f}, valid {select} {tasks.shown(select, valid)}", refresh=False)
    bar.update()

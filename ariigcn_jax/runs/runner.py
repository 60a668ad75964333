"""The host's side of a run: epoch after epoch, the choice of the epoch, checkpoints, the log, and the results at the
end."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from ariigcn_jax import __version__, parallel
from ariigcn_jax import data as corpora
from ariigcn_jax.analysis import calibration
from ariigcn_jax.data import packing
from ariigcn_jax.files import json_safe
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import divergence, figures, results, workdir
from ariigcn_jax.runs.checkpoint import FOLDER, Checkpoints
from ariigcn_jax.runs.workdir import WorkDir
from ariigcn_jax.training import diagnostics, train
from ariigcn_jax.training import seeds as ensembles
from ariigcn_jax.training.seeds import Seeds
from ariigcn_jax.types import PADDING, SPLITS, Corpus, UserError

RESULTS, TABLE = workdir.RESULTS, "results.md"
CORPUS, FORMAT = "corpus.json", 3  # what using the model takes besides config and checkpoint, and its version


@dataclasses.dataclass
class Progress:
    """Where a run stands.

    Attributes:
      epoch: epochs done.
      states: of all seeds, as their `Seeds` keeps them.
      best: of all seeds, parameters of the epoch chosen so far.
      best_epoch: of each seed, from 1; 0 before the first.
      best_score: of each seed, on validation; negated where less is better.
    """

    epoch: int
    states: Any
    best: Any
    best_epoch: np.ndarray
    best_score: np.ndarray


def prepare(corpus: Corpus) -> tuple[Corpus, corpora.Normalisation]:
    """Standardises by the train split; says what was used."""
    normalisation = corpora.normalisation.fit(corpus)
    return corpora.normalisation.apply(corpus, normalisation), normalisation


def run(config: Any, corpus: Corpus, directory: WorkDir) -> dict[str, Any]:
    """Trains, or resumes, or only reports what is finished.

    Args:
      config: as `experiments.base.get_config`.
      corpus: as read; standardised here.
      directory: the run's own, open.

    Returns:
      The content of results.json.

    Raises:
      UserError: see the message.
    """
    started = time.perf_counter()
    if config.eval.report_best_test and not config.eval.test:
        raise UserError("eval.report_best_test=True needs eval.test=True: it reads the test split in every epoch.")
    described = describe(corpus)
    parallel.from_first(lambda: check_corpus(directory, described), otherwise=None)
    corpus, normalisation = prepare(corpus)
    seeds = ensembles.make(config, corpus)
    _say_packing(seeds, corpus)
    checkpoints = Checkpoints(directory.path, config.checkpoint.keep)
    try:
        progress = _start(seeds, normalisation, checkpoints, directory)
        directory.write_json(CORPUS, described)
        first = progress.epoch
        timing = _train(seeds, config, corpus, progress, normalisation, checkpoints, directory)
        checkpoints.save(progress.epoch, _items(seeds, progress, normalisation))
        content = _report(seeds, config, corpus, progress, first, timing, started, directory)
        checkpoints.wait()  # results.json says that all is there, so it is written last
        if content:
            directory.write_json(RESULTS, content)
    finally:
        checkpoints.finish()
    return content


def describe(corpus: Corpus) -> dict[str, Any]:
    """The content of corpus.json, of a corpus as read: modalities in the model's order, labels, how much there is of
    each split, and what tells it from another corpus."""

    def count(chosen: np.ndarray) -> dict[str, int]:
        dialogues = len(np.unique(corpus.dialogue[chosen]))
        return {"dialogues": dialogues, "utterances": int(chosen.sum()), "labelled": int((chosen & labelled).sum())}

    labelled = corpus.label >= 0
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
        "cross_validation": corpus.part is not None,
        "digest": corpora.identity.digest(corpus),
    }


def changed(before: Mapping[str, Any], described: Mapping[str, Any]) -> list[str]:
    """Parts of the digest, and names, that tell two `describe` apart; what the first does not say is the same."""
    stored, given = before.get("digest", {}), described["digest"]
    parts = [name for name in {**stored, **given} if stored and stored.get(name) != given.get(name)]
    names = ("label_names", "target_names")
    return parts + [name for name in names if before.get(name, described[name]) != described[name]]


def check_corpus(directory: WorkDir, described: dict[str, Any]) -> None:
    """Raises a UserError where another corpus is described than the run began with."""
    file = directory.path / CORPUS
    if differing := changed(workdir.read_json(file) if file.exists() else {}, described):
        raise UserError(
            f"The corpus has changed since the run in {directory.path} began ({', '.join(differing)}). Use the same "
            "file, or another --workdir."
        )


def _say_packing(seeds: Seeds, corpus: Corpus) -> None:
    layout = seeds.experiment.layout["train"]
    full = packing.fill(seeds.experiment.index["train"])
    count = len(seeds.numbers) * seeds.members
    print(
        f"{corpus.name}: {len(corpus):,} utterances, modalities {', '.join(corpus.modalities)}; "
        f"an epoch is {layout.steps} step(s) of {layout.rows} x {layout.length} slots, {full:.1%} of them utterances"
        + (f"; {count} {'models' if seeds.members > 1 else 'seeds'} by {seeds.way}" if count > 1 else ""),
        flush=True,
    )


# --- Checkpoints ------------------------------------------------------------------------------------------------------


def _items(seeds: Seeds, progress: Progress, normalisation: corpora.Normalisation) -> dict[str, Any]:
    """What a checkpoint holds: numpy copies with a leading axis of seeds."""
    return {
        "last": seeds.host(progress.states),
        "best": {
            "params": seeds.host(progress.best),
            "epoch": progress.best_epoch,
            "score": progress.best_score,
        },
        "data": normalisation.to_arrays(),
    }


def _start(
    seeds: Seeds, normalisation: corpora.Normalisation, checkpoints: Checkpoints, directory: WorkDir
) -> Progress:
    """Fresh states, or those of the newest checkpoint."""
    count, states = len(seeds.numbers), seeds.init()
    best = seeds.place(seeds.host(seeds.weights(states)))
    progress = Progress(0, states, best, np.zeros(count, np.int32), np.full(count, -np.inf, np.float32))
    epoch = checkpoints.latest()
    if epoch is not None:
        items = checkpoints.restore(epoch, _items(seeds, progress, normalisation))
        _check_data(items.pop("data"), normalisation)
        progress = _from_items(seeds, epoch, items)
        print(f"Resuming {directory.path} after epoch {epoch}.", flush=True)
    directory.truncate_after(progress.epoch)
    return progress


def _from_items(seeds: Seeds, epoch: int, items: dict[str, Any]) -> Progress:
    last, best = items["last"], items["best"]
    return Progress(
        epoch,
        seeds.place(last.replace(key=jax.random.wrap_key_data(last.key))),
        seeds.place(best["params"]),
        np.array(best["epoch"]),
        np.array(best["score"]),
    )


def _check_data(stored: dict[str, Any], normalisation: corpora.Normalisation) -> None:
    for name, value in normalisation.to_arrays().items():
        if not np.array_equal(stored[name], value):
            raise UserError(
                f"The corpus has changed since this run began: {name} differs from the one kept in its checkpoint. "
                "Use the same file, or another --workdir."
            )


# --- Epochs -----------------------------------------------------------------------------------------------------------


def _train(
    seeds: Seeds,
    config: Any,
    corpus: Corpus,
    progress: Progress,
    normalisation: corpora.Normalisation,
    checkpoints: Checkpoints,
    directory: WorkDir,
) -> dict[str, float]:
    """Runs the remaining epochs; returns the seconds spent compiling, training, evaluating, and elsewhere."""
    seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0, "diagnose": 0.0, "loop": 0.0}
    if progress.epoch >= config.num_epochs:
        return seconds
    splits = ("valid", "test") if config.eval.report_best_test else ("valid",)
    print("Compiling …", flush=True)
    begun = time.perf_counter()
    diagnosed = bool(config.diagnostics.every) and not seeds.experiment.streamed  # it looks at rows of the whole split
    seeds.compile(progress.states, splits, diagnosed)
    _scores(seeds, "valid", seeds.evaluate("valid", progress.best))  # what the first use compiles
    diagnose = _diagnosis(seeds, config.diagnostics.every if diagnosed else 0, directory)
    saved = time.perf_counter()
    seconds["compile"] = saved - begun
    bar = _bar(progress.epoch, config.num_epochs)
    for epoch in range(progress.epoch + 1, config.num_epochs + 1):
        begun = time.perf_counter()
        progress.states, logs = seeds.train(progress.states)
        trained = time.perf_counter()
        row: dict[str, Any] = {"train": _for_log(logs)}
        lost = _not_finite(logs)
        for split in splits if not lost.any() else ():
            asked = time.perf_counter()
            outcome = seeds.evaluate(split, seeds.weights(progress.states))
            seconds["evaluate"] += time.perf_counter() - asked
            lost = lost | _unanswered(seeds, split, outcome).any(axis=(1, 2))
            row[split] = {} if lost.any() else _by_name([_numbers(s) for s in _scores(seeds, split, outcome)])
        if lost.any():
            bar.close()
            where = (normalisation, checkpoints, directory)
            raise UserError(_diverged(seeds, config, corpus, progress, epoch, np.flatnonzero(lost), *where))
        evaluated = time.perf_counter()
        row |= diagnose(progress.states, epoch, bar)
        seconds["diagnose"] += time.perf_counter() - evaluated
        first = config.num_epochs if config.eval.epoch == "last" else 0
        _choose(seeds, progress, epoch, _sign(config) * np.atleast_1d(row["valid"][config.eval.select]), first)
        progress.epoch = epoch
        directory.log(epoch, {**row, "seconds": evaluated - begun})
        if time.perf_counter() - saved >= config.checkpoint.every_seconds:
            checkpoints.save(epoch, _items(seeds, progress, normalisation))
            saved = time.perf_counter()
            if saved - begun >= config.checkpoint.every_seconds:  # a kill repeats no more than the epoch under way
                checkpoints.wait()
        _show(bar, row, config.eval.select)
        seconds["train"] += trained - begun
        seconds["loop"] += time.perf_counter() - begun
    bar.close()
    return seconds


def _scores(seeds: Seeds, split: str, outcome: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Each seed's scores from what `Seeds.evaluate` gives."""
    count = len(seeds.numbers)
    return [seeds.experiment.score(split, {name: x[s] for name, x in outcome.items()}) for s in range(count)]


def _sign(config: Any) -> int:
    """1 where more of the metric that chooses is better, else -1."""
    return tasks.get(config.data.task).better(config.eval.select)


def _for_log(values: Any) -> Any:
    """A tree of values [S] as numbers for one seed, lists for several."""
    return jax.tree.map(lambda x: x.tolist() if len(x) > 1 else float(x[0]), values)


def _numbers(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers, and the matrix that all others follow from."""
    return {k: v for k, v in scores.items() if np.ndim(v) == 0 or k == "confusion"}


def _by_name(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Dictionaries of the seeds as one: a value for one seed, a list for several."""
    return {k: rows[0][k] if len(rows) == 1 else [r[k] for r in rows] for k in rows[0]}


def _diagnosis(seeds: Seeds, every: int, directory: WorkDir) -> Callable[[Any, int, tqdm], dict[str, Any]]:
    """A function of (states, epoch, bar) that gives the epoch's diagnostics for the log and prints new warnings; {} in
    epochs without; `every` is the epochs between looks, 0 for none."""
    watch = diagnostics.Watch(r["diagnostics"] for r in directory.read_metrics() if "diagnostics" in r)

    def look(states: Any, epoch: int, bar: tqdm) -> dict[str, Any]:
        if not every or epoch % every:
            return {}
        numbers = _for_log(seeds.diagnose(states))
        for words in watch.see(numbers):
            bar.write(f"warning: {words}", file=sys.stderr)
        return {"diagnostics": numbers}

    return look


def _not_finite(logs: dict[str, np.ndarray]) -> np.ndarray:
    """[S] bool: a loss or the norm of a gradient of the seed was NaN or infinite in the epoch."""
    return ~np.all([np.isfinite(values) for values in logs.values()], axis=0)


def _unanswered(seeds: Seeds, split: str, outcome: dict[str, np.ndarray]) -> np.ndarray:
    """[S, rows, L] bool: an utterance is here, and the seed's answer to it is not finite."""
    there = seeds.experiment.index[split].utterance[:-1] != PADDING
    return there & ~np.isfinite(outcome["probabilities"]).all(axis=-1)


def _diverged(
    seeds: Seeds,
    config: Any,
    corpus: Corpus,
    progress: Progress,
    epoch: int,
    lost: np.ndarray,
    normalisation: corpora.Normalisation,
    checkpoints: Checkpoints,
    directory: WorkDir,
) -> str:
    """Keeps the state before a bad epoch as a checkpoint, and says what went wrong in it for the seeds `lost`."""
    states = _trained_until(epoch - 1, seeds, progress, normalisation, checkpoints)
    kept = f"No epoch was done before it, so {directory.path} has no checkpoint."
    if epoch > 1:
        before = dataclasses.replace(progress, epoch=epoch - 1, states=states)
        checkpoints.save(before.epoch, _items(seeds, before, normalisation))
        checkpoints.wait()
        kept = f"The last good state, after epoch {epoch - 1}, is kept in {directory.path / FOLDER / str(epoch - 1)}."
    every, first = seeds.host(states), lost[0] * seeds.members
    members = (_one_state(every, index) for index in range(first, first + seeds.members))
    faults = (divergence.locate(seeds.experiment, corpus, state) for state in members)
    member, fault = next(((k, fault) for k, fault in enumerate(faults, start=1) if fault), (0, None))
    if fault is None:
        found = (
            "Made again one by one, its steps are finite: this device does not repeat its numbers, or answers to the "
            "validation split alone are not. Lower optimizer.lr."
        )
    else:
        found = divergence.words(fault, seeds.experiment.steps)
        if config.debug.nans:
            print("Looking for the operation …", flush=True)
            found += "\n" + divergence.operation(seeds.experiment.step, fault.state, fault.batch)
        else:
            found += "\nThe same command with --config.debug.nans=true names the operation, too."
    which = ", ".join(str(seeds.numbers[index]) for index in lost)
    of = [f"seed {seeds.numbers[lost[0]]}"] if len(lost) > 1 else []
    of += [f"model {member} of {seeds.members}"] if seeds.members > 1 and fault else []
    others = f" (what follows is of {', '.join(of)})" if of else ""
    parallel.barrier()  # all of several processes find it, and in their own time
    return f"Training diverged in epoch {epoch}, seed {which}{others}. {found}\n{kept}"


def _one_state(states: Any, index: int) -> Any:
    """One of the states that `Seeds.host` gives, on one device."""
    state = jax.tree.map(lambda x: x[index], states)
    return state.replace(key=jax.random.wrap_key_data(state.key))


def _trained_until(
    epoch: int, seeds: Seeds, progress: Progress, normalisation: corpora.Normalisation, checkpoints: Checkpoints
) -> Any:
    """The states after an epoch that has gone by, from the newest checkpoint on: training repeats itself."""
    checkpoints.wait()
    done = checkpoints.latest()
    states = seeds.init()
    if done is not None:
        states = _from_items(seeds, done, checkpoints.restore(done, _items(seeds, progress, normalisation))).states
    for _ in range(done or 0, epoch):
        states, _ = seeds.train(states)
    return states


def _choose(seeds: Seeds, progress: Progress, epoch: int, scores: np.ndarray, first: int = 0) -> None:
    """Keeps the parameters of each seed whose validation score is the highest since the epoch `first`, the earliest of
    equals; until then the newest, so that a stopped run has some."""
    scores = scores.astype(np.float32)  # as the best one is kept, or an equal one could seem better
    better = (scores > progress.best_score) | (epoch <= first)
    progress.best_score = np.where(better, scores, progress.best_score)
    progress.best_epoch = np.where(better, epoch, progress.best_epoch).astype(np.int32)
    progress.best = seeds.keep(better, seeds.weights(progress.states), progress.best)


def _bar(done: int, total: int) -> tqdm:
    quiet = not sys.stderr.isatty()
    return tqdm(
        disable=not parallel.is_first(),
        total=total,
        initial=done,
        unit="epoch",
        dynamic_ncols=True,
        mininterval=10 if quiet else 0.1,
        bar_format="{desc}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
    )


def _show(bar: tqdm, row: dict[str, Any], select: str) -> None:
    loss, valid = np.mean(row["train"]["total"]), np.mean(row["valid"][select])
    bar.set_postfix_str(f"loss {loss:.3f}, valid {select} {tasks.shown(select, valid)}", refresh=False)
    bar.update()


# --- Results ----------------------------------------------------------------------------------------------------------


def _report(
    seeds: Seeds,
    config: Any,
    corpus: Corpus,
    progress: Progress,
    first: int,
    timing: dict[str, float],
    started: float,
    directory: WorkDir,
) -> dict[str, Any]:
    """Reads the test split, once and if at all, from the chosen epochs; writes predictions, pictures, table and
    the table. `first` epochs were done by earlier starts."""
    there = [s for s in SPLITS if np.any(corpus.split == s)]
    splits = [s for s in there if s != "test" or config.eval.test]
    labelled = "test" in splits and corpus.labelled("test").any()
    outcome = {s: seeds.evaluate(s, progress.best) for s in splits}
    _check_answers(seeds, corpus, outcome)
    if not parallel.is_first():
        return {}
    rows = directory.read_metrics()
    best_epochs, best_test = _best_test(rows, config) if config.eval.report_best_test else (None, None)
    content = results.results(
        experiment=config.experiment,
        task=corpus.task,
        label_names=results.answer_names(corpus.task, corpus.label_names, corpus.target_names),
        seeds=list(seeds.numbers),
        select=config.eval.select,
        epoch=config.eval.epoch,
        members=seeds.members,
        cross_validation=corpus.part is not None,
        selected_epochs=progress.best_epoch.tolist(),
        valid=_scores(seeds, "valid", outcome["valid"]),
        test=_scores(seeds, "test", outcome["test"]) if labelled else None,
        seconds={
            **timing,
            "epoch_mean": float(np.mean([r["seconds"] for r in rows])),
            "total": time.perf_counter() - started,
        },
        best_test=best_test,
        best_test_epochs=best_epochs,
    )
    found = [_predicted(seeds.experiment, corpus, outcome, index) for index in range(len(seeds.numbers))]
    content["temperature"] = [_temperature(corpus, *f) for f in found]
    if corpus.task != "regression":  # a score has no probability
        measured = {s: _calibration(corpus, found, content["temperature"], s) for s in outcome if s != "train"}
        content["calibration_error"] = {split: error for split, (error, _) in measured.items()}
        content["reliability"] = {split: bins for split, (_, bins) in measured.items()}
    content["speed"] = _speed(seeds.experiment, corpus, config, len(rows) - first, timing)
    _write_predictions(corpus, found, content["temperature"], seeds.numbers, directory)
    _write_pictures(content, corpus, config, rows, directory)
    directory.write_text(TABLE, results.table(content))
    return content


def _check_answers(seeds: Seeds, corpus: Corpus, outcome: dict[str, dict[str, np.ndarray]]) -> None:
    """Raises a UserError where an answer that results would come from is not finite; names the dialogues."""
    for split, given in outcome.items():
        bad = _unanswered(seeds, split, given)
        if bad.any():
            utterances = seeds.experiment.index[split].utterance[:-1][bad.any(axis=0)]
            names = [corpus.dialogue_ids[d] for d in np.unique(corpus.dialogue[utterances])]
            seed = seeds.numbers[int(np.flatnonzero(bad.any(axis=(1, 2)))[0])]
            raise UserError(
                f"The trained model (seed {seed}) answers {len(names)} dialogue(s) of the split {split} with NaN or "
                f"infinity: {divergence.listed(names)}. Look at their features (python -m tools.prepare inspect); "
                "results are not written, checkpoints are."
            )


def _best_test(rows: Sequence[dict[str, Any]], config: Any) -> tuple[list[int], list[dict[str, Any]]]:
    """Each seed's best epoch on test by the same metric, and its scores."""
    values = np.array([np.atleast_1d(r["test"][config.eval.select]) for r in rows])
    chosen = (_sign(config) * values).argmax(axis=0)
    task, scores = tasks.get(config.data.task), []
    for s, r in enumerate(chosen):
        kept = {k: np.asarray(v) if config.num_seeds == 1 else np.asarray(v)[s] for k, v in rows[r]["test"].items()}
        counts = kept.pop("confusion").astype(np.int32)
        scores.append({**kept, **task.by_class(counts), "confusion": counts})
    return [rows[r]["epoch"] for r in chosen], scores


def _speed(
    experiment: train.Experiment,
    corpus: Corpus,
    config: Any,
    epochs: int,
    timing: dict[str, float],
) -> dict[str, float]:
    """Nodes (utterances x modalities) trained per second, all seeds together, and the share of the epochs' time outside
    compiled code; both of the `epochs` that this start trained."""
    layout = experiment.layout["train"]
    nodes = int(corpus.training.sum()) * len(corpus.modalities)
    inside = timing["train"] + timing["evaluate"] + timing["diagnose"]
    trained = nodes * config.num_seeds * (config.members if corpus.part is None else config.members - 1) * epochs
    return {
        "nodes_per_epoch": nodes,
        "slots_per_epoch": layout.steps * layout.rows * layout.length * len(corpus.modalities),
        "nodes_per_second": trained / timing["train"] if timing["train"] else 0.0,
        "share_outside_compiled": 1 - inside / timing["loop"] if timing["loop"] else 0.0,
    }


def _predicted(
    experiment: train.Experiment, corpus: Corpus, outcome: dict[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [n] of the utterances that were evaluated, and their probabilities or scores [n, O] as trained."""
    parts = [(experiment.index[s].utterance[:-1], outcome[s]["probabilities"][seed]) for s in outcome]
    utterance = np.concatenate([u.reshape(-1) for u, _ in parts])
    probabilities = np.concatenate([p.reshape(-1, p.shape[-1]) for _, p in parts])
    return utterance[utterance != PADDING], probabilities[utterance != PADDING]


def _temperature(corpus: Corpus, utterance: np.ndarray, probabilities: np.ndarray) -> float:
    """Fitted on the validation split; 1 for a score, which has no probability."""
    if corpus.task == "regression":
        return 1.0
    valid = corpus.split[utterance] == "valid"
    return calibration.fit_temperature(*_decisions(corpus, utterance[valid], probabilities[valid]))


def _decisions(corpus: Corpus, utterance: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, ...]:
    target = None if corpus.target is None else corpus.target[utterance]
    return tasks.decisions(corpus.task, probabilities, corpus.label[utterance], target)


def _calibration(
    corpus: Corpus, found: Sequence[tuple[np.ndarray, np.ndarray]], temperatures: Sequence[float], split: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of a split as trained ("before") and with the temperature ("after"): the expected calibration error, and
    `calibration.reliability` of all seeds together."""
    answers: dict[str, list[np.ndarray]] = {"before": [], "after": []}
    labels = []
    for (utterance, probabilities), temperature in zip(found, temperatures, strict=True):
        chosen = corpus.split[utterance] == split
        p, label = _decisions(corpus, utterance[chosen], probabilities[chosen])
        answers["before"].append(p)
        answers["after"].append(calibration.scale(p, temperature))
        labels.append(label)
    error = calibration.expected_calibration_error
    errors = [{when: error(p[s], label) for when, p in answers.items()} for s, label in enumerate(labels)]
    every = np.concatenate(labels)
    bins = {when: calibration.reliability(np.concatenate(p), every) for when, p in answers.items()}
    return results.summarise(errors), json_safe(bins)


def _write_predictions(
    corpus: Corpus,
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    temperatures: Sequence[float],
    seeds: Sequence[int],
    directory: WorkDir,
) -> None:
    for (utterance, probabilities), temperature, seed in zip(found, temperatures, seeds, strict=True):
        path = directory.path / "predictions" / f"seed_{seed}.csv"
        results.write_predictions(path, corpus, utterance, _calibrated(corpus.task, probabilities, temperature))


def _calibrated(task: str, answers: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [n, O] as they are with logits over a temperature; scores as they are."""
    if task == "regression":
        return answers
    if task == "multilabel":
        return calibration.scale(np.stack([1 - answers, answers], axis=-1), temperature)[..., 1]
    return calibration.scale(answers, temperature)


def _write_pictures(
    content: dict[str, Any], corpus: Corpus, config: Any, rows: Sequence[dict[str, Any]], directory: WorkDir
) -> None:
    select, selected = config.eval.select, content["selected_epochs"]
    curves = figures.training_curves(rows, select, selected_epochs=selected)
    directory.write_bytes("training_curves.png", curves)
    split = results.reported_split(content)
    confusion = np.asarray(content[split]["confusion"])
    title = f"{config.experiment}, {split}, {results.which_epoch(content)}"
    draw = figures.label_counts if corpus.task == "multilabel" else figures.confusion_matrix
    directory.write_bytes("confusion_matrix.png", draw(confusion, content["label_names"], title))
    if "reliability" in content:
        errors = {when: summary["mean"] for when, summary in content["calibration_error"][split].items()}
        directory.write_bytes("reliability.png", figures.reliability(content["reliability"][split], errors, title))

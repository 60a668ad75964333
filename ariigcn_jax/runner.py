"""The host's side of a run: epoch after epoch, the choice of the epoch, checkpoints, the log, and the results at the
end."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ariigcn_jax import __version__, calibration, diagnostics, figures, graph, metrics, parallel, results, train
from ariigcn_jax import corpus as corpora
from ariigcn_jax.checkpoint import Checkpoints
from ariigcn_jax.stream import Stream
from ariigcn_jax.types import PADDING, SPLITS, Corpus, TrainState, UserError
from ariigcn_jax.workdir import WorkDir

RESULTS, TABLE = "results.json", "results.md"
CORPUS, FORMAT = "corpus.json", 1  # what using the model takes besides config and checkpoint, and its version


@dataclasses.dataclass
class Progress:
    """Where a run stands.

    Attributes:
      epoch: epochs done.
      states: of each seed.
      best: of each seed, parameters of the epoch chosen so far.
      best_epoch: of each seed, from 1; 0 before the first.
      best_score: of each seed, on validation.
    """

    epoch: int
    states: list[TrainState]
    best: list[Any]
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
    corpus, normalisation = prepare(corpus)
    experiment = train.make(config, corpus)
    seeds = range(config.seed, config.seed + config.num_seeds)
    _say_packing(experiment, corpus)
    checkpoints = Checkpoints(directory.path, config.checkpoint.keep)
    try:
        progress = _start(experiment, seeds, normalisation, checkpoints, directory)
        directory.write_json(CORPUS, describe(corpus))
        first = progress.epoch
        timing = _train(experiment, config, progress, normalisation, checkpoints, directory)
        checkpoints.save(progress.epoch, _items(experiment, progress, normalisation))
        content = _report(experiment, config, corpus, progress, first, timing, started, directory)
        checkpoints.wait()  # results.json says that all is there, so it is written last
        if content:
            directory.write_json(RESULTS, content)
    finally:
        checkpoints.finish()
    return content


def describe(corpus: Corpus) -> dict[str, Any]:
    """The content of corpus.json: modalities in the model's order, labels, and how much there was of each split."""

    def count(chosen: np.ndarray) -> dict[str, int]:
        dialogues = len(np.unique(corpus.dialogue[chosen]))
        return {"dialogues": dialogues, "utterances": int(chosen.sum()), "labelled": int((chosen & labelled).sum())}

    labelled = corpus.label >= 0
    return {
        "format": FORMAT,
        "version": __version__,
        "name": corpus.name,
        "modalities": [{"name": m, "width": width} for m, width in corpus.widths.items()],
        "label_names": list(corpus.label_names),
        "splits": {split: count(corpus.split == split) for split in SPLITS},
    }


def _say_packing(experiment: train.Experiment, corpus: Corpus) -> None:
    layout = experiment.layout["train"]
    full = graph.fill(experiment.index["train"])
    print(
        f"{corpus.name}: {len(corpus):,} utterances, modalities {', '.join(corpus.modalities)}; "
        f"an epoch is {layout.steps} step(s) of {layout.rows} x {layout.length} slots, {full:.1%} of them utterances",
        flush=True,
    )


# --- Seeds ------------------------------------------------------------------------------------------------------------


def _each(num_devices: int, function: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
    """Calls a compiled function for every seed and waits for the results: on as many threads as there are cores, but
    one after another on several devices, which have to do the same in the same order."""

    def call(*one: Any) -> Any:
        return jax.block_until_ready(function(*one))

    count = min(len(arguments[0]), os.cpu_count() or 1) if parallel.alone(num_devices) else 1
    if count == 1:
        return [call(*one) for one in zip(*arguments, strict=True)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, *arguments))


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *x: np.stack([np.asarray(v) for v in x]), *trees)


# --- Checkpoints ------------------------------------------------------------------------------------------------------


def _items(experiment: train.Experiment, progress: Progress, normalisation: corpora.Normalisation) -> dict[str, Any]:
    """What a checkpoint holds: numpy copies with a leading axis of seeds."""

    def plain(tree: Any) -> Any:
        return parallel.unreplicate(tree, experiment.num_devices)

    states = [plain(s) for s in progress.states]
    return {
        "last": _stack([s.replace(key=jax.random.key_data(s.key)) for s in states]),
        "best": {
            "params": _stack([plain(p) for p in progress.best]),
            "epoch": progress.best_epoch,
            "score": progress.best_score,
        },
        "data": normalisation.to_arrays(),
    }


def _start(
    experiment: train.Experiment,
    seeds: range,
    normalisation: corpora.Normalisation,
    checkpoints: Checkpoints,
    directory: WorkDir,
) -> Progress:
    """Fresh states, or those of the newest checkpoint."""
    states = [experiment.init(seed) for seed in seeds]
    count = len(states)
    best = [jax.tree.map(jnp.copy, s.weights) for s in states]
    progress = Progress(0, states, best, np.zeros(count, np.int32), np.full(count, -1.0, np.float32))
    epoch = checkpoints.latest()
    if epoch is not None:
        items = checkpoints.restore(epoch, _items(experiment, progress, normalisation))
        _check_data(items.pop("data"), normalisation)
        progress = _from_items(experiment, epoch, items)
        print(f"Resuming {directory.path} after epoch {epoch}.", flush=True)
    directory.truncate_after(progress.epoch)
    return progress


def _from_items(experiment: train.Experiment, epoch: int, items: dict[str, Any]) -> Progress:
    def split(tree: Any, seed: int) -> Any:
        return jax.tree.map(lambda x: jnp.array(x[seed]), tree)

    count = len(items["best"]["epoch"])
    states = [split(items["last"], s) for s in range(count)]
    states = [s.replace(key=jax.random.wrap_key_data(s.key)) for s in states]
    best = [split(items["best"]["params"], s) for s in range(count)]
    return Progress(
        epoch,
        [parallel.replicate(s, experiment.num_devices) for s in states],
        [parallel.replicate(p, experiment.num_devices) for p in best],
        np.array(items["best"]["epoch"]),
        np.array(items["best"]["score"]),
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
    experiment: train.Experiment,
    config: Any,
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
    epoch_step = experiment.training(progress.states[0])
    for split in splits:
        experiment.evaluation(split, progress.best[0])
    score(_evaluate(experiment, "valid", progress.best)[0]["confusion"])  # what the first use compiles
    diagnose = _diagnosis(experiment, config, progress, directory)
    saved = time.perf_counter()
    seconds["compile"] = saved - begun
    bar = _bar(progress.epoch, config.num_epochs)
    for epoch in range(progress.epoch + 1, config.num_epochs + 1):
        begun = time.perf_counter()
        done = _each(experiment.num_devices, lambda s: epoch_step(s, experiment.data["train"]), progress.states)
        trained = time.perf_counter()
        progress.states, logs = [d[0] for d in done], [jax.tree.map(float, _plain(experiment, d[1])) for d in done]
        row = {"train": _by_name(logs)}
        for split in splits:
            asked = time.perf_counter()
            outcome = _evaluate(experiment, split, [s.weights for s in progress.states])
            seconds["evaluate"] += time.perf_counter() - asked
            row[split] = _by_name([_for_log(score(o["confusion"])) for o in outcome])
        evaluated = time.perf_counter()
        _check_finite(row["train"], epoch, directory)
        row |= diagnose(epoch, bar)
        seconds["diagnose"] += time.perf_counter() - evaluated
        first = min(config.eval.from_epoch, config.num_epochs)
        _choose(progress, epoch, np.atleast_1d(row["valid"][config.eval.select]), first)
        progress.epoch = epoch
        directory.log(epoch, {**row, "seconds": evaluated - begun})
        if time.perf_counter() - saved >= config.checkpoint.every_seconds:
            checkpoints.save(epoch, _items(experiment, progress, normalisation))
            saved = time.perf_counter()
        _show(bar, row, config.eval.select)
        seconds["train"] += trained - begun
        seconds["loop"] += time.perf_counter() - begun
    bar.close()
    return seconds


def _plain(experiment: train.Experiment, tree: Any) -> Any:
    return parallel.unreplicate(tree, experiment.num_devices)


def _evaluate(experiment: train.Experiment, split: str, params: Sequence[Any]) -> list[dict[str, np.ndarray]]:
    """Confusion matrix and probabilities of each seed."""
    evaluate = experiment.evaluation(split, params[0])
    done = _each(experiment.num_devices, lambda p: evaluate(p, experiment.data[split]), params)
    return [jax.tree.map(np.asarray, _plain(experiment, d)) for d in done]


_scores = jax.jit(metrics.scores)


def score(confusion: np.ndarray) -> dict[str, Any]:
    """`metrics.scores` of a confusion matrix [C, C] as numpy, with the matrix itself."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        values = {name: np.asarray(value) for name, value in _scores(jnp.asarray(confusion)).items()}
    return {**values, "confusion": confusion}


def _for_log(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers, and the matrix that all others follow from."""
    return {k: v for k, v in scores.items() if np.ndim(v) == 0 or k == "confusion"}


def _by_name(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Dictionaries of the seeds as one: a value for one seed, a list for several."""
    return {k: rows[0][k] if len(rows) == 1 else [r[k] for r in rows] for k in rows[0]}


def _diagnosis(
    experiment: train.Experiment, config: Any, progress: Progress, directory: WorkDir
) -> Callable[[int, tqdm], dict[str, Any]]:
    """A function of (epoch, bar) that gives the epoch's diagnostics for the log and prints new warnings; {} in epochs
    without."""
    every = config.diagnostics.every
    if not every or isinstance(experiment.data["train"], Stream):  # it looks at rows of the whole split
        return lambda epoch, bar: {}
    data = _plain(experiment, experiment.data["train"])
    compiled = experiment.diagnose.lower(_plain(experiment, progress.states[0]), data).compile()
    watch = diagnostics.Watch(r["diagnostics"] for r in directory.read_metrics() if "diagnostics" in r)

    def look(epoch: int, bar: tqdm) -> dict[str, Any]:
        if epoch % every:
            return {}
        found = _each(experiment.num_devices, lambda s: compiled(_plain(experiment, s), data), progress.states)
        numbers = jax.tree.map(lambda *x: float(x[0]) if len(x) == 1 else [float(v) for v in x], *found)
        for words in watch.see(numbers):
            bar.write(f"warning: {words}", file=sys.stderr)
        return {"diagnostics": numbers}

    return look


def _check_finite(logs: dict[str, Any], epoch: int, directory: WorkDir) -> None:
    bad = [name for name, value in logs.items() if not np.all(np.isfinite(value))]
    if bad:
        raise UserError(
            f"Training diverged in epoch {epoch}: {', '.join(bad)} is not finite. The last checkpoint, if there was "
            f"one, is kept in {directory.path}. Lower optimizer.lr, or the weight of the term that grew (metrics.jsonl "
            "has each term)."
        )


def _choose(progress: Progress, epoch: int, scores: np.ndarray, first: int = 0) -> None:
    """Keeps the parameters of each seed whose validation score is the best since the epoch `first`, the earliest of
    equals; until then the newest, so that a stopped run has some."""
    for seed, value in enumerate(scores):
        if epoch <= first or value > progress.best_score[seed]:
            progress.best_score[seed], progress.best_epoch[seed] = value, epoch
            # a copy, because the next epoch reuses the buffers of the state
            progress.best[seed] = jax.tree.map(jnp.copy, progress.states[seed].weights)


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
    bar.set_postfix_str(f"loss {loss:.3f}, valid {select} {100 * valid:.2f}", refresh=False)
    bar.update()


# --- Results ----------------------------------------------------------------------------------------------------------


def _report(
    experiment: train.Experiment,
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
    labelled = "test" in splits and np.any((corpus.split == "test") & (corpus.label >= 0))
    outcome = {s: _evaluate(experiment, s, progress.best) for s in splits}
    if not parallel.is_first():
        return {}
    rows = directory.read_metrics()
    best_epochs, best_test = _best_test(rows, config) if config.eval.report_best_test else (None, None)
    seeds = list(range(config.seed, config.seed + config.num_seeds))
    content = results.results(
        experiment=config.experiment,
        label_names=corpus.label_names,
        seeds=seeds,
        select=config.eval.select,
        selected_epochs=progress.best_epoch.tolist(),
        valid=[score(o["confusion"]) for o in outcome["valid"]],
        test=[score(o["confusion"]) for o in outcome["test"]] if labelled else None,
        seconds={
            **timing,
            "epoch_mean": float(np.mean([r["seconds"] for r in rows])),
            "total": time.perf_counter() - started,
        },
        best_test=best_test,
        best_test_epochs=best_epochs,
    )
    found = [_predicted(experiment, corpus, outcome, index) for index in range(len(seeds))]
    content["temperature"] = [_temperature(corpus, *f) for f in found]
    content["calibration_error"] = {
        split: _calibration_error(corpus, found, content["temperature"], split) for split in outcome if split != "train"
    }
    content["speed"] = _speed(experiment, corpus, config, len(rows) - first, timing)
    _write_predictions(corpus, found, content["temperature"], seeds, directory)
    _write_pictures(content, corpus, config, rows, directory)
    directory.write_text(TABLE, results.table(content))
    return content


def _best_test(rows: Sequence[dict[str, Any]], config: Any) -> tuple[list[int], list[dict[str, Any]]]:
    """Each seed's best epoch on test by the same metric, and its scores."""
    values = np.array([np.atleast_1d(r["test"][config.eval.select]) for r in rows])
    chosen = values.argmax(axis=0)
    confusions = [np.array(rows[r]["test"]["confusion"]) for r in chosen]
    confusions = [c if config.num_seeds == 1 else c[s] for s, c in enumerate(confusions)]
    return [rows[r]["epoch"] for r in chosen], [score(c.astype(np.int32)) for c in confusions]


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
    nodes = int((corpus.split == "train").sum()) * len(corpus.modalities)
    inside = timing["train"] + timing["evaluate"] + timing["diagnose"]
    return {
        "nodes_per_epoch": nodes,
        "slots_per_epoch": layout.steps * layout.rows * layout.length * len(corpus.modalities),
        "nodes_per_second": nodes * config.num_seeds * epochs / timing["train"] if timing["train"] else 0.0,
        "share_outside_compiled": 1 - inside / timing["loop"] if timing["loop"] else 0.0,
    }


def _predicted(
    experiment: train.Experiment, corpus: Corpus, outcome: dict[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [n] of the utterances that were evaluated, and their probabilities [n, C] as trained."""
    parts = [(experiment.index[s].utterance[:-1], outcome[s][seed]["probabilities"]) for s in outcome]
    utterance = np.concatenate([u.reshape(-1) for u, _ in parts])
    probabilities = np.concatenate([p.reshape(-1, corpus.num_classes) for _, p in parts])
    return utterance[utterance != PADDING], probabilities[utterance != PADDING]


def _temperature(corpus: Corpus, utterance: np.ndarray, probabilities: np.ndarray) -> float:
    """Fitted on the validation split."""
    valid = corpus.split[utterance] == "valid"
    return calibration.fit_temperature(probabilities[valid], corpus.label[utterance[valid]])


def _calibration_error(
    corpus: Corpus, found: Sequence[tuple[np.ndarray, np.ndarray]], temperatures: Sequence[float], split: str
) -> dict[str, dict[str, Any]]:
    """Expected calibration error of a split as trained ("before") and with the temperature ("after")."""
    scores = []
    for (utterance, probabilities), temperature in zip(found, temperatures, strict=True):
        chosen = corpus.split[utterance] == split
        label, p = corpus.label[utterance[chosen]], probabilities[chosen]
        after = calibration.scale(p, temperature)
        error = calibration.expected_calibration_error
        scores.append({"before": error(p, label), "after": error(after, label)})
    return results.summarise(scores)


def _write_predictions(
    corpus: Corpus,
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    temperatures: Sequence[float],
    seeds: Sequence[int],
    directory: WorkDir,
) -> None:
    for (utterance, probabilities), temperature, seed in zip(found, temperatures, seeds, strict=True):
        path = directory.path / "predictions" / f"seed_{seed}.csv"
        results.write_predictions(path, corpus, utterance, calibration.scale(probabilities, temperature))


def _write_pictures(
    content: dict[str, Any], corpus: Corpus, config: Any, rows: Sequence[dict[str, Any]], directory: WorkDir
) -> None:
    select, selected = config.eval.select, content["selected_epochs"]
    terms = [name for name in rows[0]["train"] if name not in ("total", "gradient_norm")]
    curves = figures.training_curves(rows, select, terms, selected)
    directory.write_bytes("training_curves.png", curves)
    split = results.reported_split(content)
    confusion = np.asarray(content[split]["confusion"])
    title = f"{config.experiment}, {split}, epoch chosen on validation"
    directory.write_bytes("confusion_matrix.png", figures.confusion_matrix(confusion, corpus.label_names, title))

"""Write the files of a finished run: scores, calibration, speed, predictions, pictures and the table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ariigcn_jax import parallel
from ariigcn_jax.analysis import calibration
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import divergence, figures, results
from ariigcn_jax.runs.progress import Progress, Run
from ariigcn_jax.runs.workdir import json_safe
from ariigcn_jax.training.seeds import Seeds
from ariigcn_jax.types import PADDING, SPLITS, Corpus, UserError

TABLE = "results.md"
Outcome = Mapping[str, Mapping[str, np.ndarray]]  # split -> result of `Seeds.evaluate`


class Answers(NamedTuple):
    """Hold the answers of a seed's model for all splits, not calibrated."""

    utterance: np.ndarray  # [n] int, index in the corpus
    values: np.ndarray  # [n, O]

    def decisions(self, corpus: Corpus, split: str) -> tuple[np.ndarray, ...]:
        """Return the `Task.decisions` of a split."""
        chosen = corpus.answered_as[self.utterance] == split
        utterance = self.utterance[chosen]
        target = None if corpus.target is None else corpus.target[utterance]
        return tasks.get(corpus.task).decisions(self.values[chosen], corpus.label[utterance], target)


def write(run: Run, progress: Progress, started: float, first: int, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Evaluate the chosen epochs, on the test split if the config asks for it, and write all files but results.json.

    Args:
      run: with its log.
      progress: at its end.
      started: time.perf_counter at this start of the run.
      first: epochs done by earlier starts.
      seconds: spent compiling, training, evaluating, … by this start.

    Returns:
      The content of results.json; {} in all processes but the first.

    Raises:
      UserError: an answer is not finite.
    """
    config, corpus, seeds = run.config, run.corpus, run.seeds
    there = [s for s in SPLITS if np.any(corpus.answered_as == s)]
    outcome = {s: seeds.evaluate(s, progress.best) for s in there if s != "test" or config.eval.test}
    check_answers(seeds, corpus, outcome)
    if not parallel.is_first():
        return {}
    rows = run.directory.read_metrics()
    answers = [_answers(seeds, outcome, index) for index in range(len(seeds.numbers))]
    temperatures = [temperature(corpus, of_seed) for of_seed in answers]
    about = dict(
        experiment=config.experiment,
        task=corpus.task,
        label_names=list(run.task.counted_names(corpus.label_names, corpus.target_names)),
        seeds=list(seeds.numbers),
        members=seeds.members,
        cross_validation=corpus.fold is not None,
        select=config.eval.select,
        epoch=config.eval.epoch,
        selected_epochs=progress.best_epoch.tolist(),
    )
    content = results.results(
        about,
        run.scores("valid", outcome["valid"]),
        run.scores("test", outcome["test"]) if "test" in outcome and corpus.labelled("test").any() else None,
        {**seconds, "epoch_mean": np.mean([r["seconds"] for r in rows]), "total": time.perf_counter() - started},
        _best_test(run, rows) if config.eval.report_best_test else None,
    )
    content["temperature"] = temperatures
    if run.task.probabilistic:
        measured = {s: _calibration(corpus, answers, temperatures, s) for s in outcome if s != "train"}
        content["calibration_error"] = {split: error for split, (error, _) in measured.items()}
        content["reliability"] = {split: bins for split, (_, bins) in measured.items()}
    content["speed"] = _speed(run, len(rows) - first, seconds)
    for number, of_seed, t in zip(seeds.numbers, answers, temperatures, strict=True):
        path = run.directory.path / "predictions" / f"seed_{number}.csv"
        results.write_predictions(path, corpus, of_seed.utterance, run.task.calibrate(of_seed.values, t))
    _write_pictures(run, content, rows)
    run.directory.write_text(TABLE, results.table(content))
    return content


def unanswered(seeds: Seeds, split: str, outcome: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return where a seed's answer to an utterance is not finite: [S, rows, L] bool."""
    there = seeds.experiment.index[split].utterance[:-1] != PADDING
    return there & ~np.isfinite(outcome["probabilities"]).all(axis=-1)


def check_answers(seeds: Seeds, corpus: Corpus, outcome: Outcome) -> None:
    """Raise a UserError that names the dialogues if an answer is not finite."""
    for split, given in outcome.items():
        bad = unanswered(seeds, split, given)
        if bad.any():
            utterances = seeds.experiment.index[split].utterance[:-1][bad.any(axis=0)]
            names = [corpus.dialogue_ids[d] for d in np.unique(corpus.dialogue[utterances])]
            seed = seeds.numbers[int(np.flatnonzero(bad.any(axis=(1, 2)))[0])]
            raise UserError(
                f"The trained model (seed {seed}) answers {len(names)} dialogue(s) of the split {split} with NaN or "
                f"infinity: {divergence.listed(names)}. Results are not written, checkpoints are. Look at the features "
                "(python -m tools.prepare inspect)."
            )


def temperature(corpus: Corpus, answers: Answers) -> float:
    """Return the temperature fitted on the validation split; 1 for a task without probabilities."""
    if not tasks.get(corpus.task).probabilistic:
        return 1.0
    return calibration.fit_temperature(*answers.decisions(corpus, "valid"))


def _answers(seeds: Seeds, outcome: Outcome, seed: int) -> Answers:
    parts = [(seeds.experiment.index[s].utterance[:-1], given["probabilities"][seed]) for s, given in outcome.items()]
    utterance = np.concatenate([u.reshape(-1) for u, _ in parts])
    values = np.concatenate([p.reshape(-1, p.shape[-1]) for _, p in parts])
    return Answers(utterance[utterance != PADDING], values[utterance != PADDING])


def _best_test(run: Run, rows: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[dict[str, Any]]]:
    """Return each seed's best epoch on test by the selection metric, and its scores."""
    values = np.array([np.atleast_1d(r["test"][run.config.eval.select]) for r in rows])
    chosen = (run.sign * values).argmax(axis=0)
    scores = []
    for s, r in enumerate(chosen):
        test = rows[r]["test"]
        kept = {k: np.asarray(v) if len(run.seeds.numbers) == 1 else np.asarray(v)[s] for k, v in test.items()}
        counts = kept.pop("confusion").astype(np.int32)
        scores.append({**kept, **run.task.by_class(counts), "confusion": counts})
    return [rows[r]["epoch"] for r in chosen], scores


def _speed(run: Run, epochs: int, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return nodes (utterances x modalities) trained per second, and the share of time outside compiled code."""
    config, corpus, layout = run.config, run.corpus, run.seeds.experiment.layout["train"]
    nodes = int(corpus.training.sum()) * len(corpus.modalities)
    inside = seconds["train"] + seconds["evaluate"] + seconds["diagnose"]
    trained = nodes * config.num_seeds * (config.members if corpus.fold is None else config.members - 1) * epochs
    return {
        "nodes_per_epoch": nodes,
        "slots_per_epoch": layout.steps * layout.rows * layout.length * len(corpus.modalities),
        "nodes_per_second": trained / seconds["train"] if seconds["train"] else 0.0,
        "share_outside_compiled": 1 - inside / seconds["loop"] if seconds["loop"] else 0.0,
    }


def _calibration(
    corpus: Corpus, answers: Sequence[Answers], temperatures: Sequence[float], split: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a split's calibration error of each seed and its `reliability` over all seeds, before and after."""
    probabilities, labels = zip(*(of_seed.decisions(corpus, split) for of_seed in answers), strict=True)
    cases = {
        "before": [np.asarray(p) for p in probabilities],
        "after": [calibration.scale(p, t) for p, t in zip(probabilities, temperatures, strict=True)],
    }
    error = calibration.expected_calibration_error
    errors = [{when: error(p[s], label) for when, p in cases.items()} for s, label in enumerate(labels)]
    every = np.concatenate(labels)
    bins = {when: calibration.reliability(np.concatenate(p), every) for when, p in cases.items()}
    return results.summarise(errors), json_safe(bins)


def _write_pictures(run: Run, content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    write, split = run.directory.write_bytes, results.reported_split(content)
    write("training_curves.png", figures.training_curves(rows, run.config.eval.select, content["selected_epochs"]))
    confusion = np.asarray(content[split]["confusion"])
    title = f"{run.config.experiment}, {split}, {results.which_epoch(content)}"
    draw = figures.confusion_matrix if run.task.exclusive else figures.label_counts
    write("confusion_matrix.png", draw(confusion, content["label_names"], title))
    if "reliability" in content:
        errors = {when: summary["mean"] for when, summary in content["calibration_error"][split].items()}
        write("reliability.png", figures.reliability(content["reliability"][split], errors, title))

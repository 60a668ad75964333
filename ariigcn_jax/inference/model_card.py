"""The model card of an exported model, written from what its run recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ariigcn_jax.data import leakage
from ariigcn_jax.nn.graph import WHOLE_DIALOGUE
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import results as scores_of_runs
from ariigcn_jax.runs import runner
from ariigcn_jax.runs.workdir import ENVIRONMENT
from ariigcn_jax.types import Modality

if TYPE_CHECKING:
    from ariigcn_jax.inference.model import TrainedModel


def text(model: TrainedModel, longest: int | None) -> str:
    """The card as Markdown.

    Args:
      model: the model, with its run.
      longest: utterances of a conversation that it takes at most, or None.
    """
    corpus, environment, results = (_read(model, name) for name in (runner.CORPUS, ENVIRONMENT, runner.RESULTS))
    experiment = model.config.experiment
    parts = [
        "---\ntags: [emotion-recognition-in-conversations, jax, stablehlo]\nlibrary_name: jax\n---",
        f"# {_line(experiment)}: emotions in conversations",
        "AR-IIGCN (arXiv 2312.16778), trained with ARIIGCN-JAX. It reads the features of a conversation's utterances "
        f"and gives each utterance {_answer(model)}.",
        "## Use\n\n```python\nfrom emotions import load  # emotions.py lies beside this card\n\n"
        f'answer = load(".")\nanswer([{{"speaker": "Ann", "features": {_example(model.raw_widths)}}}])\n```\n\n'
        "Needs `jax`, `numpy` and `safetensors`. Features are given as extracted; one that is missing is left out or "
        "`None`.",
        _table(["modality", "features", "as ranks", "also standardised within"], _modalities(model)),
        "## Scores\n\n" + _scores(model, results),
        "## Trained on\n\n" + _data(corpus),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(model, longest, results, corpus)),
        "## Where it comes from\n\n" + _provenance(model, environment),
    ]
    return "\n\n".join(parts) + "\n"


def _answer(model: TrainedModel) -> str:
    return tasks.get(model.task).describe([_line(name) for name in model.output_names])


def _read(model: TrainedModel, name: str) -> dict[str, Any]:
    file = model.path / name
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _line(name: object) -> str:
    """A name from data on one line, without Markdown's or HTML's own signs."""
    clean = " ".join(str(name).split())
    for sign in ("\\", "|", "`", "*", "_", "[", "]", "#"):
        clean = clean.replace(sign, f"\\{sign}")
    return clean.replace("&", "&amp;").replace("<", "&lt;")


def _example(widths: Mapping[Modality, int]) -> str:
    return "{" + ", ".join(f"{json.dumps(m)}: [0.0] * {width}" for m, width in widths.items()) + "}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows))


def _modalities(model: TrainedModel) -> list[list[str]]:
    ranks = model.normalisation.quantiles
    return [
        [_line(m), str(width), "yes" if m in ranks else "no", ", ".join(model.copies[m]) or "–"]
        for m, width in model.raw_widths.items()
    ]


def _scores(model: TrainedModel, results: Mapping[str, Any]) -> str:
    if not results:
        return f"The run was not finished: this is epoch {model.epoch}, the best on validation so far; no test scores."
    if not results.get("test"):
        return "The run did not read its test split: there are no test scores."
    index, seeds = results["seeds"].index(model.seed), len(results["seeds"])
    rows = []
    metrics = scores_of_runs.task_of(results).metrics
    for name, metric in metrics.items():
        test, valid = results["test"][name], results["valid"][name]
        this, there = (tasks.shown(name, block["per_seed"][index]) for block in (test, valid))
        spread = [tasks.shown(name, test["mean"], test["std"])] if seeds > 1 else []
        rows.append([metric.title, this, there, *spread])
    header = [
        "in %" if all(m.scale == 100 for m in metrics.values()) else "shares in %",
        f"test, seed {model.seed} (this model)",
        "validation",
        *([f"test, mean ± std of {seeds} seeds"] if seeds > 1 else []),
    ]
    classes = [
        [
            _line(name),
            f"{100 * results['test']['class_f1']['per_seed'][index][c]:.2f}",
            str(_support(results, index, c)),
        ]
        for c, name in enumerate(results["label_names"])
    ]
    how = "the last one" if results.get("epoch") == "last" else f"chosen by {results['select']} on validation"
    chosen = f"Epoch {model.epoch}, {how}; the test split took no part in it."
    return "\n\n".join([chosen, _table(header, rows), _table(["emotion", "F1 on test", "utterances"], classes)])


def _support(results: Mapping[str, Any], index: int, label: int) -> int:
    return round(results["test"]["support"]["per_seed"][index][label])


def _data(corpus: Mapping[str, Any]) -> str:
    rows = [[s, *(str(n[k]) for k in ("dialogues", "utterances", "labelled"))] for s, n in corpus["splits"].items()]
    table = _table(["split", "dialogues", "utterances", "labelled"], rows)
    apart = "no conversation is in two splits"
    if corpus.get("cross_validation"):  # which runs of before there was such a thing do not say
        apart = (
            "no conversation of the test split is in another. Each network left another part of the others out of "
            "training, and validation is what it alone said of them"
        )
    return f"The corpus `{_line(corpus['name'])}`; {apart}.\n\n{table}"


def _limits(
    model: TrainedModel, longest: int | None, results: Mapping[str, Any], corpus: Mapping[str, Any]
) -> list[str]:
    network = model.model.options
    lines = [
        f"It knows the people, language and setting of {corpus['splits']['train']['dialogues']} conversations. Measure "
        "it on conversations of your own before you rely on it.",
        "Features must come from the same extractors as in training: other features of the same width are read without "
        "complaint and answered with nonsense.",
        "Labels are what annotators heard and saw, not what people felt. Do not decide about people by it.",
    ]
    if not tasks.get(model.task).probabilistic:
        lines.append("A score is a best guess without a statement of how sure it is.")
    elif model.temperature == 1:
        lines.append("Probabilities are as trained, not calibrated: take them as a ranking.")
    else:
        of = " of single networks, which is surer than their average" if corpus.get("cross_validation") else ""
        lines.append(f"Probabilities are calibrated on validation{of} (temperature {model.temperature:.4g}).")
    if results.get("test"):
        f1 = results["test"]["class_f1"]["per_seed"][results["seeds"].index(model.seed)]
        worst = min(range(len(f1)), key=f1.__getitem__)
        lines.append(f"Weakest on {_line(results['label_names'][worst])} (F1 {100 * f1[worst]:.1f} %).")
    window = network.graph
    if window.layers and (window.future or window.past == WHOLE_DIALOGUE):
        later = "all later utterances" if window.future == WHOLE_DIALOGUE else f"{window.future} later utterance(s)"
        lines.append(f"Each graph layer hears {later}: answers may change as a conversation goes on.")
    if network.context != "none":
        lines.append("Its context encoder reads the whole conversation: give it whole.")
    if any(model.copies.values()):
        lines.append("Copies of features are standardised over the whole conversation: give it whole.")
    leaky = leakage.parse(model.config.data.get("leaky", ()))  # which runs of before there was such a thing do not say
    if known := [_line(m) for m in model.raw_widths if m.startswith(tuple(leaky))]:
        lines.append(
            f"Features of {', '.join(known)} knew the labels that it was trained on, and were made as unsure of them "
            "as those it was tested on."
        )
    if longest:
        lines.append(f"Conversations of at most {longest} utterances.")
    return lines


def _members(model: TrainedModel) -> str:
    return f"the average of {model.members} networks; " if model.members > 1 else ""


def _provenance(model: TrainedModel, environment: Mapping[str, Any]) -> str:
    git = environment.get("git") or {}
    commit = f"{git['commit']}{' with changes' if git.get('dirty') else ''}" if git else "not known"
    options = model.model.options
    versions = ", ".join(f"{name} {v}" for name, v in environment.get("versions", {}).items())
    return "\n".join(
        [
            f"- Commit {commit}; {versions}; Python {environment.get('python')}",
            f"- {environment.get('device', {}).get('kind')}, {environment.get('date')}",
            f"- Seed {model.seed}, epoch {model.epoch}; {_members(model)}hidden size {options.hidden}, "
            f"{options.graph.layers} graph layer(s), window {options.graph.past} before and "
            f"{options.graph.future} after, context {options.context}",
        ]
    )

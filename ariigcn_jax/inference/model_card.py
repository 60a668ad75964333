"""Write the model card of an exported model from what its run recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ariigcn_jax.features import recordings
from ariigcn_jax.inference.model import TrainedModel
from ariigcn_jax.inference.words import Transcripts
from ariigcn_jax.nn.graph import WHOLE_DIALOGUE, attended
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import runner, version
from ariigcn_jax.runs.results import task_of, unit
from ariigcn_jax.runs.workdir import ENVIRONMENT
from ariigcn_jax.types import WORDS


def text(model: TrainedModel, longest: int | None) -> str:
    """Return the card as Markdown.

    Args:
      model: the model, with its run.
      longest: most utterances of a conversation; None without a limit.
    """
    files = (runner.CORPUS, ENVIRONMENT, runner.RESULTS)
    corpus, environment, results = (version.read(model.path / name) for name in files)
    gives = tasks.get(model.task).describe([_line(name) for name in model.output_names])
    extracted = {m: width for m, width in model.raw_widths.items() if m != WORDS or model.words is None}
    example = ", ".join(f"{json.dumps(m)}: [0.0] * {width}" for m, width in extracted.items())
    given = ['"text": "Oh no!"'] if model.words else []
    given += [f'"features": {{{example}}}'] if extracted else []
    reads = " and ".join([*(["words"] if model.words else []), *(["features"] if extracted else [])])
    ranks = model.normalisation.quantiles
    modalities = [
        [_line(m), str(width), "yes" if m in ranks else "no", ", ".join(model.copies[m]) or "–"]
        for m, width in extracted.items()
    ]
    parts = [
        "---\ntags: [emotion-recognition-in-conversations, jax, stablehlo]\nlibrary_name: jax\n---",
        f"# {_line(model.config.experiment)}: emotions in conversations",
        "AR-IIGCN (arXiv 2312.16778), trained with ARIIGCN-JAX. "
        f"It reads the {reads} of a conversation's utterances "
        f"and gives each utterance {gives}.",
        "## Use\n\n```python\nfrom emotions import load  # emotions.py lies beside this card\n\n"
        f'answer = load(".")\nanswer([{{"speaker": "Ann", {", ".join(given)}}}])\n```\n\n'
        f"Needs {'`tokenizers`, ' if model.words else ''}`jax`, `numpy` and `safetensors`. Give features as "
        "extracted; leave out a missing one, or give `None`.",
        "JAX promises to read `model.stablehlo` for six months from the date in `model.json`. Where a newer one does "
        "not, `python -m tools.export --refresh FOLDER` of ARIIGCN-JAX makes the file again.",
        *([_table(["modality", "features", "as ranks", "also standardised within"], modalities)] if modalities else []),
        *([_recipes(model)] if model.recipes else []),
        *([_words(model.words, model.config.model.text)] if model.words else []),
        "## Scores\n\n" + _scores(model, results),
        "## Trained on\n\n" + _data(corpus),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(model, longest, results, corpus)),
        "## Where it comes from\n\n" + _provenance(model, environment),
    ]
    return "\n\n".join(parts) + "\n"


def _line(name: object) -> str:
    """Return a name on one line, with Markdown's and HTML's signs escaped."""
    clean = re.sub(r"[\\|`*_\[\]#]", r"\\\g<0>", " ".join(str(name).split()))
    return clean.replace("&", "&amp;").replace("<", "&lt;")


def _words(words: Transcripts, options: Any) -> str:
    """Say which text encoder it is, how it was used, and whose."""
    encoder, (before, after) = words.encoder, words.turns
    each = f" by each of the {len(words.trained)} networks" if len(words.trained) > 1 else ""
    known = {"frozen": "was not trained", "full": f"was trained along{each}, all of it"}
    how = known.get(
        options.train, f"was trained along{each} in its last {options.train.removeprefix('last_')} layer(s)"
    )
    name = options.encoder if not Path(options.encoder).is_absolute() else Path(options.encoder).name
    return (
        f"## Words\n\nThe text encoder `{_line(name)}` (checksum {encoder.pretrained.digest}) {how}. Of each utterance "
        f"it reads at most {options.max_tokens} tokens, with up to {before} turn(s) before and {after} after it; the "
        f"vector is the {encoder.pooling} over tokens of the hidden state(s) {', '.join(map(str, encoder.layers))}.\n\n"
        "Its pretrained weights are its authors': their licence holds for the parameters in this folder, too."
    )


def _recipes(model: TrainedModel) -> str:
    """Say how features were made, where that is known."""
    rows = [[_line(m), _line(recordings.described(recipe))] for m, recipe in model.recipes.items()]
    return "## Features\n\nMade by `python -m tools.features`, or by training itself, so:\n\n" + _table(
        ["modality", "how"], rows
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows))


def _scores(model: TrainedModel, results: Mapping[str, Any]) -> str:
    if not results:
        return f"The run was not finished: this is epoch {model.epoch}, the best on validation so far; no test scores."
    if not results.get("test"):
        return "The run did not read its test split: there are no test scores."
    index, seeds, task = results["seeds"].index(model.seed), len(results["seeds"]), task_of(results)
    rows = []
    for name, metric in task.metrics.items():
        test, valid = results["test"][name], results["valid"][name]
        row = [metric.title, *(tasks.shown(name, block["per_seed"][index]) for block in (test, valid))]
        rows.append(row + ([tasks.shown(name, test["mean"], test["std"])] if seeds > 1 else []))
    header = [unit(task), f"test, seed {model.seed} (this model)", "validation"]
    header += [f"test, mean ± std of {seeds} seeds"] if seeds > 1 else []
    f1, support = (results["test"][name]["per_seed"][index] for name in ("class_f1", "support"))
    classes = [
        [_line(name), f"{100 * f1[c]:.2f}", str(round(support[c]))] for c, name in enumerate(results["label_names"])
    ]
    how = "the last one" if results.get("epoch") == "last" else f"chosen by {results['select']} on validation"
    chosen = f"Epoch {model.epoch}, {how}; the test split took no part in it."
    return "\n\n".join([chosen, _table(header, rows), _table(["emotion", "F1 on test", "utterances"], classes)])


def _data(corpus: Mapping[str, Any]) -> str:
    rows = [[s, *(str(n[k]) for k in ("dialogues", "utterances", "labelled"))] for s, n in corpus["splits"].items()]
    table = _table(["split", "dialogues", "utterances", "labelled"], rows)
    apart = "no conversation is in two splits"
    if corpus["cross_validation"]:
        apart = (
            "no conversation of the test split is in another. Each network left out another fold of the rest, and "
            "validation scores its answers on that fold"
        )
    return f"The corpus `{_line(corpus['name'])}`; {apart}.\n\n{table}"


def _limits(
    model: TrainedModel, longest: int | None, results: Mapping[str, Any], corpus: Mapping[str, Any]
) -> list[str]:
    lines = [
        f"It was trained on {corpus['splits']['train']['dialogues']} conversations of one setting and language. "
        "Measure it on your own conversations before you rely on it.",
        "Features must come from the extractors of training: other features of the same width give wrong answers "
        "without an error."
        if model.words is None or len(model.modalities) > 1
        else "Words must be of the language and kind of its training.",
        "Labels are what annotators perceived, not what people felt. Do not decide about people by it.",
    ]
    if not tasks.get(model.task).probabilistic:
        lines.append("A score comes without a measure of its uncertainty.")
    elif model.temperature == 1:
        lines.append("Probabilities are as trained, not calibrated: use them as a ranking.")
    else:
        of = " of single networks, which is surer than their average" if corpus["cross_validation"] else ""
        lines.append(f"Probabilities are calibrated on validation{of} (temperature {model.temperature:.4g}).")
    if results.get("test"):
        f1 = results["test"]["class_f1"]["per_seed"][results["seeds"].index(model.seed)]
        worst = min(range(len(f1)), key=f1.__getitem__)
        lines.append(f"Weakest on {_line(results['label_names'][worst])} (F1 {100 * f1[worst]:.1f} %).")
    _, future = attended(model.model.options.graph)
    if future:
        later = "all later utterances" if future == WHOLE_DIALOGUE else f"{future} later utterance(s)"
        lines.append(f"Each graph layer attends to {later}: answers may change as a conversation goes on.")
    if model.model.options.context != "none":
        lines.append("Its context encoder reads the whole conversation: give it whole.")
    if any(model.copies.values()):
        lines.append("Copies of features are standardised over the whole conversation: give it whole.")
    return lines + ([f"Conversations of at most {longest} utterances."] if longest else [])


def _provenance(model: TrainedModel, environment: Mapping[str, Any]) -> str:
    git, options = environment.get("git") or {}, model.model.options
    commit = f"{git['commit']}{' with changes' if git.get('dirty') else ''}" if git else "not known"
    versions = ", ".join(f"{name} {v}" for name, v in environment.get("versions", {}).items())
    members = f"the average of {model.members} networks; " if model.members > 1 else ""
    return (
        f"- Commit {commit}; {versions}; Python {environment.get('python')}\n"
        f"- {environment.get('device', {}).get('kind')}, {environment.get('date')}\n"
        f"- Seed {model.seed}, epoch {model.epoch}; {members}hidden size {options.hidden}, {options.graph.layers} "
        f"graph layer(s), window {options.graph.past} before, {options.graph.future} after, context {options.context}"
    )

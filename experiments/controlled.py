"""Controlled checks on generated conversations, whose truth is known: when ICCL, IMCL and TGAN help, when they do not,
and where they break.

    python -m experiments.controlled --studies=iccl_separation,imcl_rotation --seeds=3 --workdir=runs/controlled
    python -m experiments.controlled --workdir=runs/controlled

A study varies one property of the conversations and trains a small model with one auxiliary loss and without it:

{studies}

What comes out below --workdir: controlled.md, .csv and .png; what is in controlled.jsonl is not trained again. Numbers
are of the test split: the weighted F1; how far classes lie apart (silhouette and inter- over intra-class distance),
in the features as given and in the graph's output, inside each modality and, "across", with all modalities' vectors in
one space; and the gap between modalities (MMD²), also of the codes that TGAN works on; and, with the loss, all of
these in the space of its projections, where ICCL and IMCL pull. Each seed draws conversations of its own, so intervals
tell of other conversations too. Model and training are small and fixed (`model_config`): differences count here, not
scores.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import importlib.util
import io
import json
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ariigcn_jax import data as corpora
from ariigcn_jax.analysis import statistics
from ariigcn_jax.types import Batch, Corpus, Outputs, UserError
from experiments.command import call

# All dialogues and features are equally long, so that all corpora have the same shapes and a model is compiled once for
# all of them. Each modality shows all classes unless a study says otherwise.
SHAPES = dict(dialogues=120, utterances=(8, 8), valid=0.05, test=0.45, widths=dict(text=16, audio=16))
CONVERSATIONS = dict(**SHAPES, classes=4, separation=1.5, imbalance=0.0, shared=1.0)
# Views of one space: what makes modalities unlike each other is then what a study says, and nothing else.
ONE_SPACE = dict(common=True, warp=0.0)


@dataclasses.dataclass(frozen=True)
class Study:
    """One property varied, one loss switched.

    Attributes:
      slot: of the loss, in config.losses.
      weight: of the loss where it is on.
      vary: keyword of corpus.generate.
      values: of the keyword.
      fixed: further keywords.
      standardised: whether features are, as in every run; it takes a displacement out.
    """

    slot: str
    weight: float
    vary: str
    values: tuple[Any, ...]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    standardised: bool = True


STUDIES: Mapping[str, Study] = {
    "iccl_separation": Study("iccl", 1.0, "separation", (0.0, 1.5, 3.0)),
    "iccl_label_noise": Study("iccl", 1.0, "label_noise", (0.0, 0.3, 0.6)),
    "iccl_imbalance": Study("iccl", 1.0, "imbalance", (0.0, 0.4, 0.7)),
    "iccl_inertia": Study("iccl", 1.0, "inertia", (0.0, 0.4, 0.8), dict(contagion=0.0)),
    "imcl_rotation": Study("imcl", 1.0, "rotation", (0.0, 1.0), ONE_SPACE),
    "imcl_shared": Study("imcl", 1.0, "shared", (0.0, 0.5, 1.0)),
    "imcl_missing": Study("imcl", 1.0, "missing", (0.0, 0.3, 0.6)),
    "tgan_rotation": Study("adversarial", 1.0, "rotation", (0.0, 1.0), ONE_SPACE),
    "tgan_weak": Study("adversarial", 0.1, "rotation", (0.0, 1.0), ONE_SPACE),
    "tgan_shift": Study("adversarial", 1.0, "shift", (0.0, 2.0, 6.0), ONE_SPACE, standardised=False),
    "tgan_warp": Study("adversarial", 1.0, "warp", (0.0, 1.0, 3.0), ONE_SPACE),
    "tgan_missing": Study("adversarial", 1.0, "missing", (0.0, 0.3, 0.6), ONE_SPACE),
}
MEASURES = ("silhouette", "ratio", "silhouette across", "modality gap")
TITLES = dict(zip(MEASURES, ("silhouette", "inter / intra", "silhouette across", "gap, MMD²"), strict=True))
BEFORE = {f"features {name}": f"features: {TITLES[name]}" for name in MEASURES}
SHOWN = {"f1": "weighted F1", **{f"hidden {name}": TITLES[name] for name in MEASURES}}
SHOWN["codes modality gap"] = "codes: gap, MMD²"
AFTER = {f"contrast {name}": f"contrast space: {TITLES[name]}" for name in MEASURES}  # which is there with a contrast
KEPT = "controlled.jsonl"


def model_config(study: Study, on: bool) -> Any:
    """The small model's config: one graph layer, no loss but the emotions' and, where it is `on`, the study's."""
    from experiments import base

    config = base.get_config()
    config.update_from_flattened_dict(
        {
            "experiment": "controlled",
            "num_epochs": 15,
            "batch_size": 10,
            "model.hidden": 32,
            "model.dropout": 0.1,
            "model.contrast_width": 16,
            "model.graph.layers": 1,
            "model.graph.heads": 2,
            "model.graph.past": 2,
            "model.graph.future": 2,
            "model.graph.block": 0,
            "model.gan.generator_hidden": 32,
            "model.gan.discriminator_hidden": 32,
            "optimizer.lr": 3e-3,
            "discriminator.lr": 3e-3,
            **{f"losses.{slot}.weight": 0.0 for slot in config.losses if slot != "emotion"},
            **({f"losses.{study.slot}.weight": study.weight} if on else {}),
        }
    )
    return config.lock()


def conversations_keywords(study: Study, value: Any) -> dict[str, Any]:
    """What corpus.generate takes for the study at one value."""
    return {**CONVERSATIONS, **study.fixed, study.vary: value}


def conversations(study: Study, value: Any, seed: int) -> Corpus:
    """The study's corpus at one value; each seed draws conversations of its own."""
    corpus = corpora.generate(**conversations_keywords(study, value), seed=seed)
    if not study.standardised:
        return corpus
    return corpora.normalisation.apply(corpus, corpora.normalisation.fit(corpus))


@dataclasses.dataclass(frozen=True)
class Program:
    """A small model, compiled once and then trained on every corpus whose arrays have the same shapes.

    Attributes:
      experiment: of the config on the first such corpus; only its functions are used.
      apply: (params, rows) -> Outputs without dropout.
      epochs: how many to train.
    """

    experiment: Any
    apply: Any
    epochs: int

    def train_and_measure(self, corpus: Corpus, seed: int) -> dict[str, float]:
        """Trains to the last epoch and measures on the test split.

        The last epoch, and not a chosen one, so that a loss is not judged by how the epoch was chosen (choice).
        """
        from ariigcn_jax.data import packing
        from ariigcn_jax.objective import tasks

        def rows(split: str) -> Batch:
            where = self.experiment.index[split]
            return packing.collect(corpus, where, np.arange(len(where.source)))

        state, train = self.experiment.init(seed), rows("train")
        for _ in range(self.epochs):
            state, _ = self.experiment.epoch(state, train)
        test = rows("test")
        outputs = self.apply(state.params, test)
        answer, there = np.asarray(outputs.logits).argmax(axis=-1), test.label >= 0
        confusion = np.zeros((corpus.num_classes, corpus.num_classes))
        np.add.at(confusion, (test.label[there], answer[there]), 1)
        score = float(tasks.class_scores(confusion)["weighted_f1"])
        return {"f1": score, **spread(outputs, self.experiment.index["test"].utterance, corpus)}


def compiled(config: Any, corpus: Corpus) -> Program:
    """The program of a config, for corpora of this one's shapes."""
    import jax

    from ariigcn_jax.training import build

    experiment = build.make(config, corpus)
    model = build.make_model(config, corpus.description)
    apply = jax.jit(lambda params, rows: model.apply({"params": params}, rows, False))
    return Program(experiment, apply, config.num_epochs)


def spread(outputs: Outputs, utterance: np.ndarray, corpus: Corpus) -> dict[str, float]:
    """Separation of classes and distance of modalities: measures of features, codes, hidden and contrast by column."""
    from ariigcn_jax.analysis import alignment, separation

    vectors = alignment.collect([outputs], [utterance], corpus, "feature")
    spaces: dict[str, Mapping[str, np.ndarray]] = {
        "features": vectors.real,
        "codes": vectors.code,
        "hidden": vectors.hidden,
    }
    if vectors.contrast:
        spaces["contrast"] = vectors.contrast
    numbers: dict[str, float] = {}
    for space, by_modality in spaces.items():
        kept = {m: (x[vectors.present[m]], vectors.label[vectors.present[m]]) for m, x in by_modality.items()}
        inside = [separation.measure(x, label) for x, label in kept.values()]
        for name in separation.MEASURES:
            numbers[f"{space} {name}"] = float(np.mean([row[name] for row in inside]))
        if len({x.shape[1] for x, _ in kept.values()}) == 1 and len(kept) > 1:
            rows, labels = (np.concatenate(part) for part in zip(*kept.values(), strict=True))
            numbers[f"{space} silhouette across"] = separation.measure(rows, labels)["silhouette"]
            numbers[f"{space} modality gap"] = _gap(by_modality, vectors.present)
    return numbers


def _gap(by_modality: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]) -> float:
    """Mean MMD² over pairs of modalities."""
    from ariigcn_jax.analysis import alignment

    values = []
    names = list(by_modality)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            there = present[a] & present[b]
            x, y = alignment.common_scale(by_modality[a][there], by_modality[b][there])
            sides = np.repeat([[1.0], [-1.0]], len(x), axis=0)
            values.append(float(alignment.mmd2(alignment.kernel(x, y), sides)[0]))
    return float(np.mean(values))


def run(names: Sequence[str], seeds: int, folder: Path) -> list[dict[str, Any]]:
    """Trains what `folder` does not have yet.

    Args:
      names: of STUDIES.
      seeds: number of seeds, from 0; each is that of the conversations and of the model.
      folder: where rows are kept, one line as soon as it is measured.

    Returns:
      A row for each study, value, state of the loss and seed: study, vary, value, loss, seed and the numbers.
    """
    kept = _kept(folder)
    programs: dict[Any, Program] = {}
    found = []
    jobs = [(name, value, on) for name in names for value in STUDIES[name].values for on in (False, True)]
    for name, value, on in tqdm(jobs, unit="model"):
        study = STUDIES[name]
        config, given = model_config(study, on), conversations_keywords(study, value)
        labels = dict(study=name, vary=study.vary, value=value, loss=study.slot if on else "none")
        made = zlib.crc32(json.dumps([config.to_dict(), given, study.standardised], sort_keys=True).encode())
        for seed in range(seeds):
            if (made, seed) not in kept:
                corpus = conversations(study, value, seed)
                shapes = (config.to_json(sort_keys=True), tuple(corpus.widths.items()), corpus.dialogue.tobytes())
                if shapes not in programs:
                    programs[shapes] = compiled(config, corpus)
                row: dict[str, Any] = {"made": made, "seed": seed}
                row |= programs[shapes].train_and_measure(corpus, seed)
                with (folder / KEPT).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                kept[made, seed] = row
            found.append({**labels, **kept[made, seed]})
    return found


def _kept(folder: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """(what was made, seed) -> row; a half-written last line is left out."""
    path = folder / KEPT
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    if len(rows) < len(lines):
        path.write_text("".join(lines[: len(rows)]), encoding="utf-8")
    return {(row["made"], row["seed"]): row for row in rows}


# --- What comes out ---------------------------------------------------------------------------------------------------


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: for each study a line a value; means over seeds without the loss, and what the loss changes."""
    parts = []
    for name, found in _by_study(rows).items():
        study = STUDIES[name]
        values = list(dict.fromkeys(row["value"] for row in found))
        before = [c for c in BEFORE if c in found[0]]
        shown = [c for c in SHOWN if c in found[0]]
        after = [c for c in AFTER if c in found[-1]]
        header = [study.vary, *(BEFORE[c] for c in before), *(SHOWN[c] for c in shown), *(AFTER[c] for c in after)]
        lines = [f"## {name}: losses.{study.slot}.weight from 0 to {study.weight:g}", "", _line(header)]
        lines.append(_line(["---:"] * len(header)))
        for value in values:
            off = {c: _of(found, value, "none", c) for c in (*before, *shown)}
            cells = [str(value), *(_three(off[c]) for c in before)]
            cells += [_changed(off[c], _of(found, value, study.slot, c)) for c in shown]
            cells += [_three(_of(found, value, study.slot, c)) for c in after]
            lines.append(_line(cells))
        parts.append("\n".join(lines))
    seeds = len({row["seed"] for row in rows})
    words = (
        f"Without the loss, and what it changes: means over {seeds} seed(s), each with conversations and parameters of "
        "its own; ± half the 95 % interval of the change, seed by seed (Student's t), and * where that excludes 0, "
        "uncorrected for their number."
    )
    return "\n\n".join([*parts, words]) + "\n"


def _changed(off: Sequence[float], on: Sequence[float]) -> str:
    """`0.712 + 0.012 ± 0.008 *`."""
    change = np.subtract(on, off)
    mean, half = float(change.mean()), statistics.half_interval(change)
    words = f"{_three(off)} {'−' if mean < 0 else '+'} {abs(mean):.3f}"
    return words if np.isnan(half) else f"{words} ± {half:.3f}" + " *" * (abs(mean) > half)


def _three(values: Sequence[float]) -> str:
    """Their mean with three digits behind the point and a proper minus."""
    return f"{np.mean(values):.3f}".replace("-", "−")


def _by_study(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["study"], []).append(row)
    return groups


def _of(rows: Sequence[Mapping[str, Any]], value: Any, loss: str, column: str) -> list[float]:
    return [row[column] for row in rows if row["value"] == value and row["loss"] == loss]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def picture(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A line of panels for each study, with the loss and without."""
    from ariigcn_jax.runs import figures

    lines = []
    for name, found in _by_study(rows).items():
        study = STUDIES[name]
        values = list(dict.fromkeys(row["value"] for row in found))
        line: list[dict[str, Any]] = []
        for column, title in SHOWN.items():
            if column in found[0]:
                curves = {loss: [_of(found, v, loss, column) for v in values] for loss in ("none", study.slot)}
                line.append(dict(title=f"{name}: {title}", x=study.vary, places=values, curves=curves))
        lines.append(line + [{}] * (len(SHOWN) - len(line)))
    return figures.panels(lines)


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """All numbers of all seeds."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "made"))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def command(options: argparse.Namespace) -> None:
    """Runs what the options say."""
    from ariigcn_jax.files import write_atomically
    from ariigcn_jax.runs import compilation

    if importlib.util.find_spec("sklearn") is None:
        raise UserError("This takes scikit-learn, which is not installed: pip install -e '.[report]'")
    names = list(dict.fromkeys(options.studies.split(","))) if options.studies else list(STUDIES)
    if unknown := [name for name in names if name not in STUDIES]:
        raise UserError(f"There is no study {unknown[0]!r}; there are {', '.join(STUDIES)}.")
    if options.seeds < 1:
        raise UserError(f"--seeds={options.seeds} must be at least 1.")
    try:
        options.workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={options.workdir}: cannot be made ({error.strerror}).") from error
    compilation.enable()
    rows = run(names, options.seeds, options.workdir)
    words = table(rows)
    write_atomically(options.workdir / "controlled.md", words.encode())
    write_atomically(options.workdir / "controlled.csv", comma_separated(rows).encode())
    write_atomically(options.workdir / "controlled.png", picture(rows))
    print(f"\n{words}\n{options.workdir}: controlled.md, .csv, .png")


def options() -> argparse.ArgumentParser:
    """The command line's options."""
    listed = "\n".join(
        f"    {name:18} {s.vary} in {', '.join(map(str, s.values))}, without and with {s.slot}"
        for name, s in STUDIES.items()
    )
    made = argparse.ArgumentParser(
        description=(__doc__ or "").format(studies=listed), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--studies", default="", help="names joined by commas (default: all)")
    made.add_argument("--seeds", type=int, default=3, help="seeds of each model (default: 3)")
    made.add_argument("--workdir", type=Path, default=Path("runs/controlled"), help="default: runs/controlled")
    return made


if __name__ == "__main__":
    sys.exit(call(command, options(), sys.argv[1:]))

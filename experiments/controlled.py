"""Train on generated conversations with known properties: when ICCL, IMCL and TGAN help, and when they do not.

    python -m experiments.controlled --studies=iccl_separation,imcl_rotation --seeds=3 --workdir=runs/controlled
    python -m experiments.controlled --workdir=runs/controlled

A study varies one property of the conversations and trains a small model without and with one auxiliary loss:

{studies}

The work directory gets controlled.md, .csv and .png; what is in its controlled.jsonl is not trained again. Values are
measured on the test split: the weighted F1; how far classes lie apart (silhouette and inter- over intra-class
distance) inside each modality and, "across", with the vectors of all modalities in one space; and the gap between
modalities (MMD²). All are measured in the features as given, in the graph's output and, with ICCL or IMCL, in the
space of their projections; the gap also in the codes that TGAN works on. Each seed draws its own conversations. Model
and training are small and fixed (`model_config`): only differences count, not scores.
"""

import argparse
import importlib.util
import json
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from ariigcn_jax import data
from ariigcn_jax.analysis import statistics
from ariigcn_jax.commands.command import call
from ariigcn_jax.data import prepare
from ariigcn_jax.files import explaining, write_atomically
from ariigcn_jax.options import base
from ariigcn_jax.runs import compilation, figures, tables
from ariigcn_jax.types import Corpus, Outputs, UserError

# All corpora of a study have the same shapes, so a model is compiled once. Each modality shows all classes.
SHAPES = dict(dialogues=120, utterances=(8, 8), valid=0.05, test=0.45, widths=dict(text=16, audio=16))
CONVERSATIONS = dict(**SHAPES, classes=4, separation=1.5, imbalance=0.0, shared=1.0)
# Modalities are views of one space, so that they differ only by what a study varies.
ONE_SPACE = dict(common=True, warp=0.0)


class Study(NamedTuple):
    """The property of the conversations that is varied, and the loss that is added."""

    slot: str  # of the loss, in config.losses
    weight: float  # of the loss where it is added
    vary: str  # keyword of `data.generate`
    values: tuple[Any, ...]  # of the keyword
    fixed: Mapping[str, Any] = {}  # further keywords
    standardised: bool = True  # whether features are, which removes a displacement


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
AFTER = {f"contrast {name}": f"contrast space: {TITLES[name]}" for name in MEASURES}  # with ICCL or IMCL
KEPT = "controlled.jsonl"


def model_config(study: Study, on: bool) -> Any:
    """Return the small model's config: one graph layer, the emotion loss and, where it is `on`, the study's loss."""
    config = base.get_config()
    config.update(experiment="controlled", num_epochs=15, batch_size=10)
    config.model.update(hidden=32, dropout=0.1, contrast_width=16)
    config.model.graph.update(layers=1, heads=2, past=2, future=2, block=0)
    config.model.gan.update(generator_hidden=32, discriminator_hidden=32)
    config.optimizer.lr = config.discriminator.lr = 3e-3
    for slot, loss in config.losses.items():
        loss.weight = 1.0 if slot == "emotion" else study.weight if on and slot == study.slot else 0.0
    return config.lock()


def keywords(study: Study, value: Any) -> dict[str, Any]:
    """Return what `data.generate` takes for the study at one value."""
    return {**CONVERSATIONS, **study.fixed, study.vary: value}


def conversations(study: Study, value: Any, seed: int) -> Corpus:
    """Generate the study's corpus at one value."""
    corpus = data.generate(**keywords(study, value), seed=seed)
    return prepare.standardise(corpus)[0] if study.standardised else corpus


def compiled(config: Any, corpus: Corpus) -> Callable[[Corpus, int], dict[str, float]]:
    """Compile a config once for all corpora of one shape, as a function of corpus and seed.

    It returns what `spread` measures on the test split, and "f1", after the last epoch (choice).
    """
    import jax
    from sklearn.metrics import f1_score

    from ariigcn_jax.data import packing
    from ariigcn_jax.training import build

    experiment, model = build.make(config, corpus), build.make_model(config, corpus.description)
    index = {split: experiment.index[split] for split in ("train", "test")}
    apply = jax.jit(lambda params, rows: model.apply({"params": params}, rows, False))

    def train_and_measure(corpus: Corpus, seed: int) -> dict[str, float]:
        rows = {split: packing.collect(corpus, where, np.arange(len(where.source))) for split, where in index.items()}
        state = experiment.init(seed)
        for _ in range(config.num_epochs):
            state, _ = experiment.epoch(state, rows["train"])
        outputs = apply(state.params, rows["test"])
        answer, labelled = np.asarray(outputs.logits).argmax(axis=-1), rows["test"].label >= 0
        score = float(f1_score(rows["test"].label[labelled], answer[labelled], average="weighted"))
        return {"f1": score, **spread(outputs, index["test"].utterance, corpus)}

    return train_and_measure


def spread(outputs: Outputs, utterance: np.ndarray, corpus: Corpus) -> dict[str, float]:
    """Measure the separation of classes and the distance of modalities in a model's outputs on packed rows.

    `utterance` is [R, L], the index in the corpus; negative at padding. The result is "SPACE MEASURE" -> value, for the
    spaces features, codes, hidden and contrast, and for `separation.MEASURES`, "silhouette across" and "modality gap";
    the last two where all modalities have vectors of one width.
    """
    from ariigcn_jax.analysis import alignment, separation

    vectors = alignment.collect([outputs], [utterance], corpus, "feature")
    spaces = {"features": vectors.real, "codes": vectors.code, "hidden": vectors.hidden, "contrast": vectors.contrast}
    numbers: dict[str, float] = {}
    for space, by_modality in spaces.items():
        if not by_modality:
            continue  # a model without contrast
        kept = [(x[vectors.present[m]], vectors.label[vectors.present[m]]) for m, x in by_modality.items()]
        inside = [separation.measure(x, label) for x, label in kept]
        numbers |= {f"{space} {name}": float(np.mean([row[name] for row in inside])) for name in separation.MEASURES}
        if len({x.shape[1] for x, _ in kept}) == 1 and len(kept) > 1:
            rows, labels = (np.concatenate(part) for part in zip(*kept, strict=True))
            numbers[f"{space} silhouette across"] = separation.measure(rows, labels)["silhouette"]
            numbers[f"{space} modality gap"] = alignment.mean_mmd2(by_modality, vectors.present)
    return numbers


def run(names: Sequence[str], seeds: int, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each study, value, loss ("none" or the slot) and seed: these, "vary", and what was measured.

    Train what `folder` does not have yet; it gets each row as soon as it is measured.
    """
    kept = _kept(folder)
    programs: dict[Any, Callable[[Corpus, int], dict[str, float]]] = {}
    found = []
    jobs = [(name, value, on) for name in names for value in STUDIES[name].values for on in (False, True)]
    for name, value, on in tqdm(jobs, unit="model"):
        study = STUDIES[name]
        config = model_config(study, on)
        labels = dict(study=name, vary=study.vary, value=value, loss=study.slot if on else "none")
        described = [config.to_dict(), keywords(study, value), study.standardised]
        made = zlib.crc32(json.dumps(described, sort_keys=True).encode())
        for seed in range(seeds):
            if (made, seed) not in kept:
                corpus = conversations(study, value, seed)
                shapes = (config.to_json(sort_keys=True), tuple(corpus.widths.items()), corpus.dialogue.tobytes())
                if shapes not in programs:
                    programs[shapes] = compiled(config, corpus)
                kept[made, seed] = {"made": made, "seed": seed, **programs[shapes](corpus, seed)}
                with (folder / KEPT).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(kept[made, seed]) + "\n")
            found.append({**labels, **kept[made, seed]})
    return found


def _kept(folder: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """Return (what was made, seed) -> row; a last line that was not finished is removed from the file."""
    path = folder / KEPT
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    if len(rows) < len(lines):
        path.write_text("".join(lines[: len(rows)]), encoding="utf-8")
    return {(row["made"], row["seed"]): row for row in rows}


# --- Tables and charts ------------------------------------------------------------------------------------------------


def table(rows: pd.DataFrame) -> str:
    """Return rows of `run` as Markdown: for each study and value the means over seeds, and what the loss changes."""
    parts = []
    for name, found in rows.groupby("study", sort=False):
        study, found = STUDIES[name], found.dropna(axis=1, how="all")
        before, shown, after = ({c: t for c, t in titles.items() if c in found} for titles in (BEFORE, SHOWN, AFTER))
        cells = []
        for value, group in found.groupby("value", sort=False):
            off, on = (group[group["loss"] == loss] for loss in ("none", study.slot))
            changed = (_changed(off[c], on[c]) for c in shown)
            cells.append([str(value), *(_mean(off[c]) for c in before), *changed, *(_mean(on[c]) for c in after)])
        title = f"## {name}: losses.{study.slot}.weight from 0 to {study.weight:g}"
        header = [study.vary, *before.values(), *shown.values(), *after.values()]
        parts.append(f"{title}\n\n{tables.markdown(header, cells)}")
    parts.append(
        f"Without the loss, and what it changes: means over {rows['seed'].nunique()} seed(s), each with its own "
        "conversations and parameters; ± half the 95 % interval of the change, seed by seed (Student's t); * where "
        "that excludes 0, uncorrected for the number of values."
    )
    return "\n\n".join(parts) + "\n"


def _changed(off: pd.Series, on: pd.Series) -> str:
    """Return `0.712 + 0.012 ± 0.008 *`."""
    change = on.to_numpy() - off.to_numpy()
    mean, half = float(change.mean()), statistics.half_interval(change)
    words = f"{_mean(off)} {'−' if mean < 0 else '+'} {abs(mean):.3f}"
    return words if np.isnan(half) else f"{words} ± {half:.3f}" + " *" * (abs(mean) > half)


def _mean(values: pd.Series) -> str:
    return f"{values.mean():.3f}".replace("-", "−")


def chart(rows: pd.DataFrame) -> bytes:
    """Return PNG: a line of panels for each study, without and with the loss."""
    lines = []
    for name, found in rows.groupby("study", sort=False):
        vary, found = STUDIES[name].vary, found.dropna(axis=1, how="all")
        places = list(found["value"].unique())
        panels: list[dict[str, Any]] = []
        for column, title in SHOWN.items():
            if column in found:
                curves = {
                    loss: [group.loc[group["value"] == value, column] for value in places]
                    for loss, group in found.groupby("loss", sort=False)
                }
                panels.append(dict(title=f"{name}: {title}", x=vary, places=places, curves=curves))
        lines.append(panels + [{}] * (len(SHOWN) - len(panels)))
    return figures.panels(lines)


def command(options: argparse.Namespace) -> None:
    """Run the studies that the options name."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError("This command needs scikit-learn, which is not installed: pip install -e '.[report]'")
    names = list(dict.fromkeys(options.studies.split(","))) if options.studies else list(STUDIES)
    if unknown := [name for name in names if name not in STUDIES]:
        raise UserError(f"There is no study {unknown[0]!r}; there are {', '.join(STUDIES)}.")
    if options.seeds < 1:
        raise UserError(f"--seeds={options.seeds} must be at least 1.")
    folder: Path = options.workdir
    with explaining(folder):
        folder.mkdir(parents=True, exist_ok=True)
    compilation.enable()
    rows = pd.DataFrame(run(names, options.seeds, folder))
    text = table(rows)
    columns = rows.columns.difference(["made"], sort=False)
    write_atomically(folder / "controlled.md", text.encode())
    write_atomically(folder / "controlled.csv", rows.to_csv(columns=columns, index=False).encode())
    write_atomically(folder / "controlled.png", chart(rows))
    print(f"\n{text}\n{folder}: wrote controlled.md, .csv and .png.")


def options() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    listed = "\n".join(
        f"    {name:18} {s.vary} in {', '.join(map(str, s.values))}, without and with {s.slot}"
        for name, s in STUDIES.items()
    )
    description = (__doc__ or "").format(studies=listed)
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--studies", default="", help="names joined by commas (default: all)")
    made.add_argument("--seeds", type=int, default=3, help="seeds of each model (default: 3)")
    made.add_argument("--workdir", type=Path, default=Path("runs/controlled"), help="default: runs/controlled")
    return made


if __name__ == "__main__":
    sys.exit(call(command, options(), sys.argv[1:]))

"""A finished (or unfinished) run → the trained model, ready to be applied to conversations."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from ariigcn_jax import __version__
from ariigcn_jax.data import Normalisation, labels, normalisation, packing, targets
from ariigcn_jax.data.readers import conversations as conversations
from ariigcn_jax.inference.prediction import Prediction, explain, forward, predict
from ariigcn_jax.inference.streaming import Stream
from ariigcn_jax.nn import graph
from ariigcn_jax.nn.model import Model
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import checkpoint, runner
from ariigcn_jax.runs.workdir import CONFIG
from ariigcn_jax.training import build
from ariigcn_jax.types import PADDING, UNLABELED, Array, Batch, Corpus, Description, Modality, Outputs, UserError

SHORTEST_ROW = 16  # slots; longer rows come in steps of at most a half, so that a new length seldom compiles anew
BATCH_EDGES = 2**19  # edge slots of a batch, at most (unless one row has more): bounds the memory of attention weights


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """The model of a run's chosen epoch; made by `load`.

    Attributes:
      path: the run's work directory.
      config: every option of the run, as `experiments.base.get_config`.
      model: the network, whole: generators and contrast heads are there where the run trained them.
      params: of the chosen epoch of the chosen seed; of several members with a leading axis of them.
      normalisation: what features are standardised with.
      widths: modality -> d_m that the network takes, in its order; its `copies` are counted.
      label_names: C names.
      temperature: what logits are divided by before the softmax; 1 where the run was not calibrated.
      seed: the chosen one.
      epoch: the chosen one.
      finished: whether the run has its results; else the epoch is the best one so far.
      task: what it was trained for.
      target_names: O names; () for classes.
      members: networks whose answers are averaged.
    """

    path: Path
    config: FrozenConfigDict
    model: Model
    params: Any
    normalisation: Normalisation
    widths: dict[Modality, int]
    label_names: tuple[str, ...]
    temperature: float
    seed: int
    epoch: int
    finished: bool
    task: str = "classification"
    target_names: tuple[str, ...] = ()
    members: int = 1

    @property
    def output_names(self) -> tuple[str, ...]:
        """O names: of the classes, of the score, or of the labels."""
        return self.target_names or self.label_names

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.widths)

    @property
    def copies(self) -> dict[Modality, tuple[str, ...]]:
        """modality -> within what the copies of its features are standardised that follow them."""
        return {m: normalisation.copies(m, self.config.data) for m in self.modalities}

    @property
    def raw_widths(self) -> dict[Modality, int]:
        """modality -> number of features as extracted, without copies."""
        copies = self.copies
        return {m: width // (1 + len(copies[m])) for m, width in self.widths.items()}

    def outputs(self, batch: Batch) -> Outputs:
        """The forward pass, compiled once for each shape of batch (see `batches`).

        Args:
          batch: packed from a corpus that went through `prepare`.

        Returns:
          All that the network gives, of several members as in `prediction.forward`; `logits` are not divided by the
          temperature.
        """
        return self._forward(self.params, batch)

    @functools.cached_property
    def _forward(self) -> Any:
        return jax.jit(forward(self.model, self.task, self.members))

    def __call__(self, conversation: Corpus | Iterable[conversations.Utterance]) -> Prediction:
        """Predicts the emotion of every utterance.

        Args:
          conversation: utterances in time order, as in `corpus.conversation`; or a corpus, as read.

        Returns:
          Probabilities, what each modality contributed, and attention.

        Raises:
          UserError: an utterance is not of the right form, or no modality is known to the model.
        """
        if not isinstance(conversation, Corpus):
            conversation = conversations.from_utterances(conversation)
        return predict(self, conversation)

    def stream(self, *, explain: bool = False) -> Stream:
        """Predicts conversations while they go on.

        Args:
          explain: whether contributions of the modalities and attended utterances are wanted too (a forward pass for
            each modality more).

        Returns:
          A stream; its `push` takes an utterance.

        Raises:
          UserError: the model hears a whole dialogue, so its results would change later; says which option does that.
        """
        return Stream(self, explain)

    def explained(self, batch: Batch, removal: bool) -> tuple[Array, dict[Modality, Array]]:
        """`prediction.explain` of this model, compiled once for each shape of batch."""
        return self._explain(self.params, self.temperature, batch, removal)

    @functools.cached_property
    def _explain(self) -> Any:
        lean = self.model.clone(further=frozenset())
        network, read = forward(lean, self.task, self.members), tasks.get(self.task).decode
        return jax.jit(functools.partial(explain, network, self.modalities, read), static_argnums=3)

    def prepare(self, corpus: Corpus) -> Corpus:
        """Brings a corpus into the model's form.

        Args:
          corpus: as read, not standardised. Modalities that the model does not know are dropped, those that it knows
            and the corpus lacks count as missing, and labels are matched by name; `notes` says so.

        Returns:
          The model's modalities in its order, standardised; the model's labels.

        Raises:
          UserError: a modality has another width, or none is known to the model.
        """
        if not set(corpus.modalities) & set(self.modalities):
            raise UserError(
                f"The corpus {corpus.name!r} has the modalities {', '.join(corpus.modalities)}, but this model knows "
                f"only {', '.join(self.modalities)}. Name its features as in training."
            )
        for m, width in self.raw_widths.items():
            if m in corpus.features and corpus.features[m].shape[1] != width:
                raise UserError(
                    f"{corpus.name}: {m} has {corpus.features[m].shape[1]} features an utterance, but this model was "
                    f"trained on {width}. Give features of the same extractor as in training."
                )
        notes = list(corpus.notes)
        if unknown := [m for m in corpus.modalities if m not in self.widths]:
            notes.append(f"{', '.join(unknown)}: not used, the model was not trained on it")
        if absent := [m for m in self.modalities if m not in corpus.features]:
            notes.append(f"{', '.join(absent)}: missing, the model goes by the other modalities")
        for m in self.modalities:
            if m in corpus.features and (lacking := int((~corpus.present[m]).sum())):
                notes.append(f"{m}: missing in {lacking} of {len(corpus)} utterances")
        corpus = normalisation.with_copies(corpus, self.config.data)
        here = {m: corpus.features[m] for m in self.modalities if m in corpus.features}
        corpus = normalisation.apply(dataclasses.replace(corpus, features=here), self.normalisation)
        count = len(corpus)
        label, found = _match_labels(corpus, self.label_names, self.config.data.get("relabel", ""))
        if targets.of(self.task) is not None:
            corpus, label, found = _match_targets(corpus, self, label)
        return dataclasses.replace(
            corpus,
            features={
                m: corpus.features[m] if m in here else np.zeros((count, width), np.float32)
                for m, width in self.widths.items()
            },
            present={m: corpus.present[m] if m in here else np.zeros(count, bool) for m in self.widths},
            label=label,
            label_names=self.label_names,
            notes=(*notes, *found),
        )

    def batches(self, corpus: Corpus) -> Iterator[Batch]:
        """Packs a corpus that went through `prepare` into batches of few different shapes, all splits together.

        Lengths and numbers of rows are rounded up, so that conversations of arbitrary lengths compile the forward pass
        a handful of times. `Batch.utterance` says which utterance is where.
        """
        members = np.split(np.arange(len(corpus)), np.flatnonzero(np.diff(corpus.dialogue)) + 1)
        length = _row_length(max(map(len, members)))
        past, future = graph.window(self.model.options.graph.past, self.model.options.graph.future, length)
        filled = packing.fill_rows([len(m) for m in members], length)
        most = max(1, BATCH_EDGES // (length * (past + 1 + future)))
        for first in range(0, len(filled), most):
            rows = filled[first : first + most]
            yield _pack(
                corpus, [[members[d] for d in row] for row in rows], min(_power_of_two(len(rows)), most), length
            )


def load(run: str | Path, *, seed: int | None = None) -> TrainedModel:
    """Loads the trained model of a run; changes nothing there, and the run may be under way.

    Args:
      run: the run's work directory.
      seed: one of the run's seeds; None for the one with the best validation score.

    Returns:
      The model of the epoch that validation chose.

    Raises:
      UserError: the folder is no run, it has no checkpoint yet, another version of the package made it, or it has no
        such seed.
    """
    path = Path(run).expanduser()
    if not (path / CONFIG).is_file():
        what = "is not the folder of a run" if path.is_dir() else "there is no such folder"
        raise UserError(f"{path}: {what}. Give the work directory of a run: what --workdir named, or one under runs/.")
    best, data = checkpoint.read_best(path)
    described = _described(path)
    config = FrozenConfigDict(_read_json(path / CONFIG))
    widths = {m["name"]: int(m["width"]) for m in described["modalities"]}
    label_names = tuple(described["label_names"])
    model = _rebuild(path, config, widths, described)
    task, target_names = described["task"], tuple(described["target_names"])
    index, seed = _choose_seed(path, config, best["score"], seed)
    members = config.get("members", 1)  # which runs of before there were several do not say
    mine = index if members == 1 else slice(index * members, (index + 1) * members)
    params = jax.tree.map(lambda x: jnp.asarray(x[mine]), best["params"])
    _check_params(path, model, members, params, described["version"])
    results = _read_json(path / runner.RESULTS) if (path / runner.RESULTS).exists() else None
    return TrainedModel(
        path=path,
        config=config,
        model=model,
        params=params,
        normalisation=Normalisation.from_arrays(data),
        widths=widths,
        label_names=label_names,
        temperature=_temperature(results, index),
        seed=seed,
        epoch=int(best["epoch"][index]),
        finished=results is not None,
        task=task,
        target_names=target_names,
        members=members,
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}). Copy the run's folder again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: holds no options. Copy the run's folder again.")
    return value


def _described(path: Path) -> dict[str, Any]:
    """corpus.json; refuses that of another version."""
    if not (path / runner.CORPUS).exists():
        raise _another_version(path, "an earlier version", f"it has no {runner.CORPUS}")
    content = _read_json(path / runner.CORPUS)
    if content.get("format") != runner.FORMAT:
        problem = f"its {runner.CORPUS} has the format {content.get('format')}, and {runner.FORMAT} is read here"
        raise _another_version(path, f"version {content.get('version')}", problem)
    return content


def _another_version(path: Path, version: str, problem: str) -> UserError:
    return UserError(
        f"{path}: this run was made by {version} of ariigcn_jax, and this is version {__version__}: {problem}. Use the "
        "version that made it (environment.json in its folder names the commit), or train again."
    )


def _rebuild(path: Path, config: FrozenConfigDict, widths: dict[Modality, int], described: Mapping[str, Any]) -> Model:
    """Build the network as training built it, for what corpus.json describes."""
    classes, outputs = len(described["label_names"]), len(described["target_names"] or described["label_names"])
    description = Description(tuple(widths.items()), outputs, classes, int(described["ratings"]))
    try:
        return build.make_model(ConfigDict(config), description)
    except (AttributeError, KeyError, TypeError) as error:
        problem = str(error).splitlines()[0].strip("\"'") if str(error) else type(error).__name__
        version = f"version {described['version']}"
        raise _another_version(path, version, f"its options do not fit ({problem})") from error


def _choose_seed(path: Path, config: FrozenConfigDict, scores: np.ndarray, seed: int | None) -> tuple[int, int]:
    seeds = list(range(config.seed, config.seed + len(scores)))
    if seed is None:
        index = int(np.argmax(scores))
    elif seed in seeds:
        index = seeds.index(seed)
    else:
        raise UserError(f"{path}: this run has the seeds {', '.join(map(str, seeds))}, not {seed}.")
    return index, seeds[index]


def _check_params(path: Path, model: Model, members: int, params: Any, version: str) -> None:
    """Parameters against what the network wants, by name and shape."""
    wanted = jax.eval_shape(lambda: model.init(jax.random.key(0), _nothing(model), False))["params"]
    if members > 1:
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), wanted)
    stored, expected = (
        {jax.tree_util.keystr(key, simple=True, separator="/"): x.shape for key, x in jax.tree.leaves_with_path(tree)}
        for tree in (params, wanted)
    )
    different = sorted(k for k in stored.keys() | expected.keys() if stored.get(k) != expected.get(k))
    if different:
        has, takes = (shapes.get(different[0], "not there") for shapes in (stored, expected))
        problem = f"its parameters differ, {different[0]} for one: {has} in the checkpoint, {takes} by its {CONFIG}"
        if version == __version__:
            raise UserError(f"{path}: {problem}. One of the two is of another run; copy the run's folder again.")
        raise _another_version(path, f"version {version}", problem)


def _nothing(model: Model) -> Batch:
    """A batch of one empty slot."""
    return Batch(
        features={m: jnp.zeros((1, 1, width)) for m, width in model.description.widths},
        present={m: jnp.zeros((1, 1), bool) for m, _ in model.description.widths},
        dialogue=jnp.full((1, 1), PADDING),
        speaker=jnp.zeros((1, 1), jnp.int32),
        label=jnp.full((1, 1), UNLABELED),
        n_node=jnp.ones((1, 1), jnp.int32),
        row=jnp.zeros(1, jnp.int32),
        utterance=jnp.full((1, 1), PADDING),
    )


def _temperature(results: dict[str, Any] | None, index: int) -> float:
    """What calibration on validation found; one number, or one for each seed."""
    stored = (results or {}).get("temperature", 1.0)
    return float(np.atleast_1d(stored)[index] if np.ndim(stored) else stored)


def _match_labels(corpus: Corpus, names: tuple[str, ...], relabel: str) -> tuple[np.ndarray, list[str]]:
    """Labels [U] in the model's numbering, by name after `relabel`; and what a user should be told."""
    known = {name: index for index, name in enumerate(names)}
    given, given_names = labels.relabel(corpus.label, corpus.label_names, relabel, partly=True)
    table = np.array([known.get(name, UNLABELED) for name in given_names] + [UNLABELED], np.int32)
    label = table[given]  # UNLABELED is the table's last
    lost = sorted({given_names[c] for c in np.unique(given[(given >= 0) & (label < 0)])})
    return label, [f"labels {', '.join(lost)}: not among the model's, left out of comparisons"] if lost else []


def _match_targets(corpus: Corpus, model: TrainedModel, label: np.ndarray) -> tuple[Corpus, np.ndarray, list[str]]:
    """A corpus with scores or labels in the model's order, its `label`, and what a user should be told.

    A label of the model that the corpus does not know applies to no utterance.
    """
    names, notes, kind = model.target_names, [], targets.of(model.task)
    by_name = kind is not None and kind.several
    target, known = np.zeros((len(corpus), len(names)), np.float32), corpus.label >= 0
    given = corpus.target if corpus.task == model.task else None
    if given is not None and not by_name:
        target = given[:, :1]
    elif given is not None and {*names} & {*corpus.target_names}:
        for o, name in enumerate(names):
            if name in corpus.target_names:
                target[:, o] = given[:, corpus.target_names.index(name)]
        if lost := sorted({*corpus.target_names} - {*names}):
            notes = [f"labels {', '.join(lost)}: not among the model's, left out of comparisons"]
    else:
        if known.any():
            notes = [f"labels: not those of data.task={model.task} that the model knows, left out of comparisons"]
        known = np.zeros(len(corpus), bool)
    label = np.where(known, np.maximum(label, 0), UNLABELED).astype(np.int32)
    return dataclasses.replace(corpus, task=model.task, target=target, target_names=names), label, notes


def _power_of_two(least: int) -> int:
    """The smallest one of at least `least`."""
    return 1 << (least - 1).bit_length()


def _row_length(longest: int) -> int:
    """16, 24, 32, 48, 64, …: the first of at least `longest`."""
    power = max(_power_of_two(longest), SHORTEST_ROW)
    return power * 3 // 4 if longest <= power * 3 // 4 and power > SHORTEST_ROW else power


def _pack(corpus: Corpus, rows: Sequence[Sequence[np.ndarray]], count: int, length: int) -> Batch:
    """`count` rows of `length` slots, the first of which hold dialogues, each given by its utterances' numbers."""
    utterance, dialogue = (np.full((count, length), PADDING, np.int32) for _ in range(2))
    n_node = np.zeros((count, _power_of_two(1 + max(map(len, rows)))), np.int32)
    for r, row in enumerate(rows):
        end = 0
        for number, members in enumerate(row):
            place = slice(end, end := end + len(members))
            utterance[r, place], dialogue[r, place] = members, number
            n_node[r, number] = len(members)
    n_node[:, -1] = length - n_node.sum(axis=1)
    real = utterance != PADDING
    present = {m: here[utterance] & real for m, here in corpus.present.items()}
    fields: dict[str, Any] = dict(
        features={m: np.where(present[m][..., None], x[utterance], np.float32(0)) for m, x in corpus.features.items()},
        present=present,
        dialogue=dialogue,
        speaker=np.where(real, corpus.speaker[utterance], 0).astype(np.int32),
        label=np.where(real, corpus.label[utterance], UNLABELED).astype(np.int32),
        n_node=n_node,
        row=np.arange(count, dtype=np.int32),
        utterance=utterance,
    )
    return Batch(**fields)

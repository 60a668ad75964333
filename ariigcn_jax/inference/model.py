"""Load the trained model of a run, finished or not, and apply it to conversations."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from ariigcn_jax.data import Normalisation, normalisation, packing, prepare
from ariigcn_jax.data.readers import conversations
from ariigcn_jax.inference.prediction import Prediction, explain, forward, predict
from ariigcn_jax.inference.streaming import Stream
from ariigcn_jax.nn import graph
from ariigcn_jax.nn.model import Model
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import checkpoint, runner, version
from ariigcn_jax.runs.workdir import CONFIG
from ariigcn_jax.training import build
from ariigcn_jax.types import Array, Batch, Corpus, Description, Modality, Outputs, UserError

BATCH_EDGES = 2**19  # edge slots of a batch, at most (unless one row has more): bounds the memory of attention weights


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Hold the model of a run's chosen epoch; made by `load`.

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
        """Return O names: of the classes, of the score, or of the labels."""
        return self.target_names or self.label_names

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.widths)

    @property
    def copies(self) -> dict[Modality, tuple[str, ...]]:
        """Return modality -> within what the copies of its features are standardised that follow them."""
        return {m: normalisation.copies(m, self.config.data) for m in self.modalities}

    @property
    def raw_widths(self) -> dict[Modality, int]:
        """Return modality -> number of features as extracted, without copies."""
        return normalisation.raw_widths(self.widths, self.config.data)

    def outputs(self, batch: Batch) -> Outputs:
        """Run the forward pass, compiled once for each shape of batch (see `batches`).

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
        """Predict the emotion of every utterance.

        Args:
          conversation: utterances in time order, as in `readers.conversations`; or a corpus, as read.

        Returns:
          Probabilities, what each modality contributed, and attention.

        Raises:
          UserError: an utterance is not of the right form, or no modality is known to the model.
        """
        if not isinstance(conversation, Corpus):
            conversation = conversations.from_utterances(conversation)
        return predict(self, conversation)

    def stream(self, *, explain: bool = False) -> Stream:
        """Predict conversations while they go on.

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
        """Run `prediction.explain` of this model, compiled once for each shape of batch."""
        return self._explain(self.params, self.temperature, batch, removal)

    @functools.cached_property
    def _explain(self) -> Any:
        lean = self.model.clone(further=frozenset())
        network, read = forward(lean, self.task, self.members), tasks.get(self.task).decode
        return jax.jit(functools.partial(explain, network, self.modalities, read), static_argnums=3)

    def prepare(self, corpus: Corpus) -> Corpus:
        """Bring a corpus, as read, into the model's form: `data.prepare.match` with what this model was trained on."""
        return prepare.match(
            corpus,
            self.config.data,
            self.normalisation,
            widths=self.widths,
            task=self.task,
            label_names=self.label_names,
            target_names=self.target_names,
        )

    def batches(self, corpus: Corpus) -> Iterator[Batch]:
        """Pack a corpus that went through `prepare` into batches of few different shapes, all splits together.

        Lengths and numbers of rows are rounded up, so that conversations of arbitrary lengths compile the forward pass
        a handful of times. `Batch.utterance` says which utterance is where.
        """

        def most_rows(length: int) -> int:
            window = self.model.options.graph
            past, future = graph.window(window.past, window.future, length)
            return BATCH_EDGES // (length * (past + 1 + future))

        return packing.batches(corpus, most_rows)


def load(run: str | Path, *, seed: int | None = None) -> TrainedModel:
    """Load the trained model of a run; change nothing there. The run may be under way.

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
    version.check(path)
    best, data = checkpoint.read_best(path)
    if not (path / runner.CORPUS).exists():
        raise version.refusal(path, None)
    described = _read_json(path / runner.CORPUS)
    config = FrozenConfigDict(_read_json(path / CONFIG))
    widths = {m["name"]: int(m["width"]) for m in described["modalities"]}
    label_names = tuple(described["label_names"])
    model = _rebuild(path, config, widths, described)
    task, target_names = described["task"], tuple(described["target_names"])
    index, seed = _choose_seed(path, config, best["score"], seed)
    members = config.members
    mine = index if members == 1 else slice(index * members, (index + 1) * members)
    params = jax.tree.map(lambda x: jnp.asarray(x[mine]), best["params"])
    _check_params(path, model, members, params)
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


def _rebuild(path: Path, config: FrozenConfigDict, widths: dict[Modality, int], described: Mapping[str, Any]) -> Model:
    """Build the network as training built it, for what corpus.json describes."""
    classes, outputs = len(described["label_names"]), len(described["target_names"] or described["label_names"])
    description = Description(tuple(widths.items()), outputs, classes, int(described["ratings"]))
    try:
        return build.make_model(ConfigDict(config), description)
    except (AttributeError, KeyError, TypeError) as error:
        problem = str(error).splitlines()[0].strip("\"'") if str(error) else type(error).__name__
        raise UserError(
            f"{path}: the options in its {CONFIG} do not fit this version ({problem}). Copy the run's folder again."
        ) from error


def _choose_seed(path: Path, config: FrozenConfigDict, scores: np.ndarray, seed: int | None) -> tuple[int, int]:
    seeds = list(range(config.seed, config.seed + len(scores)))
    if seed is None:
        index = int(np.argmax(scores))
    elif seed in seeds:
        index = seeds.index(seed)
    else:
        raise UserError(f"{path}: this run has the seeds {', '.join(map(str, seeds))}, not {seed}.")
    return index, seeds[index]


def _check_params(path: Path, model: Model, members: int, params: Any) -> None:
    """Check parameters against what the network needs, by name and shape."""
    sample = packing.empty(dict(model.description.widths))
    wanted = jax.eval_shape(lambda batch: model.init(jax.random.key(0), batch, False), sample)["params"]
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
        raise UserError(f"{path}: {problem}. One of the two is of another run; copy the run's folder again.")


def _temperature(results: dict[str, Any] | None, index: int) -> float:
    """Return what calibration on validation found, one number or one for each seed."""
    stored = (results or {}).get("temperature", 1.0)
    return float(np.atleast_1d(stored)[index] if np.ndim(stored) else stored)

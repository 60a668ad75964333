"""From a config and a corpus to an experiment of pure functions: make(config, corpus) → Experiment.

A run is: state = init(seed); for each epoch: state, logs = epoch(state, rows); scores = evaluate(state.params, split).
All randomness follows from the state's key and step, so a run can stop anywhere and resume to the same numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import FrozenConfigDict

from ariigcn_jax import parallel
from ariigcn_jax.data import packing
from ariigcn_jax.nn import graph, text_encoder
from ariigcn_jax.nn.gan import Discriminators
from ariigcn_jax.nn.layers import options_of
from ariigcn_jax.nn.model import Model
from ariigcn_jax.objective import tasks
from ariigcn_jax.training import checks, diagnostics
from ariigcn_jax.training.epoch import (
    Epoch,
    Evaluation,
    epoch_over_parts,
    evaluate_part,
    evaluation_over_parts,
    row_order,
    run_order,
    train_part,
)
from ariigcn_jax.training.feed import Compiled, Feed, steps_of_part
from ariigcn_jax.training.step import Logs, Players, init_state, traced_step
from ariigcn_jax.types import PADDING, SPLITS, UNLABELED, Array, Batch, Corpus, Description, TrainState


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The pure functions of a run, compiled when first called."""

    init: Callable[[int], TrainState]  # seed -> TrainState
    # (state, a part of the train split) -> (state, logs); donates the state. The logs of an epoch's parts sum to means
    # over its steps.
    epoch: jax.stages.Wrapped
    # split -> (params, a part of it) -> {"confusion" [C, C], "probabilities" [rows, L, C]}; for other tasks the counts
    # and answers [rows, L, O] of `tasks.Task`
    evaluate: Mapping[str, jax.stages.Wrapped]
    # (split, result of `evaluate`) -> every score of the split, on the host
    score: Callable[[str, Mapping[str, Any]], dict[str, Any]]
    count: Callable[[str, np.ndarray], np.ndarray]  # (split, answers [rows, L, O]) -> their counts, on the host
    # (state, all rows of the train split) -> numbers of the failure signatures; on one device
    diagnose: jax.stages.Wrapped
    # `traced_step` of (state, rows of one step); on one device, not compiled
    step: Callable[[TrainState, Batch], tuple[TrainState, Logs, dict[str, Any]]]
    data: Mapping[str, Feed]  # split -> its rows
    layout: Mapping[str, packing.Layout]  # split -> how it is packed
    index: Mapping[str, packing.Index]  # split -> the utterances in its rows
    steps: int  # updates per epoch
    num_devices: int  # local devices that state and rows are replicated over
    _compiled: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def streamed(self) -> bool:
        """Return whether the rows are read in parts."""
        return self.data["train"].streamed

    def training(self, state: TrainState) -> tuple[Epoch, Compiled]:
        """Compile (state, data["train"]) -> (state, logs), once, for states like this; return it and that of a part."""
        if "epoch" not in self._compiled:
            part = Compiled.of(self.epoch, state, self.data["train"])
            self._compiled["epoch"] = epoch_over_parts(part, self.layout["train"], self.num_devices), part
        return self._compiled["epoch"]

    def evaluation(self, split: str, params: Any) -> Evaluation:
        """Compile (params, data[split]) -> the result of `evaluate` for all of it, once, for params like these."""
        if split not in self._compiled:
            part = Compiled.of(self.evaluate[split], params, self.data[split])
            self._compiled[split] = evaluation_over_parts(part, self.layout[split])
        return self._compiled[split]


def make(config: Any, corpus: Corpus, num_devices: int | None = None) -> Experiment:
    """Build the experiment of a config on a standardised corpus; no function below this one sees the config.

    Args:
      config: as `options.base.get_config`.
      corpus: with labelled utterances in its train split.
      num_devices: local devices that share a batch; None for those of the config.

    Raises:
      UserError: an option that cannot be built.
    """
    checks.check_options(config, corpus.description)
    checks.check_corpus(config, corpus)
    num_devices = parallel.device_count(config.num_devices if num_devices is None else num_devices)
    data = _feeds(config, corpus, num_devices)
    layout = {split: feed.layout for split, feed in data.items()}
    where = {split: feed.where for split, feed in data.items()}
    task, axis = tasks.get(corpus.task), parallel.axis_name(num_devices)
    players = make_players(config, corpus.description, layout["train"].steps, class_weights(corpus))

    def order(split: str, rows: Batch, drawn: Callable[..., Array]) -> Array:
        """Return the places of each step's rows on this device: [steps of the part, R' / devices]."""
        if data[split].streamed:  # they were read in this order
            return jnp.arange(len(rows.row)).reshape(-1, -(-layout[split].rows // parallel.world(num_devices)))
        return parallel.own_share(drawn(layout=layout[split], num_devices=num_devices), axis, num_devices)

    def epoch(state: TrainState, rows: Batch) -> tuple[TrainState, Logs]:
        taken = order("train", rows, functools.partial(run_order, state.key, state.step))
        return train_part(players, layout["train"], num_devices, state, rows, taken)

    def evaluate(split: str, params: Any, rows: Batch) -> dict[str, Array]:
        taken, shape = order(split, rows, row_order), layout[split]
        return evaluate_part(players.model, task, corpus.num_classes, shape, num_devices, params, rows, taken)

    boundary = next((t.boundary for t in players.terms.values() if t.discriminator), 0.0)
    return Experiment(
        init=_initial(players, config.members, corpus, where["train"], num_devices),
        epoch=parallel.over_devices(epoch, num_devices, donate=(0,)),
        evaluate={s: parallel.over_devices(functools.partial(evaluate, s), num_devices) for s in SPLITS},
        score=functools.partial(_score, task, corpus, where),
        count=functools.partial(_count, task, corpus, where),
        diagnose=jax.jit(functools.partial(diagnostics.diagnose, players, layout["train"], boundary)),
        step=functools.partial(traced_step, players, axis=None),
        data=data,
        layout=layout,
        index=where,
        steps=layout["train"].steps,
        num_devices=num_devices,
    )


def _feeds(config: Any, corpus: Corpus, num_devices: int) -> dict[str, Feed]:
    """Pack each split; all lie on the devices, or none where one exceeds data.device_megabytes."""
    reach, limit = graph.reach(config.model), config.data.device_megabytes * 1e6
    feeds = {}
    for split in SPLITS:
        layout, where = packing.index(corpus, split, config.batch_size, config.data.longest_row, reach)
        feeds[split] = Feed(corpus, where, layout, steps_of_part(limit, corpus, layout, where), num_devices)
    # Several processes read their own shares, so all their splits are streamed.
    whole = parallel.processes() == 1 and all(feed.steps == feed.layout.steps for feed in feeds.values())
    return {split: feed.on_devices() for split, feed in feeds.items()} if whole else feeds


def _initial(
    players: Players, members: int, corpus: Corpus, where: packing.Index, num_devices: int
) -> Callable[[int], TrainState]:
    """Return seed -> a fresh state, compiled once for all seeds."""
    sample = packing.collect(corpus, where, np.array([len(where.source) - 1]))
    fresh = jax.jit(functools.partial(init_state, players))

    def init(seed: int) -> TrainState:
        state = fresh(sample, jax.random.key(seed))
        if corpus.words is not None:
            params = {**state.params, **jax.tree.map(jnp.asarray, corpus.words.initial)}
            average = jax.tree.map(jnp.copy, params) if players.average else state.average
            state = state.replace(params=params, average=average)
        if corpus.fold is not None:
            state = state.replace(fold=jnp.int32(seed % members))
        return parallel.replicate(state, num_devices)

    return init


def _score(
    task: tasks.Task, corpus: Corpus, where: Mapping[str, packing.Index], split: str, outcome: Mapping[str, Any]
) -> dict[str, Any]:
    """Return every score of a split from the result of `evaluate`."""
    counts, answers = outcome["confusion"], outcome["probabilities"]
    if corpus.target is None:
        return task.scores(counts, answers, None)
    utterance = where[split].utterance[:-1]  # the last row pads batches
    chosen = (utterance != PADDING) & (corpus.label[utterance] >= 0)
    return task.scores(counts, answers[chosen], corpus.target[utterance[chosen]])


def _count(
    task: tasks.Task, corpus: Corpus, where: Mapping[str, packing.Index], split: str, answers: np.ndarray
) -> np.ndarray:
    """Return the counts of answers [rows, L, O] of a split, like `evaluate`."""
    utterance = where[split].utterance[:-1]
    label = np.where(utterance != PADDING, corpus.label[utterance], UNLABELED)
    target = None if corpus.target is None else jnp.asarray(corpus.target[utterance])
    return np.asarray(task.count(task.encode(jnp.asarray(answers)), jnp.asarray(label), target, corpus.num_classes))


def make_model(config: Any, description: Description) -> Model:
    """Build the network of a config for the description of a corpus, with the heads of the active losses.

    Raises:
      UserError: an option that cannot be built.
    """
    checks.check_options(config, description)
    active = checks.active_terms(config, description)
    further = frozenset().union(*(term.needs for term in active.values()))
    return Model(description, FrozenConfigDict(config.model), further)


def make_players(config: Any, description: Description, steps: int, class_weights: np.ndarray | None = None) -> Players:
    """Build modules, terms and optimizers of a config, for epochs of `steps` updates.

    `class_weights` [C] are for losses that weigh classes; None for ones.

    Raises:
      UserError: an option that cannot be built.
    """
    if class_weights is None:
        class_weights = np.ones(description.classes, np.float32)
    depth = description.encoder[0].depth if description.encoder else 0
    optimizer = make_optimizer(config.optimizer, config.num_epochs, steps, depth)
    summed = config.discriminator.game == "summed"
    rate = schedule(config.optimizer, config.num_epochs, steps, config.discriminator.lr)
    separate = accumulated(optax.adam(rate, b1=config.discriminator.b1), config.optimizer)
    gan = config.model.gan
    return Players(
        model=make_model(config, description),
        discriminators=Discriminators(
            description.modalities, gan.discriminator_hidden, config.model.precision, **options_of(Discriminators, gan)
        ),
        terms=checks.active_terms(config, description, class_weights),
        wiring=gan.wiring,
        optimizer=optimizer,
        # AdamW updates each parameter alone: but for clipping, one optimizer over both equals one for each
        discriminator_optimizer=optimizer if summed else separate,
        average=config.optimizer.average,
        modality_dropout=(config.model.dialogue_dropout, config.model.modality_dropout),
        summed=summed,
        contrast_candidates=config.model.contrast_candidates,
    )


def schedule(settings: Any, num_epochs: int, steps: int, peak: float, warmup_epochs: float | None = None) -> Any:
    """Return updates done -> rate: linear warm-up, then cosine decay to 0 or a constant rate (choice).

    Both players follow it, so that the discriminators' rate is never above the generators' where its peak is not.
    """
    updates = steps / settings.accumulate  # an epoch
    warmup = round((settings.warmup_epochs if warmup_epochs is None else warmup_epochs) * updates)
    if settings.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(round(num_epochs * updates), warmup + 1))
    return optax.linear_schedule(peak if not warmup else 0.0, peak, max(warmup, 1))


def make_optimizer(settings: Any, num_epochs: int, steps: int, depth: int = 0) -> optax.GradientTransformation:
    """Build AdamW for the model, and with rates of its own for a text encoder of `depth` layers.

    Parameters of two dimensions or more decay: matrices, and the attention's biases of each relation and head. `steps`
    are those of an epoch. The rate of a text encoder's layer is `decay` times that of the layer above (choice).
    """

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda x: x.ndim > 1, params)

    def adamw(rate: Any, decay: float) -> optax.GradientTransformation:
        return optax.adamw(rate, weight_decay=decay, mask=matrices)

    main = adamw(schedule(settings, num_epochs, steps, settings.lr), settings.weight_decay)
    if depth:
        words = settings.words
        rate = schedule(settings, num_epochs, steps, words.lr, words.warmup_epochs)
        each = {"model": main}
        for k in range(-1, depth):  # -1: the embeddings
            each[f"layer_{k}"] = optax.chain(
                adamw(rate, words.weight_decay), optax.scale(words.decay ** (depth - 1 - k))
            )
        main = optax.multi_transform(each, _groups)
    clip = optax.clip_by_global_norm(settings.clip) if settings.clip > 0 else optax.identity()
    return accumulated(optax.chain(clip, main), settings)


def accumulated(optimizer: optax.GradientTransformation, settings: Any) -> optax.GradientTransformation:
    """Return an optimizer that updates once in `settings.accumulate` steps, by the mean of their gradients."""
    if settings.accumulate == 1:
        return optimizer
    return optax.MultiSteps(optimizer, settings.accumulate).gradient_transformation()


def _groups(params: Any) -> Any:
    """Name the optimizer of each parameter: "model", or the text encoder's layer (its embeddings are layer -1)."""

    def group(path: Any, _: Any) -> str:
        names = [str(entry.key) for entry in path]
        if names[0] != text_encoder.NAME:
            return "model"
        return names[1] if names[1].startswith("layer_") else "layer_-1"

    return jax.tree_util.tree_map_with_path(group, params)


def class_weights(corpus: Corpus) -> np.ndarray:
    """Return the inverse frequency [C] of each class in the train split, all folds included; 0 for absent classes.

    The mean over labelled utterances is 1.
    """
    labels = corpus.label[corpus.labelled("train")]
    counts = np.bincount(labels, minlength=corpus.num_classes)
    classes = max((counts > 0).sum(), 1)
    weights = np.where(counts > 0, len(labels) / (classes * np.maximum(counts, 1)), 0)
    return weights.astype(np.float32)

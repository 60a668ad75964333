"""Training as three pure functions: make(config, corpus) → Experiment(init, epoch, evaluate).

A run is: state = init(seed); for each epoch: state, logs = epoch(state); scores = evaluate(state.params, split).
Everything random follows from the state's key and step, so a run can stop anywhere and go on to the same numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ariigcn_jax import parallel
from ariigcn_jax.data import packing
from ariigcn_jax.nn import graph
from ariigcn_jax.nn import model as modeling
from ariigcn_jax.nn.gan import Discriminators
from ariigcn_jax.nn.layers import dropout_mask
from ariigcn_jax.objective import contrast, tasks
from ariigcn_jax.objective import terms as objective
from ariigcn_jax.training import diagnostics
from ariigcn_jax.training.feed import Stream, by_shape, steps_of_part
from ariigcn_jax.types import PADDING, SPLITS, UNLABELED, Array, Batch, Corpus, Outputs, TrainState, UserError

EPOCHS = ("best", "last")  # which epoch a run ends with: the best on validation, or the last one
T = TypeVar("T")
Logs = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The pure functions of a run, compiled when first called.

    Attributes:
      init: seed -> TrainState.
      epoch: (state, rows of the train split) -> (state, logs); donates the state. One compiled call.
      evaluate: split -> (params, its rows) -> {"confusion" [C, C], "probabilities" [rows, L, C]}; in the other tasks
        the counts and answers [rows, L, O] of `tasks.Task`.
      score: (split, what `evaluate` gave) -> every score of the split, on the host.
      count: (split, answers [rows, L, O]) -> their counts, as `evaluate` gives them, on the host.
      diagnose: (state, rows of the train split) -> failure signatures' numbers; on one device.
      step: (state, rows of one step) -> (state, logs, gradients) of `traced_step`; on one device, not compiled.
      data: split -> Batch of all its rows, on the device; or a Stream of them, for which `epoch` and `evaluate` take
        one part after another and return sums over its steps and the part's rows.
      layout: split -> how it is packed.
      index: split -> which utterances lie where in its rows.
      steps: updates per epoch.
      num_devices: local devices that state and rows are replicated over.
    """

    init: Callable[[int], TrainState]
    epoch: jax.stages.Wrapped
    evaluate: Mapping[str, jax.stages.Wrapped]
    score: Callable[[str, Mapping[str, Any]], dict[str, Any]]
    count: Callable[[str, np.ndarray], np.ndarray]
    diagnose: jax.stages.Wrapped
    step: Callable[[TrainState, Batch], tuple[TrainState, Logs, dict[str, Any]]]
    data: Mapping[str, Batch | Stream]
    layout: Mapping[str, packing.Layout]
    index: Mapping[str, packing.Index]
    steps: int
    num_devices: int
    _compiled: dict[str, Callable[[Any, Any], Any]] = dataclasses.field(default_factory=dict)

    @property
    def streamed(self) -> bool:
        """The splits are read while they are needed."""
        return isinstance(self.data["train"], Stream)

    def training(self, state: TrainState) -> Callable[[TrainState, Any], tuple[TrainState, Logs]]:
        """(state, data["train"]) -> (state, logs) of one epoch, compiled for states shaped like `state`."""
        data = self.data["train"]
        if isinstance(data, Stream):
            return streamed_epoch(self.epoch, self.layout["train"], state, data)
        return self.epoch.lower(state, data).compile()

    def evaluation(self, split: str, params: Any) -> Callable[[Any, Any], dict[str, Array]]:
        """(params, data[split]) -> what `evaluate[split]` gives of the whole split, compiled once for parameters shaped
        like `params`."""
        if split not in self._compiled:
            data, function = self.data[split], self.evaluate[split]
            if isinstance(data, Stream):
                self._compiled[split] = streamed_evaluation(function, self.layout[split], params, data)
            else:
                self._compiled[split] = function.lower(params, data).compile()
        return self._compiled[split]


@dataclasses.dataclass(frozen=True)
class Players:
    """The modules, terms and optimizers that a step is made of.

    Attributes:
      model: encoders, generators, graphs, heads, classifier.
      discriminators: the second player.
      terms: active loss terms.
      wiring: what the discriminators see as real, "feature" or "latent".
      optimizer: of the model.
      discriminator_optimizer: of the discriminators.
      average: decay of the parameters' moving average, in [0, 1); 0 for none.
      modality_dropout: rates at which a dialogue, and an utterance, loses a modality in training, in [0, 1).
      summed: both players minimise L_G + L_D in one step, with no stop-gradient (journal code); not adversarial, for
        comparison.
      contrast_candidates: most nodes that anchors are compared with; 0 for all of the batch.
    """

    model: modeling.Model
    discriminators: Discriminators
    terms: Mapping[str, objective.Term]
    wiring: str
    optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    average: float
    modality_dropout: tuple[float, float] = (0.0, 0.0)
    summed: bool = False
    contrast_candidates: int = 0

    def judge(self, discriminators: Any, outputs: Outputs, batch: Batch) -> tuple[dict[str, Array], Outputs]:
        """Real logits, and the outputs with their fake logits, under the given discriminators."""
        if not outputs.generated:
            return {}, outputs
        codes = outputs.codes if self.summed else jax.lax.stop_gradient(outputs.codes)
        real = batch.features if self.wiring == "feature" else codes
        real_logits, fake_logits = self.discriminators.apply({"params": discriminators}, real, outputs.generated)
        return real_logits, outputs.replace(fake_logits=fake_logits)


class Head(NamedTuple):
    """What is made of the logits: the task, and C of `Corpus.label`."""

    task: tasks.Task
    num_classes: int


def train_step(players: Players, state: TrainState, batch: Batch, axis: str | None) -> tuple[TrainState, Logs]:
    """`traced_step` without the gradients."""
    return traced_step(players, state, batch, axis)[:2]


def traced_step(
    players: Players, state: TrainState, batch: Batch, axis: str | None
) -> tuple[TrainState, Logs, dict[str, Any]]:
    """One update of each player: the discriminators first, then the model against the updated discriminators.

    Both use one forward pass of the model: its outputs are computed once, the discriminators learn from them as
    constants, and the hybrid loss's gradient is pulled back through the same pass.

    Args:
      players: modules, terms, optimizers.
      state: before the step.
      batch: this device's rows.
      axis: name of the device axis, or None.

    Returns:
      The state after it, global logs, and the gradients: "model" like its parameters, "discriminators" like theirs.
    """
    key = jax.random.fold_in(state.key, state.step)
    rngs = {"dropout": key}
    batch = without_part(batch, state.part)
    if any(players.modality_dropout):
        batch = drop_modalities(jax.random.fold_in(key, jnp.int32(-1)), batch, players.modality_dropout)

    def forward(params: Any) -> Outputs:
        outputs: Any = players.model.apply({"params": params}, batch, True, rngs=rngs)
        return outputs.replace(attention={}, attention_entropy={})  # what no term reads needs no backward pass

    outputs, pullback = jax.vjp(forward, state.params)
    logs: Logs = {}
    theirs: Any = {}
    if not players.summed:
        state, logs, theirs = _discriminator_step(players, state, jax.lax.stop_gradient(outputs), batch, axis)

    def loss(outputs: Outputs, discriminators: Any) -> tuple[Array, Logs]:
        real, outputs = players.judge(discriminators, outputs, batch)
        offset = jax.random.randint(jax.random.fold_in(key, jnp.int32(-2)), (), 0, 2**30)  # unused without a sample
        candidates = contrast.other_candidates(outputs, batch, axis, players.contrast_candidates, offset)
        outputs = outputs.replace(candidates=candidates)
        share, terms = objective.total(players.terms, outputs, batch, axis)
        if players.summed and outputs.generated:
            value = objective.discriminator_total(players.terms, real, outputs, batch, axis)
            share = share + sum(t.weight for t in players.terms.values() if t.discriminator) * value
            terms = {**terms, "discriminator": parallel.psum(value, axis)}
        return share, terms

    both = (0, 1) if players.summed else 0
    (share, terms), cotangents = jax.value_and_grad(loss, both, has_aux=True)(outputs, state.discriminators)
    if players.summed:
        cotangents, theirs = cotangents
        state, norms, theirs = _update_discriminators(players, state, theirs, axis)
        logs |= norms if outputs.generated else {}
    (gradient,) = pullback(cotangents)
    gradient = parallel.psum(gradient, axis)
    updates, optimizer = players.optimizer.update(gradient, state.optimizer, state.params)
    logs = {"total": parallel.psum(share, axis), **terms, **logs, "gradient_norm": optax.tree.norm(gradient)}
    params = optax.apply_updates(state.params, updates)
    average = moving_average(state.average, params, players.average, state.step) if state.average else state.average
    state = state.replace(step=state.step + 1, params=params, average=average, optimizer=optimizer)
    return state, logs, {"model": gradient, "discriminators": theirs}


def _discriminator_step(
    players: Players, state: TrainState, outputs: Outputs, batch: Batch, axis: str | None
) -> tuple[TrainState, Logs, Any]:
    if not outputs.generated:
        return state, {}, {}

    def loss(discriminators: Any) -> Array:
        real, judged = players.judge(discriminators, outputs, batch)
        return objective.discriminator_total(players.terms, real, judged, batch, axis)

    share, gradient = jax.value_and_grad(loss)(state.discriminators)
    state, norms, gradient = _update_discriminators(players, state, gradient, axis)
    return state, {"discriminator": parallel.psum(share, axis), **norms}, gradient


def _update_discriminators(
    players: Players, state: TrainState, gradient: Any, axis: str | None
) -> tuple[TrainState, Logs, Any]:
    """The state with the discriminators updated, the log of their gradient, and the gradient of all devices."""
    gradient = parallel.psum(gradient, axis)
    updates, optimizer = players.discriminator_optimizer.update(
        gradient, state.discriminator_optimizer, state.discriminators
    )
    discriminators = optax.apply_updates(state.discriminators, updates)
    state = state.replace(discriminators=discriminators, discriminator_optimizer=optimizer)
    return state, {"discriminator_gradient_norm": optax.tree.norm(gradient)}, gradient


def moving_average(average: Any, params: Any, decay: float, step: Array) -> Any:
    """Exponential moving average of the parameters; its decay rises to `decay` so that early steps fade (choice)."""
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, average, params)


def without_part(batch: Batch, part: Any) -> Batch:
    """A batch in which the dialogues of a part of the corpus have nothing that any loss or other dialogue would see.

    What stays of the part is in numbers of the whole corpus: the scale of features and `class_weights`.

    Args:
      batch: any.
      part: [] int32, what is left out; or {} for nothing.
    """
    if batch.part is None:
        return batch
    kept = batch.part != part
    present = {m: here & kept for m, here in batch.present.items()}
    return batch.replace(
        features={m: jnp.where(present[m][..., None], x, 0) for m, x in batch.features.items()},
        present=present,
        label=jnp.where(kept, batch.label, UNLABELED),
        utterance=jnp.where(kept, batch.utterance, PADDING),
        rated=None if batch.rated is None else batch.rated & kept,
    )


def drop_modalities(key: Array, batch: Batch, rates: tuple[float, float]) -> Batch:
    """Takes modalities from dialogues, then from utterances at random, never the last one of an utterance (choice).

    Args:
      key: PRNG key of the step.
      batch: any.
      rates: probabilities that a modality of a dialogue, and of an utterance, is drawn to go missing, in [0, 1), in
        steps of 1/256; of an utterance that would lose by one of them all it has left, that one takes none.
    """
    left = jnp.stack(list(batch.present.values()), axis=-1)
    whole, single = rates
    if whole:
        kept, _ = dropout_mask(jax.random.fold_in(key, 1), batch.row, left.shape[1:], whole)
        left = _unless_last(left, jnp.take_along_axis(kept, jnp.maximum(batch.dialogue, 0)[..., None], axis=1))
    if single:
        left = _unless_last(left, dropout_mask(key, batch.row, left.shape[1:], single)[0])
    features = {m: jnp.where(left[..., k, None], x, 0) for k, (m, x) in enumerate(batch.features.items())}
    return batch.replace(features=features, present={m: left[..., k] for k, m in enumerate(batch.present)})


def _unless_last(present: Array, kept: Array) -> Array:
    """[R, L, M] bool: what is present and kept, where that is anything; else what is present."""
    left = present & kept
    return jnp.where(left.any(axis=-1, keepdims=True), left, present)


def take_rows(rows: T, order: Array) -> T:
    """The rows `order` [...] of each array of a split."""
    return jax.tree.map(lambda x: x[order], rows)


def epoch_order(key: Array, epoch: Array, layout: packing.Layout, num_devices: int) -> Array:
    """Which rows each step takes: [steps, R'], R' = R rounded up to a multiple of the devices with the empty row."""
    count = layout.steps * layout.rows
    order = jax.random.permutation(jax.random.fold_in(key, epoch), count).reshape(layout.steps, layout.rows)
    return _pad_to_devices(order, count, num_devices)


def run_order(key: Array, step: Array, layout: packing.Layout, num_devices: int) -> Array:
    """`epoch_order` of a run's key in the epoch of a step."""
    order_key = jax.random.fold_in(key, jnp.int32(-1))  # apart from the steps' keys, which are >= 0
    return epoch_order(order_key, step // layout.steps, layout, num_devices)


def _pad_to_devices(order: Array, empty: int, num_devices: int) -> Array:
    return jnp.pad(order, ((0, 0), (0, -order.shape[1] % num_devices)), constant_values=empty)


def train_epoch(
    players: Players, layout: packing.Layout, num_devices: int, state: TrainState, rows: Batch
) -> tuple[TrainState, Logs]:
    """All steps of an epoch as one scan; logs are means over its steps."""
    axis = parallel.axis_name(num_devices)
    order = run_order(state.key, state.step, layout, num_devices)

    # What is small is gathered here, once: inside the step the compiler would repeat the gather in every loop that
    # reads it. Features are gathered step by step, so that they lie on the device once.
    order = parallel.own_share(order, axis, num_devices)
    rest = take_rows(rows.replace(features={}), order)

    def body(state: TrainState, now: tuple[Array, Batch]) -> tuple[TrainState, Logs]:
        chosen, batch = now
        return train_step(players, state, batch.replace(features=take_rows(rows.features, chosen)), axis)

    state, logs = jax.lax.scan(body, state, (order, rest))
    return state, jax.tree.map(jnp.mean, logs)


def train_part(
    players: Players, rows_of_device: int, num_devices: int, state: TrainState, rows: Batch
) -> tuple[TrainState, Logs]:
    """The steps whose rows `rows` are, in their order; logs are sums over them."""
    axis = parallel.axis_name(num_devices)
    batches = jax.tree.map(lambda x: x.reshape(-1, rows_of_device, *x.shape[1:]), rows)
    state, logs = jax.lax.scan(lambda state, batch: train_step(players, state, batch, axis), state, batches)
    return state, jax.tree.map(jnp.sum, logs)


def streamed_epoch(
    part: jax.stages.Wrapped, layout: packing.Layout, state: TrainState, data: Stream
) -> Callable[[TrainState, Stream], tuple[TrainState, Logs]]:
    """An epoch of `train_part`s over the rows in the order of `train_epoch`; compiled for states like `state`."""
    devices = parallel.world(data.num_devices)
    compiled = by_shape(part, state, data, layout.steps, layout.rows)
    order_of = jax.jit(functools.partial(run_order, layout=layout, num_devices=devices))

    def epoch(state: TrainState, data: Stream) -> tuple[TrainState, Logs]:
        now = parallel.unreplicate((state.key, state.step), data.num_devices)
        sums: Any = None
        for rows in data.parts(np.asarray(order_of(*now))):
            state, logs = jax.block_until_ready(compiled(state, rows))  # at most two parts on a device
            sums = logs if sums is None else jax.tree.map(jnp.add, sums, logs)
        return state, jax.tree.map(lambda x: x / layout.steps, sums)

    return epoch


def evaluate_rows(
    model: modeling.Model, head: Head, layout: packing.Layout, num_devices: int, params: Any, rows: Batch
) -> dict[str, Array]:
    """Counts of a split, as [C, C], and answers [rows, L, O] in the order of its packed rows."""
    axis = parallel.axis_name(num_devices)
    count = layout.steps * layout.rows
    order = _pad_to_devices(jnp.arange(count).reshape(layout.steps, layout.rows), count, num_devices)

    order = parallel.own_share(order, axis, num_devices)
    rest = take_rows(rows.replace(features={}), order)

    def body(_: None, now: tuple[Array, Batch]) -> tuple[None, tuple[Array, Array]]:
        chosen, batch = now
        return None, _evaluate_step(model, head, axis, params, batch.replace(features=take_rows(rows.features, chosen)))

    _, (counts, probabilities) = jax.lax.scan(body, None, (order, rest))
    probabilities = probabilities[:, : layout.rows].reshape(count, *probabilities.shape[2:])
    return {"confusion": parallel.psum(counts.sum(axis=0), axis), "probabilities": probabilities}


def diagnose(
    players: Players, layout: packing.Layout, boundary: float, state: TrainState, rows: Batch
) -> diagnostics.Measures:
    """The numbers of the failure signatures, under training's dropout, on a quarter of a step's rows drawn anew.

    A quarter, because the numbers are ratios that a few hundred utterances settle, and an epoch is only a few steps.

    Args:
      players: modules and terms.
      layout: of the train split.
      boundary: logit above which a discriminator says "real".
      state: on one device.
      rows: of the train split, on one device.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, jnp.int32(-3)), state.step)
    count = layout.steps * layout.rows
    shown = rows.real if rows.part is None else rows.real & (rows.part != state.part)
    preference = jax.random.uniform(key, (count,)) + shown.any(axis=1)[:count]  # an empty row has nothing to show
    batch = without_part(take_rows(rows, jax.lax.top_k(preference, max(1, layout.rows // 4))[1]), state.part)
    if any(players.modality_dropout):
        batch = drop_modalities(jax.random.fold_in(key, jnp.int32(-1)), batch, players.modality_dropout)
    shared = {name: x for name, x in state.params.items() if name.startswith("encoder_")}

    def forward(encoders: Any) -> tuple[Outputs, Outputs]:
        params = {"params": {**state.params, **encoders}}
        outputs: Any = players.model.apply(params, batch, True, rngs={"dropout": key})
        return outputs.replace(attention={}, attention_entropy={}), outputs

    def value(outputs: Outputs, slot: str) -> Array:
        _, outputs = players.judge(state.discriminators, outputs, batch)
        return objective.total({slot: players.terms[slot]}, outputs, batch, None)[0]

    read, pullback, outputs = jax.vjp(forward, shared, has_aux=True)
    values, cotangents = zip(*(jax.value_and_grad(value)(read, slot) for slot in players.terms), strict=True)
    # one backward pass for all terms, because compiling one for each takes longer than a run's epochs
    (gradients,) = jax.vmap(pullback)(jax.tree.map(lambda *x: jnp.stack(x), *cotangents))
    real = batch.features if players.wiring == "feature" else outputs.codes
    real_logits, outputs = players.judge(state.discriminators, outputs, batch)
    found = {
        **diagnostics.generation(real, outputs, batch),
        **diagnostics.discrimination(real_logits, outputs, batch, boundary),
        **diagnostics.balance(list(players.terms), jnp.stack(values), jax.vmap(optax.tree.norm)(gradients)),
    }
    if players.model.score != "uniform":
        past, _ = graph.window(players.model.past, players.model.future, layout.length)
        found |= diagnostics.attention(outputs, batch, past)
    return found


def _evaluate_step(
    model: modeling.Model, head: Head, axis: str | None, params: Any, batch: Batch
) -> tuple[Array, Array]:
    """This device's counts, as [C, C], and answers [R, L, O] of all devices' rows."""
    outputs: Any = model.apply({"params": params}, batch, False)
    counts = head.task.count(outputs.logits, batch.label, batch.target, head.num_classes)
    return counts, parallel.all_gather(head.task.decode(outputs.logits), axis)


def evaluate_part(
    model: modeling.Model, head: Head, layout: packing.Layout, num_devices: int, params: Any, rows: Batch
) -> dict[str, Array]:
    """The same of the steps whose rows `rows` are."""
    axis, rows_of_device = parallel.axis_name(num_devices), -(-layout.rows // parallel.world(num_devices))
    batches = jax.tree.map(lambda x: x.reshape(-1, rows_of_device, *x.shape[1:]), rows)
    _, (counts, probabilities) = jax.lax.scan(
        lambda _, batch: (None, _evaluate_step(model, head, axis, params, batch)), None, batches
    )
    probabilities = probabilities[:, : layout.rows].reshape(-1, *probabilities.shape[2:])
    return {"confusion": parallel.psum(counts.sum(axis=0), axis), "probabilities": probabilities}


def streamed_evaluation(
    part: jax.stages.Wrapped, layout: packing.Layout, params: Any, data: Stream
) -> Callable[[Any, Stream], dict[str, Any]]:
    """`evaluate_rows` as one `evaluate_part` after another; results lie on the host."""
    devices = parallel.world(data.num_devices)
    compiled = by_shape(part, params, data, layout.steps, layout.rows)
    count = layout.steps * layout.rows
    order = np.arange(count).reshape(layout.steps, layout.rows)
    order = np.pad(order, ((0, 0), (0, -layout.rows % devices)), constant_values=count)

    def evaluate(params: Any, data: Stream) -> dict[str, Any]:
        done = []
        for rows in data.parts(order):
            outcome = parallel.unreplicate(compiled(params, rows), data.num_devices)
            done.append(jax.tree.map(np.asarray, outcome))
        whole = {
            "confusion": sum(d["confusion"] for d in done),
            "probabilities": np.concatenate([d["probabilities"] for d in done]),
        }
        return whole if parallel.alone(data.num_devices) else {name: x[None] for name, x in whole.items()}

    return evaluate


# --- From a config ----------------------------------------------------------------------------------------------------


def make(config: Any, corpus: Corpus, num_devices: int | None = None) -> Experiment:
    """Builds the experiment of a config on a corpus (standardised); below this function nothing sees the config.

    Args:
      config: as `experiments.base.get_config`.
      corpus: its splits "train", "valid" and "test"; the train split has labelled utterances.
      num_devices: local devices that share a batch; None for what the config says.

    Raises:
      UserError: an option that cannot be built.
    """
    check(config)
    check_corpus(config, corpus)
    make_players(config, corpus, steps=1)  # an option that cannot be built is said before anything is packed
    num_devices = parallel.device_count(config.num_devices if num_devices is None else num_devices)
    reach = windowed_reach(config.model)
    laid = {s: packing.index(corpus, s, config.batch_size, config.data.longest_row, reach) for s in SPLITS}
    head = Head(tasks.get(corpus.task), corpus.num_classes)
    layout = {split: parts[0] for split, parts in laid.items()}
    where = {split: parts[1] for split, parts in laid.items()}
    players = make_players(config, corpus, layout["train"].steps)
    sample = packing.collect(corpus, where["train"], np.array([len(where["train"].source) - 1]))
    limit = config.data.device_megabytes * 1e6
    streams = {s: Stream(corpus, where[s], steps_of_part(limit, corpus, layout[s]), num_devices) for s in SPLITS}
    # Several processes read their own shares; so all their splits are streamed.
    whole = parallel.processes() == 1 and all(streams[s].steps == layout[s].steps for s in SPLITS)

    fresh = jax.jit(functools.partial(init_state, players))  # compiled once for all seeds

    def init(seed: int) -> TrainState:
        state = fresh(sample, jax.random.key(seed))
        if corpus.part is not None:
            state = state.replace(part=jnp.int32(seed % config.members))
        return parallel.replicate(state, num_devices)

    def epoch(state: TrainState, rows: Batch) -> tuple[TrainState, Logs]:
        if whole:
            return train_epoch(players, layout["train"], num_devices, state, rows)
        return train_part(players, -(-layout["train"].rows // parallel.world(num_devices)), num_devices, state, rows)

    def evaluate(split: str, params: Any, rows: Batch) -> dict[str, Array]:
        function = evaluate_rows if whole else evaluate_part
        return function(players.model, head, layout[split], num_devices, params, rows)

    def score(split: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
        if corpus.target is None:
            return head.task.scores(outcome["confusion"], outcome["probabilities"], None)
        utterance = where[split].utterance[:-1]  # the last row pads batches
        chosen = (utterance != PADDING) & (corpus.label[utterance] >= 0)
        return head.task.scores(
            outcome["confusion"], outcome["probabilities"][chosen], corpus.target[utterance[chosen]]
        )

    def count(split: str, answers: np.ndarray) -> np.ndarray:
        utterance = where[split].utterance[:-1]
        label = np.where(utterance != PADDING, corpus.label[utterance], UNLABELED)
        target = None if corpus.target is None else jnp.asarray(corpus.target[utterance])
        logits = head.task.encode(jnp.asarray(answers))
        return np.asarray(head.task.count(logits, jnp.asarray(label), target, head.num_classes))

    def rows_of(split: str) -> Batch:
        return parallel.replicate(
            packing.collect(corpus, where[split], np.arange(len(where[split].source))), num_devices
        )

    boundary = next((t.boundary for t in players.terms.values() if t.discriminator), 0.0)
    return Experiment(
        init=init,
        epoch=parallel.over_devices(epoch, num_devices, donate=(0,)),
        evaluate={s: parallel.over_devices(functools.partial(evaluate, s), num_devices) for s in SPLITS},
        score=score,
        count=count,
        diagnose=jax.jit(functools.partial(diagnose, players, layout["train"], boundary)),
        step=functools.partial(traced_step, players, axis=None),
        data={s: rows_of(s) if whole else streams[s] for s in SPLITS},
        layout=layout,
        index=where,
        steps=layout["train"].steps,
        num_devices=num_devices,
    )


def windowed_reach(options: Any) -> tuple[int, int] | None:
    """Utterances before and after that an utterance can hear, through all layers; None where that is the dialogue."""
    window = options.graph.past, options.graph.future
    if options.context != "none" or graph.WHOLE_DIALOGUE in window:
        return None
    return options.graph.layers * window[0], options.graph.layers * window[1]


def make_players(config: Any, corpus: Corpus, steps: int) -> Players:
    """Modules, terms and optimizers of a config; `steps` are updates per epoch."""
    ratings = 0 if corpus.ratings is None else corpus.ratings.shape[1]
    terms = objective.build(
        config.losses.to_dict(), class_weights(corpus), modalities=len(corpus.modalities), ratings=ratings > 0
    )
    if not terms:
        raise UserError("Every loss has the weight 0: nothing would be learnt. Set losses.emotion.weight.")
    options, attention = config.model, config.model.graph
    needs = frozenset().union(*(term.needs for term in terms.values()))
    model = modeling.Model(
        widths=tuple(corpus.widths.items()),
        num_classes=len(corpus.output_names),
        hidden=options.hidden,
        dropout=options.dropout,
        input_dropout=options.input_dropout,
        context=options.context,
        layers=attention.layers,
        heads=attention.heads,
        past=attention.past,
        future=attention.future,
        score=attention.score,
        relation_values=attention.relation_values,
        speaker_relations=attention.speaker_relations,
        kernel=attention.kernel,
        block=attention.block,
        speakers=options.speakers,
        contrast_width=options.contrast_width,
        generator_hidden=options.gan.generator_hidden,
        wiring=options.gan.wiring,
        generate="generated" in needs,
        contrast="contrast" in needs,
        unimodal="unimodal" in needs,
        ratings=ratings if "ratings" in needs else 0,
        precision=options.precision,
    )
    modeling.check(model)
    optimizer = make_optimizer(config.optimizer, config.num_epochs, steps)
    summed = config.discriminator.game == "summed"
    separate = optax.adam(config.discriminator.lr, b1=config.discriminator.b1)
    return Players(
        model=model,
        discriminators=Discriminators(corpus.modalities, options.gan.discriminator_hidden, options.precision),
        terms=terms,
        wiring=options.gan.wiring,
        optimizer=optimizer,
        # AdamW works on each parameter alone, so one optimizer over both is the same one for each, but for the clipping
        discriminator_optimizer=optimizer if summed else separate,
        average=config.optimizer.average,
        # which runs of before there was dialogue_dropout do not say
        modality_dropout=(options.get("dialogue_dropout", 0.0), options.modality_dropout),
        summed=summed,
        contrast_candidates=options.contrast_candidates,
    )


def make_optimizer(options: Any, num_epochs: int, steps: int) -> optax.GradientTransformation:
    """AdamW with linear warm-up, then cosine decay to 0 or a constant rate (choice).

    Weight decay is on what has two dimensions or more: matrices, and the attention's biases of each relation and head.
    """
    warmup = round(options.warmup_epochs * steps)
    if options.schedule == "cosine":
        schedule = optax.warmup_cosine_decay_schedule(0.0, options.lr, warmup, max(num_epochs * steps, warmup + 1))
    else:
        schedule = optax.linear_schedule(options.lr if not warmup else 0.0, options.lr, max(warmup, 1))
    clip = optax.clip_by_global_norm(options.clip) if options.clip > 0 else optax.identity()

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda x: x.ndim > 1, params)

    return optax.chain(clip, optax.adamw(schedule, weight_decay=options.weight_decay, mask=matrices))


def class_weights(corpus: Corpus) -> np.ndarray:
    """Inverse frequency of each class among labelled train utterances, 1 on average over them; 0 for absent classes:
    [C]. Where models leave out parts, of all parts: the one thing that a model knows of its own's labels."""
    labels = corpus.label[corpus.training & (corpus.label >= 0)]
    counts = np.bincount(labels, minlength=corpus.num_classes)
    there = counts > 0
    weights = np.where(there, len(labels) / (max(there.sum(), 1) * np.maximum(counts, 1)), 0)
    return weights.astype(np.float32)


def init_state(players: Players, sample: Batch, key: Array) -> TrainState:
    """A fresh state of a run's key; `sample` is any batch of the right widths."""
    model_key, discriminator_key = jax.random.split(jax.random.fold_in(key, jnp.int32(-2)))
    # Without the outputs the compiler leaves out the forward pass, which a long row makes expensive.
    params = jax.jit(players.model.init, static_argnums=2)(model_key, sample, False)["params"]
    outputs: Any = jax.eval_shape(functools.partial(players.model.apply, train=False), {"params": params}, sample)
    real = {
        m: jnp.zeros((1, 1, x.shape[-1]))
        for m, x in (sample.features if players.wiring == "feature" else outputs.codes).items()
    }
    discriminators = players.discriminators.init(discriminator_key, real if outputs.generated else {}, {})
    discriminators = discriminators.get("params", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=params,
        average=jax.tree.map(jnp.copy, params) if players.average else {},
        discriminators=discriminators,
        optimizer=players.optimizer.init(params),
        discriminator_optimizer=players.discriminator_optimizer.init(discriminators),
    )


def check_corpus(config: Any, corpus: Corpus) -> None:
    """Raises a UserError for a corpus that no training can learn from."""
    name = f"The corpus {corpus.name!r}"
    if corpus.task != config.data.task:
        raise UserError(f"{name} was read for data.task={corpus.task}, not {config.data.task}.")
    if corpus.target is None and corpus.num_classes < 2:
        only = ", ".join(corpus.label_names)
        raise UserError(
            f"{name} has only the class {only!r}: there is nothing to tell apart. Is its label another field?"
        )
    if not any(here[corpus.training].any() for here in corpus.present.values()):
        raise UserError(f"{name} has no features in its train split: all of them are missing, NaN or infinite.")
    if not corpus.labelled("valid").any():
        raise UserError(
            f"{name} has no labelled utterance in its validation split, which epoch and temperature are chosen on. "
            "Give some dialogues the split 'valid', or let data.valid_fraction carve them out of train."
        )
    if config.eval.report_best_test and not corpus.labelled("test").any():
        raise UserError(f"{name} has no labelled utterance in its test split: leave out eval.report_best_test=True.")


def check(config: Any) -> None:
    """Raises a UserError for options that no training can have, before anything is built."""
    for path, value, least in (
        *((name, config[name], 1) for name in ("num_epochs", "batch_size", "num_seeds", "members")),
        ("seed", config.seed, 0),
        ("model.gan.generator_hidden", config.model.gan.generator_hidden, 1),
        ("model.gan.discriminator_hidden", config.model.gan.discriminator_hidden, 1),
        ("model.contrast_width", config.model.contrast_width, 1),
    ):
        if value < least:
            raise UserError(f"{path}={value} must be at least {least}.")
    if config.data.cross_validation and config.members < 2:
        raise UserError(
            "data.cross_validation=True takes two members at least, each of which leaves out another part of the "
            "dialogues: set --config.members=5, or --config.data.cross_validation=false."
        )
    tasks.check(config.data.task, config.losses.to_dict(), config.eval.select)
    if config.eval.epoch not in EPOCHS:
        raise UserError(f"eval.epoch={config.eval.epoch!r}; choose {' or '.join(EPOCHS)}.")
    for path, value, least in (
        ("optimizer.weight_decay", config.optimizer.weight_decay, 0),
        ("optimizer.warmup_epochs", config.optimizer.warmup_epochs, 0),
        ("optimizer.clip", config.optimizer.clip, 0),
        ("checkpoint.every_seconds", config.checkpoint.every_seconds, 0),
        ("checkpoint.keep", config.checkpoint.keep, 1),
        ("diagnostics.every", config.diagnostics.every, 0),
    ):
        if not least <= value < float("inf"):
            raise UserError(f"{path}={value} must be at least {least}.")
    if config.optimizer.schedule not in ("cosine", "constant"):
        raise UserError(f"optimizer.schedule={config.optimizer.schedule!r}; choose cosine or constant.")
    if config.discriminator.game not in ("adversarial", "summed"):
        raise UserError(f"discriminator.game={config.discriminator.game!r}; choose adversarial or summed.")
    for path, value in (("optimizer.lr", config.optimizer.lr), ("discriminator.lr", config.discriminator.lr)):
        if not 0 < value < float("inf"):
            raise UserError(f"{path}={value} must be a positive number.")
    for option in ("modality_dropout", "dialogue_dropout"):
        if not 0 <= config.model[option] < 1:
            raise UserError(f"model.{option}={config.model[option]} must lie in [0, 1).")
    for path, value in (
        ("model.contrast_candidates", config.model.contrast_candidates),
        ("data.longest_row", config.data.longest_row),
        ("data.device_megabytes", config.data.device_megabytes),
    ):
        if not 0 <= value < float("inf"):
            raise UserError(f"{path}={value} must be at least 0; 0 sets no limit.")
    for path, value in (("optimizer.average", config.optimizer.average), ("discriminator.b1", config.discriminator.b1)):
        if not 0 <= value < 1:
            raise UserError(f"{path}={value} must lie in [0, 1).")
    adversarial = config.discriminator.game == "adversarial" and objective.has_discriminators(config.losses)
    if adversarial and config.discriminator.lr > config.optimizer.lr:
        raise UserError(
            f"discriminator.lr={config.discriminator.lr} exceeds optimizer.lr={config.optimizer.lr}; "
            "the discriminators would run ahead of the generators. Lower the first or raise the second."
        )

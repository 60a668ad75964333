"""One update of each player: the discriminators first, then the model against the updated discriminators."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ariigcn_jax import parallel
from ariigcn_jax.nn.gan import Discriminators
from ariigcn_jax.nn.layers import dropout_mask
from ariigcn_jax.nn.model import Model
from ariigcn_jax.objective import pairing, terms
from ariigcn_jax.types import PADDING, UNLABELED, Array, Batch, Outputs, TrainState

Logs = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Players:
    """The modules, terms and optimizers of a step."""

    model: Model  # the first player: encoders, generators, graphs, heads, classifier
    discriminators: Discriminators  # the second player
    terms: Mapping[str, terms.Term]  # active loss terms
    wiring: str  # real input of the discriminators, "feature" or "latent"
    optimizer: optax.GradientTransformation  # of the model
    discriminator_optimizer: optax.GradientTransformation  # of the discriminators
    average: float  # decay of the parameters' moving average, in [0, 1); 0 for none
    # rates at which a dialogue, and an utterance, loses a modality in training, in [0, 1)
    modality_dropout: tuple[float, float] = (0.0, 0.0)
    # both players minimise L_G + L_D in one step, without stop-gradient (journal code); for comparison
    summed: bool = False
    contrast_candidates: int = 0  # most nodes that anchors are compared with; 0 for all of the batch

    def real(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return what the discriminators see as real, modality -> [R, L, d]: features (of words, vectors), or codes."""
        if self.wiring != "feature":
            return outputs.codes if self.summed else jax.lax.stop_gradient(outputs.codes)
        return {**batch.features, **jax.lax.stop_gradient(outputs.encoded)}

    def judge(self, discriminators: Any, outputs: Outputs, batch: Batch) -> tuple[dict[str, Array], Outputs]:
        """Return real logits, and the outputs with their fake logits, under the given discriminators."""
        if not outputs.generated:
            return {}, outputs
        real = self.real(outputs, batch)
        real_logits, fake_logits = self.discriminators.apply({"params": discriminators}, real, outputs.generated)
        return real_logits, outputs.replace(fake_logits=fake_logits)


def init_state(players: Players, sample: Batch, key: Array) -> TrainState:
    """Return a fresh state for a run's key; `sample` is any batch of the right widths."""
    model_key, discriminator_key = jax.random.split(jax.random.fold_in(key, jnp.int32(-2)))
    # Without the outputs the compiler leaves out the forward pass, which a long row makes expensive.
    params = jax.jit(players.model.init, static_argnums=2)(model_key, sample, False)["params"]
    outputs: Any = jax.eval_shape(functools.partial(players.model.apply, train=False), {"params": params}, sample)
    like = {**sample.features, **outputs.encoded} if players.wiring == "feature" else outputs.codes
    real = {m: jnp.zeros((1, 1, x.shape[-1])) for m, x in like.items()} if outputs.generated else {}
    discriminators = players.discriminators.init(discriminator_key, real, {}).get("params", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=params,
        average=jax.tree.map(jnp.copy, params) if players.average else {},
        discriminators=discriminators,
        optimizer=players.optimizer.init(params),
        discriminator_optimizer=players.discriminator_optimizer.init(discriminators),
    )


def train_step(players: Players, state: TrainState, batch: Batch, axis: str | None) -> tuple[TrainState, Logs]:
    """Make the update of `traced_step`, without its gradients."""
    return traced_step(players, state, batch, axis)[:2]


def traced_step(
    players: Players, state: TrainState, batch: Batch, axis: str | None
) -> tuple[TrainState, Logs, dict[str, Any]]:
    """Update each player once: the discriminators first, then the model against the updated discriminators.

    The model runs forward once: the discriminators learn from its outputs as constants, and the gradient of the hybrid
    loss is pulled back through the same pass. `batch` has this device's rows; `axis` names the device axis, or is None.

    Returns:
      The next state, global logs, and the gradients: "model" like its parameters, "discriminators" like theirs.
    """
    key = jax.random.fold_in(state.key, state.step)
    batch = seen_batch(players, key, batch, state)

    def forward(params: Any) -> Outputs:
        outputs: Any = players.model.apply({"params": params}, batch, True, rngs={"dropout": key})
        return outputs.replace(attention={}, attention_entropy={})  # no term reads them: no backward pass

    outputs, pullback = jax.vjp(forward, state.params)
    logs: Logs = {}
    d_gradient: Any = {}  # of L_D
    if not players.summed:
        state, logs, d_gradient = _discriminator_step(players, state, jax.lax.stop_gradient(outputs), batch, axis)

    def loss(outputs: Outputs, discriminators: Any) -> tuple[Array, Logs]:
        real, outputs = players.judge(discriminators, outputs, batch)
        offset = jax.random.randint(jax.random.fold_in(key, jnp.int32(-2)), (), 0, 2**30)  # unused without a sample
        candidates = pairing.other_candidates(outputs, batch, axis, players.contrast_candidates, offset)
        outputs = outputs.replace(candidates=candidates)
        share, values = terms.total(players.terms, outputs, batch, axis)
        if players.summed and outputs.generated:
            value = terms.discriminator_total(players.terms, real, outputs, batch, axis)
            share = share + sum(t.weight for t in players.terms.values() if t.discriminator) * value
            values = {**values, "discriminator": parallel.psum(value, axis)}
        return share, values

    both = (0, 1) if players.summed else 0
    (share, values), cotangents = jax.value_and_grad(loss, both, has_aux=True)(outputs, state.discriminators)
    if players.summed:
        cotangents, d_gradient = cotangents
        state, norms, d_gradient = _update_discriminators(players, state, d_gradient, axis)
        logs |= norms if outputs.generated else {}
    gradient = parallel.psum(pullback(cotangents)[0], axis)
    updates, optimizer = players.optimizer.update(gradient, state.optimizer, state.params)
    logs = {"total": parallel.psum(share, axis), **values, **logs, "gradient_norm": optax.tree.norm(gradient)}
    params = optax.apply_updates(state.params, updates)
    average = moving_average(state.average, params, players.average, state.step) if state.average else state.average
    state = state.replace(step=state.step + 1, params=params, average=average, optimizer=optimizer)
    return state, logs, {"model": gradient, "discriminators": d_gradient}


def _discriminator_step(
    players: Players, state: TrainState, outputs: Outputs, batch: Batch, axis: str | None
) -> tuple[TrainState, Logs, Any]:
    """Update the discriminators on L_D; return the state, the logs and their gradient."""
    if not outputs.generated:
        return state, {}, {}

    def loss(discriminators: Any) -> Array:
        real, judged = players.judge(discriminators, outputs, batch)
        return terms.discriminator_total(players.terms, real, judged, batch, axis)

    share, gradient = jax.value_and_grad(loss)(state.discriminators)
    state, norms, gradient = _update_discriminators(players, state, gradient, axis)
    return state, {"discriminator": parallel.psum(share, axis), **norms}, gradient


def _update_discriminators(
    players: Players, state: TrainState, gradient: Any, axis: str | None
) -> tuple[TrainState, Logs, Any]:
    """Return the state with the discriminators updated, the log of their gradient, and the gradient of all devices."""
    gradient = parallel.psum(gradient, axis)
    updates, optimizer = players.discriminator_optimizer.update(
        gradient, state.discriminator_optimizer, state.discriminators
    )
    discriminators = optax.apply_updates(state.discriminators, updates)
    state = state.replace(discriminators=discriminators, discriminator_optimizer=optimizer)
    return state, {"discriminator_gradient_norm": optax.tree.norm(gradient)}, gradient


def moving_average(average: Any, params: Any, decay: float, step: Array) -> Any:
    """Return the exponential moving average of the parameters; its decay rises to `decay` (choice)."""
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, average, params)


def seen_batch(players: Players, key: Array, batch: Batch, state: TrainState) -> Batch:
    """Return a batch without the model's fold, after modality dropout; `key` is the step's."""
    if batch.fold is not None:
        batch = _without(batch, batch.fold == state.fold)
    if any(players.modality_dropout):
        batch = drop_modalities(jax.random.fold_in(key, jnp.int32(-1)), batch, players.modality_dropout)
    return batch


def _without(batch: Batch, removed: Array) -> Batch:
    """Remove utterances [R, L] bool, of whole dialogues, from a batch: no loss and no other dialogue reads them."""
    present = {m: here & ~removed for m, here in batch.present.items()}
    return batch.replace(
        features={m: jnp.where(present[m][..., None], x, 0) for m, x in batch.features.items()},
        present=present,
        label=jnp.where(removed, UNLABELED, batch.label),
        utterance=jnp.where(removed, PADDING, batch.utterance),
        rated=None if batch.rated is None else batch.rated & ~removed,
    )


def drop_modalities(key: Array, batch: Batch, rates: tuple[float, float]) -> Batch:
    """Remove modalities from dialogues, then from utterances, at random (choice).

    `rates` are their probabilities, in [0, 1), in steps of 1/256. A draw that would remove an utterance's last modality
    does not count for it.
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
    """Return `present & kept` [R, L, M] bool, or `present` where no modality would remain."""
    left = present & kept
    return jnp.where(left.any(axis=-1, keepdims=True), left, present)

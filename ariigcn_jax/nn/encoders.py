"""Per-modality encoders F_m: features → codes ξ in the modality's own space (paper), and context behind them
(choice)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from ariigcn_jax.nn.layers import MLP, NORM_FLOOR, Dense, Dropout
from ariigcn_jax.rules import RATE, one_of
from ariigcn_jax.types import Array, Batch

CONTEXTS = ("none", "gru", "attention", "speaker")
RULES = {"input_dropout": RATE, "context": one_of(*CONTEXTS)}


class Encoder(nn.Module):
    """F_m, an MLP with dropout before and inside (paper: MLP); a learned vector for a missing modality (choice)."""

    hidden: int
    dropout: float
    input_dropout: float = 0.0
    precision: str = "float32"

    @nn.compact
    def __call__(self, features: Array, present: Array, rows: Array, train: bool) -> Array:
        """Map features [R, L, d_m], present [R, L], of rows with the numbers `rows` [R], to codes [R, L, D]."""
        x = Dropout(self.input_dropout)(features, rows, train)
        codes = MLP(self.hidden, self.hidden, self.dropout, self.precision, self.precision)(x, rows, train)
        missing = self.param("missing", nn.initializers.normal(0.02), (self.hidden,))
        return jnp.where(present[..., None], codes, missing)


class GRU(nn.Module):
    """One direction of a GRU over packed rows; its state restarts with each dialogue. State and gates are float32."""

    hidden: int
    reverse: bool = False
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: Array, dialogue: Array) -> Array:
        """Map x [R, L, d], dialogue [R, L] to [R, L, hidden]."""
        inputs = Dense(3 * self.hidden, dtype=self.precision)(x).astype(jnp.float32)
        weights = self.param("recurrent", nn.initializers.orthogonal(), (self.hidden, 3 * self.hidden))
        bias = self.param("recurrent_bias", nn.initializers.zeros, (self.hidden,))
        shifted = jnp.roll(dialogue, -1 if self.reverse else 1, axis=1)
        edge = -1 if self.reverse else 0  # not a number from the shape, which an export leaves open
        starts = (dialogue != shifted).at[:, edge].set(True)

        def step(state: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            given, start = now
            state = jnp.where(start[:, None], 0, state)
            mixed = state.astype(self.precision) @ weights.astype(self.precision)
            reset, update = jnp.split(nn.sigmoid((given + mixed)[:, : 2 * self.hidden]), 2, axis=-1)
            candidate = jnp.tanh(given[:, 2 * self.hidden :] + reset * (mixed[:, 2 * self.hidden :] + bias))
            state = update * state + (1 - update) * candidate
            return state, state

        first = jnp.zeros((x.shape[0], self.hidden), inputs.dtype)
        _, states = jax.lax.scan(step, first, (inputs.swapaxes(0, 1), starts.T), reverse=self.reverse)
        return states.swapaxes(0, 1)


def speaker_mean(codes: Array, present: Array, batch: Batch) -> Array:
    """Return the mean of codes [R, L, D] over a speaker's utterances of a dialogue that are present [R, L] (choice).

    It is zero where none of the speaker's utterances is present.
    """
    order = jnp.lexsort((batch.speaker, batch.dialogue), axis=-1)
    dialogue, speaker = (jnp.take_along_axis(x, order, axis=-1) for x in (batch.dialogue, batch.speaker))
    new = [jnp.diff(x, axis=-1, prepend=x[:, :1]) != 0 for x in (dialogue, speaker)]
    number = jnp.cumsum(new[0] | new[1], axis=-1)  # of the dialogue's speaker inside the row
    number = jnp.take_along_axis(number, jnp.argsort(order, axis=-1), axis=-1)

    def one_row(codes: Array, present: Array, number: Array) -> Array:
        kept = jnp.concatenate([codes * present[:, None], present[:, None].astype(codes.dtype)], axis=-1)
        total = jnp.zeros_like(kept).at[number].add(kept)
        return (total[:, :-1] / jnp.maximum(total[:, -1:], 1))[number]

    return jax.vmap(one_row)(codes, present, number)


class Context(nn.Module):
    """A context encoder behind F_m (choice; the journal version's code has an LSTM here)."""

    # "none"; "gru", bidirectional; "attention", self-attention over the dialogue, quadratic in a row's length; or
    # "speaker", a linear map of the mean of the speaker's codes in the dialogue
    kind: str
    hidden: int  # D, even for "gru"
    heads: int  # of "attention"
    dropout: float  # rate in [0, 1)
    precision: str = "float32"  # dtype of the products; softmax and residual connection are float32

    @nn.compact
    def __call__(self, codes: Array, present: Array, batch: Batch, train: bool) -> Array:
        """Map codes [R, L, D], present [R, L] to [R, L, D], with a residual connection."""
        if self.kind == "none":
            return codes
        if self.kind == "speaker":
            x = Dropout(self.dropout)(speaker_mean(codes, present, batch), batch.row, train)
            return codes + Dense(self.hidden, kernel_init=nn.initializers.normal(0.02), dtype=self.precision)(x)
        x = nn.LayerNorm(epsilon=NORM_FLOOR)(codes)
        if self.kind == "gru":
            ahead = GRU(self.hidden // 2, False, self.precision)(x, batch.dialogue)
            back = GRU(self.hidden - self.hidden // 2, True, self.precision)(x, batch.dialogue)
            x = jnp.concatenate([ahead, back], axis=-1)
        else:
            same = batch.dialogue[:, None, :, None] == batch.dialogue[:, None, None, :]
            attention = nn.MultiHeadDotProductAttention(self.heads, dtype=self.precision, force_fp32_for_softmax=True)
            x = attention(x, mask=same)
        return codes + Dropout(self.dropout)(x, batch.row, train)

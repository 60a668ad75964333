"""Encode words: transformer encoders of the BERT class (BERT, MiniLM, DistilBERT, RoBERTa, XLM-RoBERTa) in linen.

Utterances of different lengths share rows of tokens, so that little is padding; a token attends to its own utterance
alone. The lowest part of a network may be computed beforehand: where it is not trained, it gives the same every time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ariigcn_jax.nn.layers import Dropout
from ariigcn_jax.rules import RATE, at_least, one_of
from ariigcn_jax.types import PADDING, Array, Tokens


def gelu(x: Array) -> Array:
    """Return x Φ(x), by erf: jax.nn.gelu takes erfc, which takes a CPU twice as long."""
    return 0.5 * x * (1 + lax.erf(x * 0.5**0.5))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    **dict.fromkeys(("gelu", "gelu_python"), gelu),
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), functools.partial(nn.gelu, approximate=True)),
    **dict.fromkeys(("silu", "swish"), nn.silu),
    "relu": nn.relu,
}
POOLINGS = ("mean", "cls", "max")
RULES = {
    "pooling": one_of("auto", *POOLINGS),
    "turns": at_least(0),
    "dropout": RATE,
    "precision": one_of("bfloat16", "float32"),
}
NAME, STATISTICS = "text_encoder", "text_statistics"  # of its parameters in the model, and of those of Standard
IDS, TABLE = -2, -1  # what a network is given: token ids, or rows of its word table; a number k >= 0: hidden state k


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The numbers of a network, as its config.json has them."""

    vocabulary: int
    width: int  # d
    depth: int  # layers
    heads: int
    middle: int  # width between the two products of a layer's second half
    positions: int  # rows of the table of positions
    first_position: int  # row of the first token: 0, and behind the padding's row in RoBERTa
    types: int  # rows of the table of token types; 0 for none (DistilBERT)
    epsilon: float  # of the norms
    activation: str  # a key of ACTIVATIONS

    @property
    def longest(self) -> int:
        """Return the most tokens of a text."""
        return self.positions - self.first_position


def _dot(a: Array, b: Array, left: int, right: int) -> Array:
    """Contract the axes `left` of a and `right` of b, rounded to bfloat16, with sums in float32."""
    both = (a.astype(jnp.bfloat16), b.astype(jnp.bfloat16))
    return lax.dot_general(*both, (((left,), (right,)), ((), ())), preferred_element_type=jnp.float32)


def _transposed(a: Array) -> Array:
    """Return the transpose of a [n, m] in bfloat16; on a CPU by a product with the identity, which is exact.

    A CPU has fast instructions for bfloat16 only where the left operand of a product lies in memory as it is written.
    """
    return _dot(jnp.eye(a.shape[1]), a, 1, 1) if jax.default_backend() == "cpu" else a.astype(jnp.bfloat16).T


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: Array, w: Array, turned: bool) -> Array:
    """Multiply x [n, a] by w [a, b], or by the transpose of w [b, a] where it is `turned`.

    The products of both passes are of bfloat16, with sums in float32.
    """
    return _dot(x, w, 1, int(turned))


def _product_forward(x: Array, w: Array, turned: bool) -> tuple[Array, tuple[Array, Array]]:
    return _dot(x, w, 1, int(turned)), (x.astype(jnp.bfloat16), w)


def _product_backward(turned: bool, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = kept
    g = g.astype(jnp.bfloat16)
    of_w = _dot(_transposed(g), x, 1, 0) if turned else _dot(_transposed(x), g, 1, 0)
    return _dot(g, w, 1, int(not turned)), of_w


product.defvjp(_product_forward, _product_backward)


class Linear(nn.Module):
    """A linear map with a bias; its kernel is [in, out], or [out, in] where that is less: then less is transposed."""

    out: int
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map x [..., d] to [..., out]."""
        turned = x.shape[-1] > self.out
        shape = (self.out, x.shape[-1]) if turned else (x.shape[-1], self.out)
        kernel = self.param("kernel", nn.initializers.normal(0.02), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.out,))
        flat = x.reshape(-1, x.shape[-1])
        exact = self.precision == "float32"
        made = flat @ (kernel.T if turned else kernel) if exact else product(flat, kernel, turned)
        return made.reshape(*x.shape[:-1], self.out) + bias


class Layer(nn.Module):
    """A transformer layer whose norms come after the residual connections."""

    architecture: Architecture
    dropout: float
    precision: str

    @nn.compact
    def __call__(self, x: Array, same: Array, rows: Array, train: bool) -> Array:
        """Map x [B, S, d], whose tokens attend where `same` [B, S, S] is true; `rows` [B] are the rows' numbers."""
        a = self.architecture
        linear = functools.partial(Linear, precision=self.precision)
        norm = functools.partial(nn.LayerNorm, epsilon=a.epsilon, use_fast_variance=False)
        parts = linear(3 * a.width, name="query_key_value")(x)
        query, key, value = (part.reshape(*x.shape[:2], a.heads, -1) for part in jnp.split(parts, 3, axis=-1))
        scores = jnp.einsum("bshd,bthd->bhst", query * (a.width // a.heads) ** -0.5, key)
        weights = nn.softmax(jnp.where(same[:, None], scores, jnp.finfo(scores.dtype).min))
        mixed = jnp.einsum("bhst,bthd->bshd", weights, value).reshape(x.shape)
        mixed = Dropout(self.dropout)(linear(a.width, name="attended")(mixed), rows, train)
        x = norm(name="attended_norm")(x + mixed)
        middle = ACTIVATIONS[a.activation](linear(a.middle, name="expand")(x))
        made = Dropout(self.dropout)(linear(a.width, name="contract")(middle), rows, train)
        return norm(name="norm")(x + made)


class TextEncoder(nn.Module):
    """A network over packed tokens, from what it is `given` up to the layer `last`."""

    architecture: Architecture
    given: int = IDS  # IDS, TABLE, or the hidden state that `Tokens.states` holds
    last: int = -1  # the last layer that is computed; -1 for all of them
    dropout: float = 0.0  # rate in [0, 1), of the embeddings and of both halves of a layer (choice: none of attention)
    precision: str = "float32"  # of the products with weights; all else is float32
    remat: bool = False  # compute a layer's inner values again in the backward pass, instead of keeping them

    @nn.compact
    def __call__(self, tokens: Tokens, rows: Array, train: bool) -> list[Array]:
        """Return the hidden states computed here, each [R, Q, S, d]; number 0 are the embeddings.

        Args:
          tokens: of R rows.
          rows: [R], the rows' numbers.
          train: whether to drop.
        """
        a = self.architecture
        shape = tokens.slot.shape
        places = tokens.slot.reshape(-1, shape[-1])
        numbers = (rows[:, None] * shape[1] + jnp.arange(shape[1])).reshape(-1)
        same = places[:, :, None] == places[:, None, :]
        if self.given == IDS:
            x = nn.Embed(a.vocabulary, a.width, name="words")(tokens.ids)
        else:
            x = jnp.asarray(tokens.states, jnp.float32)
        x = x.reshape(*places.shape, a.width)
        if self.given < 0:
            x = x + nn.Embed(a.positions, a.width, name="positions")(tokens.position.reshape(places.shape))
            if a.types:
                x = x + self.param("types", nn.initializers.normal(0.02), (a.types, a.width))[0]
            x = nn.LayerNorm(epsilon=a.epsilon, use_fast_variance=False, name="norm")(x)
            x = Dropout(self.dropout)(x, numbers, train)
        states = [x]
        layer: Any = nn.remat(Layer, static_argnums=(4,)) if self.remat else Layer
        for k in range(max(self.given, 0), a.depth if self.last < 0 else self.last):
            x = layer(a, self.dropout, self.precision, name=f"layer_{k}")(x, same, numbers, train)
            states.append(x)
        return [state.reshape(*shape, a.width) for state in states]


def pool(states: Array, tokens: Tokens, length: int, how: str) -> Array:
    """Pool hidden states [R, Q, S, d] over the tokens of each utterance: [R, length, d], zeros where it has none.

    `how` is one of POOLINGS; the mean over the first mark alone is "cls" (`data.tokens`).
    """
    rows, width = states.shape[0], states.shape[-1]
    place = jnp.arange(rows)[:, None, None] * length + tokens.slot
    place = jnp.where(tokens.pooled & (tokens.slot != PADDING), place, rows * length).reshape(-1)
    flat = states.reshape(-1, width)
    if how == "max":
        most = jax.ops.segment_max(flat, place, rows * length + 1)
        return jnp.where(jnp.isfinite(most), most, 0)[:-1].reshape(rows, length, width)
    total = jax.ops.segment_sum(flat, place, rows * length + 1)[:-1]
    count = jax.ops.segment_sum(jnp.ones_like(place, jnp.float32), place, rows * length + 1)[:-1]
    return (total / jnp.maximum(count, 1)[:, None]).reshape(rows, length, width)


def numbers(layers: Sequence[int], depth: int) -> tuple[int, ...]:
    """Return the numbers of hidden states, 0 (the embeddings) to `depth`; negative ones count from the end."""
    return tuple(k % (depth + 1) for k in layers)


def joined(states: Mapping[int, Array], tokens: Tokens, length: int, layers: Sequence[int], how: str) -> Array:
    """Pool the hidden states of `layers` over each utterance's tokens, and join them: [R, length, width].

    `states` are number -> [R, Q, S, d].
    """
    return jnp.concatenate([pool(states[k], tokens, length, how) for k in layers], axis=-1)


class Standard(nn.Module):
    """Standardise vectors as features are, by mean and scale of the train utterances before training (choice).

    So a model begins with what it has from a frozen encoder. Both stay as they are while the encoder is trained.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Standardise x [..., d], and clip it to ±10."""
        mean = self.param("mean", nn.initializers.zeros, (x.shape[-1],))
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        return jnp.clip((x - lax.stop_gradient(mean)) / lax.stop_gradient(scale), -10, 10)

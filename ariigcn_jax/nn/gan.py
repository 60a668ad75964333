"""TGAN: generators that translate one modality's code into another's space, and the discriminators that judge them.

For each modality m the discriminator D_m sees as real the features x^m ("feature" wiring, paper's figure) or the
codes ξ^m ("latent" wiring, as in the journal version's code), and as fakes G_m(ξ^{m'}) for each other modality m'.
With one modality there is no pair, and so no generator or discriminator.
"""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from ariigcn_jax.nn.layers import Dense
from ariigcn_jax.rules import at_least, one_of
from ariigcn_jax.types import Array, Modality

WIRINGS = ("feature", "latent")
RULES = {"wiring": one_of(*WIRINGS), "generator_hidden": at_least(1), "discriminator_hidden": at_least(1)}
Pair = tuple[Modality, Modality]
LEAK = 0.2


def pairs(modalities: tuple[Modality, ...]) -> list[Pair]:
    """Return all (source, target) with source != target, in the order of the modalities."""
    return [(source, target) for target in modalities for source in modalities if source != target]


class Generator(nn.Module):
    """G_m: code [..., D] → space of modality m [..., out] float32 (paper: a generator per modality; layers: choice)."""

    hidden: int
    out: int
    precision: str = "float32"

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        """Map codes [..., D] to [..., out]."""
        x = nn.LayerNorm(epsilon=1e-6)(Dense(self.hidden, dtype=self.precision)(codes))
        return Dense(self.out, dtype=self.precision)(nn.leaky_relu(x, LEAK)).astype(jnp.float32)


class Discriminator(nn.Module):
    """D_m: [..., d] → logit [...] of being real, float32 (paper: a discriminator per modality; layers: choice)."""

    hidden: int
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map x [..., d] to logits [...]."""
        x = nn.leaky_relu(Dense(self.hidden, dtype=self.precision)(x), LEAK)
        x = nn.leaky_relu(Dense(self.hidden, dtype=self.precision)(x), LEAK)
        return Dense(1, dtype=jnp.float32)(x)[..., 0]


class Discriminators(nn.Module):
    """D_m of all modalities, the second player; none for one modality."""

    modalities: tuple[Modality, ...]
    hidden: int
    precision: str = "float32"

    @nn.compact
    def __call__(
        self, real: Mapping[Modality, Array], generated: Mapping[Pair, Array]
    ) -> tuple[dict[Modality, Array], dict[Pair, Array]]:
        """Return the logits [..] of real [.., d_m] for each modality and generated [.., d_target] for each pair.

        Either input may be empty.
        """
        real_logits: dict[Modality, Array] = {}
        fake_logits: dict[Pair, Array] = {}
        for target in self.modalities if len(self.modalities) > 1 else ():
            discriminator = Discriminator(self.hidden, self.precision, name=target)
            if target in real:
                real_logits[target] = discriminator(real[target])
            sources = [source for source, t in generated if t == target]
            if sources:
                logits = discriminator(jnp.stack([generated[source, target] for source in sources]))
                fake_logits |= {(source, target): logits[k] for k, source in enumerate(sources)}
        return real_logits, fake_logits

"""AR-IIGCN's forward pass: encoders → graphs → classifier, and the heads that losses read in training.

Options are `config.model` of ariigcn_jax/options/base.py, with units and legal values. A module gets those that it has
attributes for (`layers.options_of`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from ariigcn_jax import rules
from ariigcn_jax.nn import attention, encoders, gan, layers, text_encoder
from ariigcn_jax.nn.attention import GraphAttention
from ariigcn_jax.nn.encoders import Context, Encoder
from ariigcn_jax.nn.gan import Generator
from ariigcn_jax.nn.graph import GraphsTuple, conversation_graph, modality_graph
from ariigcn_jax.nn.layers import MLP, NORM_FLOOR, Dense, Dropout, options_of, unit
from ariigcn_jax.rules import RATE, Rule, at_least
from ariigcn_jax.types import WORDS, Array, Batch, Description, Modality, Outputs, UserError

WINDOW = Rule("be a number of utterances >= 0, or -1 for the whole dialogue", lambda x: x >= -1)
RULES = {
    "hidden": at_least(1),
    "modality_dropout": RATE,
    "dialogue_dropout": RATE,
    "speakers": at_least(0),
    "contrast_width": at_least(1),
    "contrast_candidates": rules.LIMIT,
    "graph.layers": at_least(0),
    "graph.past": WINDOW,
    "graph.future": WINDOW,
}


class Model(nn.Module):
    """The whole network but the discriminators; stateless, all arrays static in shape.

    With the precision "bfloat16" only the matrix products are in it.
    """

    description: Description  # modalities with their widths, and outputs
    options: FrozenConfigDict  # `config.model`
    further: frozenset[str] = frozenset()  # outputs of HEADS to compute beside the logits

    def with_options(self, changes: Mapping[str, Any]) -> Model:
        """Return the network with other options, given by dotted keys."""
        options = ConfigDict(self.options)
        options.update_from_flattened_dict(changes)
        return self.clone(options=FrozenConfigDict(options))

    @nn.compact
    def __call__(self, batch: Batch, train: bool) -> Outputs:
        """Run the network on packed dialogues; `train` turns dropout on."""
        encoded = {} if batch.tokens is None else {WORDS: self._words(batch, train)}
        given = {**batch.features, **encoded}
        codes = {
            m: Encoder(**options_of(Encoder, self.options), name=f"encoder_{m}")(
                given[m], batch.present[m], batch.row, train
            )
            for m in self.description.modalities
        }
        graphs = self._graphs(codes, batch, train)
        hidden = {m: steps[-1].nodes["hidden"].reshape(codes[m].shape) for m, steps in graphs.items()}
        weights, entropy, slots = {}, {}, (batch.dialogue.size, -1, self.options.graph.heads)
        for m, steps in graphs.items() if self.options.graph.layers else ():
            weights[m] = jnp.stack([g.edges["attention"].reshape(slots) for g in steps])
            entropy[m] = jnp.stack([g.nodes["attention_entropy"].reshape(batch.dialogue.shape) for g in steps])
        inner = Inner(self, codes, hidden, batch, train)
        made = {name: head(inner) for name, head in HEADS.items() if name in self.further | {"logits"}}
        fields = {field.name for field in dataclasses.fields(Outputs)}
        extra = {name: made.pop(name) for name in [*made] if name not in fields}
        made |= {"encoded": encoded, "attention": weights, "attention_entropy": entropy}
        return Outputs(codes=codes, hidden=hidden, extra=extra, **made)

    def _words(self, batch: Batch, train: bool) -> Array:
        """Return the vectors of the batch's tokens [R, L, d_m], by the text encoder that is trained along."""
        assert self.description.encoder is not None and batch.tokens is not None
        architecture, start, pooling = self.description.encoder
        chosen, layers = self.options.text, text_encoder.numbers(self.options.text.layers, architecture.depth)
        encoder = text_encoder.TextEncoder(
            architecture, start, **options_of(text_encoder.TextEncoder, chosen), name=text_encoder.NAME
        )
        states = dict(enumerate(encoder(batch.tokens, batch.row, train), start=max(start, 0)))
        length = batch.dialogue.shape[1]
        vectors = text_encoder.joined(states, batch.tokens, length, layers, pooling)
        standard = text_encoder.Standard(name=text_encoder.STATISTICS)(vectors)
        return jnp.where(batch.present[WORDS][..., None], standard, 0)

    def _graphs(self, codes: Mapping[Modality, Array], batch: Batch, train: bool) -> dict[str, list[GraphsTuple]]:
        """Return each modality's graph after every layer (paper: one speaker graph per modality)."""
        options, window = self.options, self.options.graph
        known = batch if window.speaker_relations else batch.replace(speaker=jnp.zeros_like(batch.speaker))
        shared = conversation_graph(known, window.past, window.future)
        graphs = {}
        for m, code in codes.items():
            context = Context(options.context, heads=window.heads, **options_of(Context, options), name=f"context_{m}")
            x = context(code, batch.present[m], known, train)
            if options.speakers:
                embedding = nn.Embed(options.speakers, options.hidden, name=f"speaker_{m}")
                x = x + embedding(jnp.minimum(batch.speaker, options.speakers - 1))
            graph = modality_graph(shared, x.reshape(-1, options.hidden), batch.present[m].reshape(-1))
            steps = [graph]
            for k in range(window.layers):
                chosen = {**options_of(GraphAttention, options), **options_of(GraphAttention, window)}
                steps.append(GraphAttention(**chosen, name=f"graph_{m}_{k}")(steps[-1], batch.row, train))
            graphs[m] = steps[1:] or steps
        return graphs


@dataclasses.dataclass(frozen=True)
class Inner:
    """The input of a head: the model with its options, codes ξ and graph outputs (modality -> [R, L, D]), the batch."""

    model: Model
    codes: Mapping[Modality, Array]
    hidden: Mapping[Modality, Array]
    batch: Batch
    train: bool

    @functools.cached_property
    def joined(self) -> Array:
        """Return the classifier's input [R, L, M D]: the modalities' `hidden` side by side, normed and dropped."""
        x = nn.LayerNorm(epsilon=NORM_FLOOR)(jnp.concatenate(list(self.hidden.values()), axis=-1))
        return Dropout(self.model.options.dropout)(x, self.batch.row, self.train)


def contrast(inner: Inner) -> dict[Modality, Array]:
    """Return unit vectors in the contrast space (choice: a two-layer head)."""
    options = inner.model.options
    made = {}
    for m, h in inner.hidden.items():
        head = MLP(options.hidden, options.contrast_width, precision=options.precision, name=f"contrast_{m}")
        made[m] = unit(head(h, inner.batch.row, inner.train))
    return made


def logits(inner: Inner) -> Array:
    """Return MLP([h^1 ‖ … ‖ h^M]) (paper)."""
    options, outputs = inner.model.options, inner.model.description.outputs
    classifier = MLP(options.hidden, outputs, options.dropout, options.precision, name="classifier")
    return classifier(inner.joined, inner.batch.row, inner.train)


def ratings(inner: Inner) -> Array:
    """Return predicted ratings of annotators, a linear function of the classifier's input (choice)."""
    return Dense(inner.model.description.ratings, name="ratings")(inner.joined)


def unimodal(inner: Inner) -> dict[Modality, Array]:
    """Return the logits of a linear classifier for each of several modalities (choice), so that each one learns."""
    if len(inner.hidden) < 2:
        return {}
    normed = {m: nn.LayerNorm(epsilon=NORM_FLOOR, name=f"unimodal_norm_{m}")(h) for m, h in inner.hidden.items()}
    dropped = {m: Dropout(inner.model.options.dropout)(x, inner.batch.row, inner.train) for m, x in normed.items()}
    return {m: Dense(inner.model.description.outputs, name=f"unimodal_{m}")(x) for m, x in dropped.items()}


def generated(inner: Inner) -> dict[gan.Pair, Array]:
    """Return G_target(ξ^source) for each pair of different modalities (paper)."""
    options, widths = inner.model.options, dict(inner.model.description.widths)
    made: dict[gan.Pair, Array] = {}
    for target in widths:
        sources = [source for source, t in gan.pairs(tuple(widths)) if t == target]
        if sources:
            generator = Generator(
                hidden=options.gan.generator_hidden,
                out=widths[target] if options.gan.wiring == "feature" else options.hidden,
                precision=options.precision,
                **options_of(Generator, options.gan),
                name=f"generator_{target}",
            )
            fakes = generator(jnp.stack([inner.codes[source] for source in sources]))
            made |= {(source, target): fakes[k] for k, source in enumerate(sources)}
    return made


# Name of an output -> its head. The logits are always computed, another output where an active loss term needs it.
# Outputs without a field in `Outputs` are in `Outputs.extra`.
HEADS: dict[str, Callable[[Inner], Any]] = {
    "contrast": contrast,
    "logits": logits,
    "ratings": ratings,
    "unimodal": unimodal,
    "generated": generated,
}


def check(options: Any) -> None:
    """Check `config.model`, before anything is traced.

    Raises:
      UserError: names an option that cannot be built.
    """
    rules.check(options, RULES | layers.RULES | encoders.RULES, "model.")
    rules.check(options.graph, attention.RULES, "model.graph.")
    rules.check(options.gan, gan.RULES, "model.gan.")
    rules.check(options.text, text_encoder.RULES, "model.text.")
    if options.hidden % options.graph.heads:
        raise UserError(
            f"model.hidden={options.hidden} must be a positive multiple of model.graph.heads={options.graph.heads}."
        )

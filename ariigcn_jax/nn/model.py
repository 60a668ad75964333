"""AR-IIGCN's forward pass: encoders → generators; encoders → graphs → contrast heads and classifier."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from ariigcn_jax.nn.attention import KERNELS, SCORES, GraphAttention
from ariigcn_jax.nn.encoders import CONTEXTS, Context, Encoder
from ariigcn_jax.nn.gan import WIRINGS, Generator, pairs
from ariigcn_jax.nn.graph import GraphsTuple, conversation_graph, modality_graph
from ariigcn_jax.nn.layers import MLP, NORM_FLOOR, Dense, Dropout, unit
from ariigcn_jax.types import Array, Batch, Modality, Outputs, UserError

PRECISIONS = ("float32", "bfloat16")


class Model(nn.Module):
    """The whole network but the discriminators; stateless, all arrays static in shape.

    Attributes:
      widths: (modality, d_m) for each modality.
      num_classes: O; C where classes are predicted.
      hidden: D.
      dropout: rate inside every block, in [0, 1).
      input_dropout: rate on the features, in [0, 1).
      context: context encoder behind F_m: "none", "gru", "attention" or "speaker".
      layers: graph layers.
      heads: H, attention heads, a divisor of D.
      past: utterances before that a node hears; -1 for the whole dialogue.
      future: utterances after; -1 for the whole dialogue.
      score: edge attention, "additive" (paper), "dot" or "uniform".
      relation_values: W_r for each relation, or one W.
      speaker_relations: whether relations, and the context "speaker", tell the same speaker from another; all count as
        the same otherwise.
      kernel: "band" or "edges".
      block: slots of a block of the band kernel; 0 for whole rows.
      speakers: rows of the speaker embedding; a dialogue's further speakers share the last; 0 for none.
      contrast_width: Z.
      generator_hidden: width of the generators.
      wiring: space of the GAN, "feature" (paper) or "latent".
      generate: whether generators are there.
      contrast: whether contrast heads are there.
      unimodal: whether each modality has a classifier of its own in training.
      ratings: K, annotators' ratings that are predicted beside the label; 0 for none.
      precision: dtype of the matrix products, "float32" or "bfloat16". Parameters, norms, softmax, residual
        connections, logits and all other outputs are float32 with either.
    """

    widths: tuple[tuple[Modality, int], ...]
    num_classes: int
    hidden: int
    dropout: float
    input_dropout: float
    context: str
    layers: int
    heads: int
    past: int
    future: int
    score: str
    relation_values: bool
    speaker_relations: bool
    kernel: str
    block: int
    speakers: int
    contrast_width: int
    generator_hidden: int
    wiring: str
    generate: bool
    contrast: bool
    unimodal: bool
    ratings: int
    precision: str

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(m for m, _ in self.widths)

    @nn.compact
    def __call__(self, batch: Batch, train: bool) -> Outputs:
        """Runs the network on packed dialogues; `train` turns dropout and generators on."""
        codes = {
            m: Encoder(self.hidden, self.dropout, self.input_dropout, self.precision, name=f"encoder_{m}")(
                batch.features[m], batch.present[m], batch.row, train
            )
            for m in self.modalities
        }
        graphs = self._graphs(codes, batch, train)
        hidden = {m: layers[-1].nodes["hidden"].reshape(codes[m].shape) for m, layers in graphs.items()}
        contrast = {m: self._contrast_head(m)(h, batch.row, train) for m, h in hidden.items()} if self.contrast else {}
        logits, ratings = self._classify(hidden, batch, train)
        return Outputs(
            logits=logits,
            ratings=ratings,
            unimodal=self._classify_alone(hidden, batch, train) if self.unimodal else {},
            codes=codes,
            hidden=hidden,
            contrast={m: unit(z) for m, z in contrast.items()},
            generated=self._generate(codes) if self.generate else {},
            attention={m: jnp.stack([self._weights(g) for g in layers]) for m, layers in graphs.items() if self.layers},
            attention_entropy={
                m: jnp.stack([g.nodes["attention_entropy"].reshape(batch.dialogue.shape) for g in layers])
                for m, layers in graphs.items()
                if self.layers
            },
        )

    def _graphs(self, codes: Mapping[Modality, Array], batch: Batch, train: bool) -> dict[str, list[GraphsTuple]]:
        """Each modality's graph after every layer (paper: one speaker graph per modality)."""
        known = batch if self.speaker_relations else batch.replace(speaker=jnp.zeros_like(batch.speaker))
        shared = conversation_graph(known, self.past, self.future)
        graphs = {}
        for m, code in codes.items():
            context = Context(self.context, self.hidden, self.heads, self.dropout, self.precision, name=f"context_{m}")
            x = context(code, batch.present[m], known, train)
            if self.speakers:
                embedding = nn.Embed(self.speakers, self.hidden, name=f"speaker_{m}")
                x = x + embedding(jnp.minimum(batch.speaker, self.speakers - 1))
            graph = modality_graph(shared, x.reshape(-1, self.hidden), batch.present[m].reshape(-1))
            steps = [graph]
            for k in range(self.layers):
                steps.append(self._attention(f"graph_{m}_{k}")(steps[-1], batch.row, train))
            graphs[m] = steps[1:] or steps
        return graphs

    def _attention(self, name: str) -> GraphAttention:
        return GraphAttention(
            heads=self.heads,
            score=self.score,
            relation_values=self.relation_values,
            kernel=self.kernel,
            block=self.block,
            dropout=self.dropout,
            precision=self.precision,
            name=name,
        )

    def _weights(self, graph: GraphsTuple) -> Array:
        weights = graph.edges["attention"]
        return weights.reshape(graph.nodes["hidden"].shape[0], -1, weights.shape[-1])

    def _contrast_head(self, modality: Modality) -> MLP:
        return MLP(self.hidden, self.contrast_width, precision=self.precision, name=f"contrast_{modality}")

    def _generate(self, codes: Mapping[Modality, Array]) -> dict[tuple[Modality, Modality], Array]:
        """G_target(ξ^source) for each pair of different modalities."""
        widths = dict(self.widths)
        generated: dict[tuple[Modality, Modality], Array] = {}
        for target in self.modalities:
            sources = [source for source, t in pairs(self.modalities) if t == target]
            if sources:
                out = widths[target] if self.wiring == "feature" else self.hidden
                generator = Generator(self.generator_hidden, out, self.precision, name=f"generator_{target}")
                fakes = generator(jnp.stack([codes[source] for source in sources]))
                generated |= {(source, target): fakes[k] for k, source in enumerate(sources)}
        return generated

    def _classify(self, hidden: Mapping[Modality, Array], batch: Batch, train: bool) -> tuple[Array, Array | None]:
        """logits = MLP([h^1 ‖ … ‖ h^M]) (paper), and ratings as a linear function of the same (choice)."""
        x = nn.LayerNorm(epsilon=NORM_FLOOR)(jnp.concatenate(list(hidden.values()), axis=-1))
        x = Dropout(self.dropout)(x, batch.row, train)
        classifier = MLP(self.hidden, self.num_classes, self.dropout, self.precision, name="classifier")
        ratings = Dense(self.ratings, name="ratings")(x) if self.ratings else None
        return classifier(x, batch.row, train), ratings

    def _classify_alone(self, hidden: Mapping[Modality, Array], batch: Batch, train: bool) -> dict[Modality, Array]:
        """A linear classifier for each modality (choice): it keeps a strong modality from silencing a weak one."""
        normed = {m: nn.LayerNorm(epsilon=NORM_FLOOR, name=f"unimodal_norm_{m}")(h) for m, h in hidden.items()}
        dropped = {m: Dropout(self.dropout)(x, batch.row, train) for m, x in normed.items()}
        return {m: Dense(self.num_classes, name=f"unimodal_{m}")(x) for m, x in dropped.items()}


def check(model: Model) -> None:
    """Raises a UserError for options that cannot be built, before anything is traced."""
    for name, value, known in (
        ("context", model.context, CONTEXTS),
        ("graph.score", model.score, SCORES),
        ("graph.kernel", model.kernel, KERNELS),
        ("gan.wiring", model.wiring, WIRINGS),
        ("precision", model.precision, PRECISIONS),
    ):
        if value not in known:
            raise UserError(f"model.{name}={value!r} is not known; choose one of {', '.join(known)}.")
    if model.heads < 1 or model.hidden < 1 or model.hidden % model.heads:
        raise UserError(f"model.hidden={model.hidden} must be a positive multiple of model.graph.heads={model.heads}.")
    for name, rate in (("dropout", model.dropout), ("input_dropout", model.input_dropout)):
        if not 0 <= rate < 1:
            raise UserError(f"model.{name}={rate} must lie in [0, 1).")
    if min(model.past, model.future) < -1:
        raise UserError(
            f"model.graph.past={model.past}, model.graph.future={model.future}: "
            "each is a number of utterances >= 0, or -1 for the whole dialogue."
        )
    for name in ("layers", "block", "speakers"):
        if getattr(model, name) < 0:
            raise UserError(f"model {name} must be >= 0, not {getattr(model, name)}.")

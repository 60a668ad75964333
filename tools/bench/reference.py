"""AR-IIGCN once more, written the plain way, as a measure of what the rest of the package gains.

It follows the habits of this field's published codes: a batch is a list of dialogues whose features are stacked and
padded to the longest in Python, every time; a Python loop lists the edges of every dialogue, every time; attention
gathers and scatters along that edge list; contrast makes a boolean [nodes, nodes] mask for each pair of modalities; the
two players each run the whole forward pass; random bits are drawn the default way; losses are read back every step.
It is kinder to itself than they are in one thing: each player's step is jitted, and shapes are rounded up so that few
of them are compiled; its compilation is not counted.

The parameters, the optimizers and the mathematics are those of `ariigcn_jax`: on the same parameters and without
dropout both give the same logits and losses.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ariigcn_jax.nn.encoders import Context
from ariigcn_jax.nn.graph import GraphsTuple, pad_with_graphs, segment_softmax, segment_sum
from ariigcn_jax.training import train
from ariigcn_jax.types import PADDING, UNLABELED, Array, Batch, Corpus, Modality, TrainState, UserError

Pair = tuple[Modality, Modality]
EPSILON, LEAK, MASKED = 1e-6, 0.2, -1e9
ROUND_LENGTH, ROUND_NODES, ROUND_EDGES = 16, 256, 4096  # shapes are multiples of these
PAST_SAME, PAST_OTHER, SELF, FUTURE_SAME, FUTURE_OTHER = range(5)


class Dialogue(NamedTuple):
    """One conversation of T utterances: modality -> [T, d_m], modality -> [T], and [T] each."""

    features: dict[Modality, np.ndarray]
    present: dict[Modality, np.ndarray]
    speaker: np.ndarray
    label: np.ndarray
    utterance: np.ndarray


class PaddedBatch(flax.struct.PyTreeNode):
    """B dialogues padded to T slots, and their graph.

    Attributes:
      features: modality -> [B, T, d_m].
      present: modality -> [B, T] bool.
      speaker: [B, T] int32.
      dialogue: [B, T] int32, 0 at utterances, PADDING elsewhere.
      place: [N] int32, where a node is among the B * T slots; padding nodes are at slot 0.
      label: [N] int32, UNLABELED at padding nodes.
      real: [N] bool.
      utterance: [N] int32, index in the corpus; PADDING at padding nodes.
      graph: edges {"relation" [E]}, senders and receivers; padding edges join padding nodes.
    """

    features: dict[Modality, Array]
    present: dict[Modality, Array]
    speaker: Array
    dialogue: Array
    place: Array
    label: Array
    real: Array
    utterance: Array
    graph: GraphsTuple


class Result(NamedTuple):
    """Logits [N, C], of all modalities and of each, codes and generated features [B, T, .], contrast vectors [N, Z]."""

    logits: Array
    unimodal: dict[Modality, Array]
    codes: dict[Modality, Array]
    generated: dict[Pair, Array]
    contrast: dict[Modality, Array]


# --- The host's side --------------------------------------------------------------------------------------------------


def dialogues(corpus: Corpus, split: str) -> list[Dialogue]:
    """The dialogues of a split."""
    found = []
    for number in np.unique(corpus.dialogue[corpus.split == split]):
        rows = np.flatnonzero(corpus.dialogue == number)
        found.append(
            Dialogue(
                {m: x[rows] for m, x in corpus.features.items()},
                {m: x[rows] for m, x in corpus.present.items()},
                corpus.speaker[rows],
                corpus.label[rows],
                rows,
            )
        )
    return found


def edges(speaker: Sequence[int], past: int, future: int) -> tuple[list[int], list[int], list[int]]:
    """Senders, receivers and relations of one dialogue; -1 for past or future reaches over the whole dialogue."""
    senders, receivers, relations = [], [], []
    length = len(speaker)
    for i in range(length):
        first = 0 if past == -1 else max(0, i - past)
        last = length - 1 if future == -1 else min(length - 1, i + future)
        for j in range(first, last + 1):
            senders.append(j)
            receivers.append(i)
            if j == i:
                relations.append(SELF)
            elif j < i:
                relations.append(PAST_SAME if speaker[j] == speaker[i] else PAST_OTHER)
            else:
                relations.append(FUTURE_SAME if speaker[j] == speaker[i] else FUTURE_OTHER)
    return senders, receivers, relations


def collate(chosen: Sequence[Dialogue], past: int, future: int, speaker_relations: bool = True) -> PaddedBatch:
    """Stacks, pads and lists the edges of a few dialogues; without speaker relations all count as one speaker."""
    longest = _up(max(len(d.label) for d in chosen), ROUND_LENGTH)

    def stacked(arrays: Sequence[np.ndarray], fill: int = 0) -> np.ndarray:
        padded = [np.pad(a, [(0, longest - len(a)), *[(0, 0)] * (a.ndim - 1)], constant_values=fill) for a in arrays]
        return np.stack(padded)

    senders: list[int] = []
    receivers: list[int] = []
    relations: list[int] = []
    place: list[int] = []
    for number, dialogue in enumerate(chosen):
        own = edges((dialogue.speaker * speaker_relations).tolist(), past, future)
        senders += [len(place) + j for j in own[0]]
        receivers += [len(place) + i for i in own[1]]
        relations += own[2]
        place += [number * longest + t for t in range(len(dialogue.label))]
    graph = GraphsTuple(
        nodes={
            "place": np.array(place, np.int32),
            "label": np.concatenate([d.label for d in chosen]).astype(np.int32),
            "utterance": np.concatenate([d.utterance for d in chosen]).astype(np.int32),
            "real": np.ones(len(place), bool),
        },
        edges={"relation": np.array(relations, np.int32)},
        senders=np.array(senders, np.int32),
        receivers=np.array(receivers, np.int32),
        globals=None,
        n_node=np.array([len(d.label) for d in chosen], np.int32),
        n_edge=np.array([0] * (len(chosen) - 1) + [len(senders)], np.int32),
    )
    nodes, count = _up(len(place) + 1, ROUND_NODES), _up(len(senders), ROUND_EDGES)
    graph = pad_with_graphs(graph, n_node=nodes, n_edge=count, n_graph=len(chosen) + 1)
    real = graph.nodes["real"].astype(bool)
    fields: dict[str, Any] = dict(
        features={m: stacked([d.features[m] for d in chosen]) for m in chosen[0].features},
        present={m: stacked([d.present[m] for d in chosen]) for m in chosen[0].present},
        speaker=stacked([d.speaker for d in chosen]).astype(np.int32),
        dialogue=stacked([np.zeros(len(d.label), np.int32) for d in chosen], PADDING),
        place=graph.nodes["place"],
        label=np.where(real, graph.nodes["label"], UNLABELED).astype(np.int32),
        real=real,
        utterance=np.where(real, graph.nodes["utterance"], PADDING).astype(np.int32),
        graph=graph._replace(nodes=None, n_node=None, n_edge=None),
    )
    return PaddedBatch(**fields)


def _up(number: int, multiple: int) -> int:
    return max(1, math.ceil(number / multiple)) * multiple


# --- The network ------------------------------------------------------------------------------------------------------


class Draws:
    """Keys for dropout, one after the other; without a key, dropout is off."""

    def __init__(self, key: Array | None):
        self._key = key

    def dropout(self, x: Array, rate: float) -> Array:
        if self._key is None or rate == 0:
            return x
        self._key, key = jax.random.split(self._key)
        return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def _dense(params: Any, x: Array) -> Array:
    x = jnp.tensordot(x, params["kernel"], 1)
    return x + params["bias"] if "bias" in params else x


def _norm(params: Any, x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / jnp.sqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + EPSILON)
    return scaled * params["scale"] + params["bias"]


def _mlp(params: Any, x: Array, rate: float, draws: Draws) -> Array:
    x = jax.nn.gelu(_norm(params["LayerNorm_0"], _dense(params["Dense_0"], x)))
    return _dense(params["Dense_1"], draws.dropout(x, rate))


def _attention(params: Any, nodes: Array, graph: GraphsTuple, present: Array, model: Any, draws: Draws) -> Array:
    """One layer over nodes [N, D] by the edge list."""
    count = len(nodes)
    relation, senders, receivers = graph.edges["relation"], graph.senders, graph.receivers
    x = _norm(params["LayerNorm_0"], nodes)
    value = jnp.stack([_dense(params[f"value_{r}"], x) for r in range(5 if model.relation_values else 1)])
    if model.score == "additive":
        receiver, sender = _dense(params["receiver"], x), _dense(params["sender"], x)
        scores = jax.nn.leaky_relu(receiver[receivers, relation] + sender[senders, relation], LEAK)
    else:
        bias = params["relation_bias"] if model.score == "dot" else jnp.zeros((5, model.heads))
        scores = bias[relation]
    if model.score == "dot":
        query, key = _dense(params["query"], x), _dense(params["key"], x)
        scores = scores + (query[receivers] * key[senders]).sum(axis=-1) / math.sqrt(query.shape[-1])
    heard = (present[senders] | (senders == receivers))[:, None]
    weights = segment_softmax(jnp.where(heard, scores, MASKED), receivers, count) * heard
    message = weights[..., None] * value[relation % len(value), senders]
    message = segment_sum(message, receivers, count).reshape(nodes.shape)
    return nodes + draws.dropout(jax.nn.gelu(message), model.dropout)


def forward(model: Any, params: Any, batch: PaddedBatch, key: Array | None) -> Result:
    """The whole network of an `ariigcn_jax.nn.model.Model` but the discriminators.

    Args:
      model: its attributes are the options.
      params: its parameters.
      batch: padded dialogues.
      key: for dropout; None in evaluation.
    """
    draws = Draws(key)
    codes, hidden = {}, {}
    for m in model.modalities:
        own = params[f"encoder_{m}"]
        x = _mlp(own["MLP_0"], draws.dropout(batch.features[m], model.input_dropout), model.dropout, draws)
        codes[m] = jnp.where(batch.present[m][..., None], x, own["missing"])
        x = _context(model, params, m, codes[m], batch, key)
        if model.speakers:
            x = x + params[f"speaker_{m}"]["embedding"][jnp.minimum(batch.speaker, model.speakers - 1)]
        nodes = x.reshape(-1, model.hidden)[batch.place]
        present = batch.present[m].reshape(-1)[batch.place]
        for k in range(model.layers):
            nodes = _attention(params[f"graph_{m}_{k}"], nodes, batch.graph, present, model, draws)
        hidden[m] = nodes
    x = _norm(params["LayerNorm_0"], jnp.concatenate([hidden[m] for m in model.modalities], axis=-1))
    logits = _mlp(params["classifier"], draws.dropout(x, model.dropout), model.dropout, draws)
    unimodal = {}
    for m in model.modalities if model.unimodal else ():
        x = draws.dropout(_norm(params[f"unimodal_norm_{m}"], hidden[m]), model.dropout)
        unimodal[m] = _dense(params[f"unimodal_{m}"], x)
    generated = {}
    for source, target in _pairs(model.modalities) if model.generate else ():
        own = params[f"generator_{target}"]
        x = jax.nn.leaky_relu(_norm(own["LayerNorm_0"], _dense(own["Dense_0"], codes[source])), LEAK)
        generated[source, target] = _dense(own["Dense_1"], x)
    contrast = {}
    for m in model.modalities if model.contrast else ():
        z = _mlp(params[f"contrast_{m}"], hidden[m], 0.0, draws)
        contrast[m] = z / jnp.sqrt(jnp.maximum(jnp.square(z).sum(axis=-1, keepdims=True), EPSILON**2))
    return Result(logits, unimodal, codes, generated, contrast)


def _context(model: Any, params: Any, modality: Modality, codes: Array, batch: PaddedBatch, key: Array | None) -> Array:
    """The package's own context encoder: it is written the plain way there already."""
    if model.context == "none":
        return codes
    rows = jnp.arange(len(codes), dtype=jnp.int32)
    given = Batch(
        features={},
        present={},
        dialogue=batch.dialogue,
        speaker=batch.speaker * model.speaker_relations,
        label=batch.speaker,
        n_node=batch.speaker,
        row=rows,
        utterance=batch.speaker,
    )
    module = Context(model.context, model.hidden, model.heads, model.dropout)
    own = {"params": params[f"context_{modality}"]}
    rngs = {} if key is None else {"dropout": key}
    out: Any = module.apply(own, codes, batch.present[modality], given, key is not None, rngs=rngs)
    return out


def _pairs(modalities: Sequence[Modality]) -> list[Pair]:
    return [(source, target) for source in modalities for target in modalities if source != target]


def _judge(params: Any, x: Array) -> Array:
    x = jax.nn.leaky_relu(_dense(params["Dense_0"], x), LEAK)
    x = jax.nn.leaky_relu(_dense(params["Dense_1"], x), LEAK)
    return _dense(params["Dense_2"], x)[..., 0]


# --- The losses -------------------------------------------------------------------------------------------------------


def _mean(values: Sequence[Array], weights: Sequence[Array]) -> Array:
    total = sum((v * w).sum() for v, w in zip(values, weights, strict=True))
    return total / jnp.maximum(sum(w.sum() for w in weights), 1e-6)


def emotion(options: Mapping[str, Any], class_weights: np.ndarray, result: Result, batch: PaddedBatch) -> Array:
    """Cross entropy, weighted cross entropy, or focal loss."""
    labelled, label = (batch.label >= 0).astype(jnp.float32), jnp.maximum(batch.label, 0)
    log_p = jax.nn.log_softmax(result.logits)
    hit = log_p[jnp.arange(len(label)), label]
    if options["fn"] == "focal":
        return _mean([-(jnp.maximum(-jnp.expm1(hit), 1e-6) ** options["gamma"]) * hit], [labelled])
    smoothing = options["smoothing"]
    value = -(1 - smoothing) * hit - smoothing * log_p.mean(axis=-1)
    weighted = options["fn"] == "weighted_cross_entropy"
    return _mean([value], [labelled * jnp.asarray(class_weights)[label] if weighted else labelled])


def unimodal(options: Mapping[str, Any], result: Result, batch: PaddedBatch) -> Array:
    """Cross entropy of each modality's own classifier, where the modality is there."""
    values, weights = [], []
    for m, logits in result.unimodal.items():
        log_p = jax.nn.log_softmax(logits)
        hit = log_p[jnp.arange(len(log_p)), jnp.maximum(batch.label, 0)]
        values.append(-(1 - options["smoothing"]) * hit - options["smoothing"] * log_p.mean(axis=-1))
        weights.append(_there(batch, m))
    return _mean(values, weights)


def _there(batch: PaddedBatch, modality: Modality) -> Array:
    """[N] bool: a labelled utterance that has the modality."""
    return batch.present[modality].reshape(-1)[batch.place] & batch.real & (batch.label >= 0)


GENERATOR = {
    "bce": lambda x: -jax.nn.log_sigmoid(x),
    "least_squares": lambda x: (x - 1) ** 2 / 2,
    "hinge": lambda x: -x,
}
DISCRIMINATOR = {
    "bce": (lambda x: -jax.nn.log_sigmoid(x), lambda x: -jax.nn.log_sigmoid(-x)),
    "least_squares": (lambda x: (x - 1) ** 2 / 2, lambda x: x**2 / 2),
    "hinge": (lambda x: jnp.maximum(1 - x, 0), lambda x: jnp.maximum(1 + x, 0)),
}


def generator(options: Mapping[str, Any], judges: Any, result: Result, batch: PaddedBatch) -> Array:
    """L_G, a mean over pairs of modalities and utterances that have both."""
    values = [GENERATOR[options["fn"]](_judge(judges[b], x)) for (_, b), x in result.generated.items()]
    return _mean(values, [batch.present[a] & batch.present[b] for a, b in result.generated])


def discriminator(options: Mapping[str, Any], wiring: str, judges: Any, result: Result, batch: PaddedBatch) -> Array:
    """L_D, a mean over real and generated features."""
    on_real, on_fake = DISCRIMINATOR[options["fn"]]
    values, weights = [], []
    for m in batch.features:
        real = batch.features[m] if wiring == "feature" else result.codes[m]
        values.append(on_real(_judge(judges[m], real)))
        weights.append(batch.present[m])
    for (a, b), x in result.generated.items():
        values.append(on_fake(_judge(judges[b], x)))
        weights.append(batch.present[a] & batch.present[b])
    return _mean(values, weights)


def contrast(options: Mapping[str, Any], pairs: Sequence[Pair], result: Result, batch: PaddedBatch) -> Array:
    """ICCL over pairs (m, m), IMCL over pairs of different modalities: a boolean mask for each pair."""
    values, weights = [], []
    for a, b in pairs:
        similarity = result.contrast[a] @ result.contrast[b].T
        anchor, candidate = _there(batch, a), _there(batch, b)
        valid = anchor[:, None] & candidate[None, :]
        if a == b:
            valid = valid & ~jnp.eye(len(valid), dtype=bool)
        same = batch.label[:, None] == batch.label[None, :]
        positive, negative = valid & same, valid & ~same
        positives, negatives = positive.sum(axis=1), negative.sum(axis=1)
        pulled = jnp.where(positive, similarity, 0).sum(axis=1) / jnp.maximum(positives, 1)
        if options["fn"] == "margin":
            hinge = jnp.maximum(options["margin"] - pulled[:, None] + similarity, 0)
            value = jnp.where(negative, hinge, 0).sum(axis=1) / jnp.maximum(negatives, 1)
            has = (positives > 0) & (negatives > 0)
        else:
            raised = jnp.where(negative, jnp.maximum(similarity, options["similarity_margin"]), similarity)
            scaled = raised / options["temperature"]
            value = jax.nn.logsumexp(jnp.where(valid, scaled, MASKED), axis=1) - pulled / options["temperature"]
            has = positives > 0
        values.append(jnp.where(has, value, 0))
        weights.append(has)
    return _mean(values, weights)


# --- Training ---------------------------------------------------------------------------------------------------------


class Reference:
    """Trains and validates; made once for a config and a standardised corpus.

    Attributes:
      state: parameters and optimizers, as the package's.
    """

    def __init__(self, config: Any, corpus: Corpus):
        """Raises UserError where the config has an option that is not written here."""
        self._config, self._losses = config, config.losses.to_dict()
        _check(self._losses, config.discriminator.game, config.model.precision)
        self._dialogues = {split: dialogues(corpus, split) for split in ("train", "valid")}
        self._class_weights = train.class_weights(corpus)
        steps = math.ceil(len(self._dialogues["train"]) / config.batch_size)
        self._players = train.make_players(config, corpus, steps)
        self._discriminator_step = jax.jit(self._update_discriminators)
        self._model_step = jax.jit(self._update_model)
        self._forward = jax.jit(functools.partial(forward, self._players.model, key=None))
        self.state: TrainState | None = None

    def train(self) -> list[dict[str, float]]:
        """One epoch; the losses of each step. Set `state` before.

        The order of the dialogues is the same in each epoch, so that after one nothing is compiled any more.
        """
        order = np.random.default_rng(self._config.seed).permutation(len(self._dialogues["train"]))
        return [self.step(batch) for batch in self._batches("train", order)]

    def validate(self) -> np.ndarray:
        """Confusion matrix [C, C] of the validation split."""
        assert self.state is not None
        model = self._players.model
        confusion = np.zeros((model.num_classes, model.num_classes), int)
        for batch in self._batches("valid", range(len(self._dialogues["valid"]))):
            predicted = np.asarray(self._forward(self.state.weights, batch).logits).argmax(axis=-1)
            for truth, guess in zip(batch.label.tolist(), predicted.tolist(), strict=True):
                if truth >= 0:
                    confusion[truth, guess] += 1
        return confusion

    def step(self, batch: PaddedBatch) -> dict[str, float]:
        """An update of each player, the discriminators first."""
        logs: dict[str, Array] = {}
        if self._players.model.generate:
            self.state, logs["discriminator"] = self._discriminator_step(self.state, batch)
        self.state, terms = self._model_step(self.state, batch)
        return {name: float(value) for name, value in {**terms, **logs}.items()}

    def _batches(self, split: str, order: Sequence[int] | np.ndarray) -> Any:
        graph, size = self._config.model.graph, self._config.batch_size
        for first in range(0, len(order), size):
            chosen = [self._dialogues[split][d] for d in order[first : first + size]]
            yield collate(chosen, graph.past, graph.future, graph.speaker_relations)

    def losses(self, params: Any, judges: Any, batch: PaddedBatch, key: Array | None) -> dict[str, Array]:
        """Each active term of the hybrid loss, un-weighted."""
        result = forward(self._players.model, params, batch, key)
        modalities = self._players.model.modalities
        values = {}
        for slot, options in self._losses.items():
            if slot not in self._players.terms:
                continue
            if slot == "emotion":
                values[slot] = emotion(options, self._class_weights, result, batch)
            elif slot == "unimodal":
                values[slot] = unimodal(options, result, batch) if result.unimodal else jnp.zeros(())
            elif slot == "adversarial":
                values[slot] = generator(options, judges, result, batch) if result.generated else jnp.zeros(())
            else:
                pairs = [(m, m) for m in modalities] if slot == "iccl" else _pairs(modalities)
                values[slot] = contrast(options, pairs, result, batch) if pairs else jnp.zeros(())
        return values

    def discriminator_loss(self, params: Any, judges: Any, batch: PaddedBatch, key: Array | None) -> Array:
        """L_D; the model's forward pass is run for it once more."""
        result = jax.lax.stop_gradient(forward(self._players.model, params, batch, key))
        return discriminator(self._losses["adversarial"], self._players.wiring, judges, result, batch)

    def _prepare(self, state: TrainState, batch: PaddedBatch) -> tuple[Array, PaddedBatch]:
        """The step's key, and the batch with modalities dropped."""
        key, (_, rate) = jax.random.fold_in(state.key, state.step), self._players.modality_dropout
        if not rate:
            return key, batch
        key, drop = jax.random.split(key)
        present = jnp.stack(list(batch.present.values()))
        left = present & jax.random.bernoulli(drop, 1 - rate, present.shape)
        left = jnp.where(left.any(axis=0), left, present)
        features = {m: jnp.where(left[k][..., None], x, 0) for k, (m, x) in enumerate(batch.features.items())}
        return key, batch.replace(features=features, present={m: left[k] for k, m in enumerate(batch.present)})

    def _update_discriminators(self, state: TrainState, batch: PaddedBatch) -> tuple[TrainState, Array]:
        key, batch = self._prepare(state, batch)

        def loss(judges: Any) -> Array:
            return self.discriminator_loss(state.params, judges, batch, key)

        value, gradient = jax.value_and_grad(loss)(state.discriminators)
        updates, optimizer = self._players.discriminator_optimizer.update(
            gradient, state.discriminator_optimizer, state.discriminators
        )
        judges = optax.apply_updates(state.discriminators, updates)
        return state.replace(discriminators=judges, discriminator_optimizer=optimizer), value

    def _update_model(self, state: TrainState, batch: PaddedBatch) -> tuple[TrainState, dict[str, Array]]:
        key, batch = self._prepare(state, batch)

        def loss(params: Any) -> tuple[Array, dict[str, Array]]:
            terms = self.losses(params, state.discriminators, batch, key)
            total = sum(self._losses[slot]["weight"] * value for slot, value in terms.items())
            return jnp.asarray(total), {"total": jnp.asarray(total), **terms}

        (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimizer = self._players.optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average:
            average = train.moving_average(average, params, self._players.average, state.step)
        terms["gradient_norm"] = optax.tree.norm(gradient)
        return state.replace(step=state.step + 1, params=params, average=average, optimizer=optimizer), terms


def _check(losses: Mapping[str, Mapping[str, Any]], game: str, precision: str) -> None:
    if precision != "float32":
        raise UserError(f"--against reference: model.precision={precision} is not written in tools/bench/reference.py.")
    if game != "adversarial":
        raise UserError(f"--against reference: discriminator.game={game} is not written in tools/bench/reference.py.")
    contrasts = ("supervised_nce", "margin")
    known = {
        "emotion": ("cross_entropy", "weighted_cross_entropy", "focal"),
        "unimodal": ("cross_entropy",),
        "adversarial": tuple(GENERATOR),
        "iccl": contrasts,
        "imcl": contrasts,
    }
    for slot, options in losses.items():
        if slot == "ratings":  # of a corpus that has none, as tools.bench sees to
            continue
        if options["weight"] > 0 and options["fn"] not in known.get(slot, ()):
            raise UserError(
                f"--against reference: losses.{slot}.fn={options['fn']} is not written in tools/bench/reference.py, "
                f"which has {', '.join(known.get(slot, ())) or 'no such term'}. Leave --against out, or choose another."
            )

"""Floating-point operations and bytes of a training step and of an evaluation: counted by hand, and by the compiler.

The count by hand is of what the mathematics needs, whatever computes it: real utterances and real edges, no padding,
nothing computed twice. So it bounds the time from below, and the share of that floor says how much is left to gain.

* A product [r, i] x [i, o] costs 2 · r · i · o; its gradients for the input and for the weights cost the same again,
  each where something needs it: features need none, and neither do the discriminators while the model learns from them.
* An edge costs a few operations a head for its softmax, and 2 · D for its message, 4 · D more for the gradients.
* Contrast costs a product of all nodes of a step with each other, once for each unordered pair of modalities.
* Bytes: features are read for the forward pass and for the first weights' gradient; what the backward pass needs of the
  forward pass, the inputs of products and attention's weights, is written once and read once; parameters are read in
  both passes, and their gradients and Adam's two moments are read and written. All in float32. On a processor whose
  caches hold a step's activations not even these move; that is why it is a floor.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from ariigcn_jax.nn.graph import RELATIONS, WHOLE_DIALOGUE
from ariigcn_jax.training import train
from ariigcn_jax.types import Corpus, Modality
from tools.bench import corpora

FLOAT = 4  # bytes
SOFTMAX = 12  # operations an edge and head: sum, leak, exponential, sum, scale, and their gradients
ADAM = 12  # operations a parameter: two moments, square root, quotient, decay, clip
FORWARD, FULL = 1, 3  # products of a layer: forward; and gradients for its input and its weights


class Cost(NamedTuple):
    """Of an epoch, or of a step."""

    flops: float
    bytes: float

    def __add__(self, other: Any) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


class Shape(NamedTuple):
    """What the cost of a split depends on.

    Attributes:
      utterances: of the split.
      edges: of one modality's graph over the split.
      together: pairs of utterances of one dialogue, Σ T², for context encoders that look at all.
      steps: steps that share the split.
      widths: modality -> d_m.
      classes: C.
    """

    utterances: int
    edges: int
    together: int
    steps: int
    widths: Mapping[Modality, int]
    classes: int
    ratings: int = 0


def shape(corpus: Corpus, split: str, steps: int, past: int, future: int) -> Shape:
    """The shape of a split under a window; -1 for past or future reaches over the whole dialogue."""
    lengths = corpora.lengths(corpus, split)
    together = sum(t * t for t in lengths)
    edges = sum(_edges(t, past) + _edges(t, future) + t for t in lengths)
    ratings = 0 if corpus.ratings is None else corpus.ratings.shape[1]
    return Shape(sum(lengths), edges, together, steps, corpus.widths, corpus.num_classes, ratings)


def _edges(length: int, reach: int) -> int:
    """Σ_i min(i, reach) over i < length: edges from one side of a dialogue's utterances."""
    reach = length if reach == WHOLE_DIALOGUE else min(reach, length)
    return reach * (reach - 1) // 2 + (length - reach) * reach


def training(config: Any, shape: Shape) -> dict[str, Cost]:
    """Module -> cost of an epoch's training: both players, forward, backward and update."""
    model, losses = config.model, config.losses
    modalities, n = len(shape.widths), shape.utterances
    several = modalities > 1
    adversarial = losses.adversarial.weight > 0 and several
    pairs = [modalities * (losses.iccl.weight > 0), modalities * (modalities - 1) // 2 * (losses.imcl.weight > 0)]
    costs = _network(config, shape, FULL)
    if losses.unimodal.weight > 0 and several:
        costs["unimodal classifiers"] = _times(modalities, [_dense(n, model.hidden, shape.classes)])
    if losses.ratings.weight > 0 and shape.ratings:
        costs["ratings"] = _dense(n, modalities * model.hidden, shape.ratings)
    if sum(pairs):
        heads = [_dense(n, model.hidden, model.hidden), _dense(n, model.hidden, model.contrast_width)]
        costs["contrast heads"] = _times(modalities, heads)
        square = n * n / shape.steps
        products = sum(pairs) * FULL * 2 * square * model.contrast_width
        costs["contrast"] = Cost(products, 2 * FLOAT * modalities * n * model.contrast_width)
    if adversarial:
        costs["generators"], costs["discriminators"] = _adversarial(config, shape)
    parameters = sum(math.prod(s) for s in _parameters(config, shape, sum(pairs) > 0, adversarial))
    # read twice by the passes; gradient written and read; parameter and two moments read and written
    traffic = (2 + 2 + 6) * FLOAT * parameters
    costs["parameters and optimizer"] = Cost(ADAM * parameters * shape.steps, traffic * shape.steps)
    return costs


def evaluation(config: Any, shape: Shape) -> dict[str, Cost]:
    """Module -> cost of a split's evaluation: forward, to the classifier."""
    costs = _network(config, shape, FORWARD)
    parameters = sum(math.prod(s) for s in _network_parameters(config, shape))
    return {**costs, "parameters and optimizer": Cost(0.0, FLOAT * parameters * shape.steps)}


def total(costs: Mapping[str, Cost]) -> Cost:
    """The sum over modules."""
    return sum(costs.values(), start=Cost(0.0, 0.0))


def _network(config: Any, shape: Shape, passes: int) -> dict[str, Cost]:
    """Encoders to classifier."""
    model, graph, n = config.model, config.model.graph, shape.utterances
    modalities, d = len(shape.widths), model.hidden
    training = passes == FULL
    # features are read for the forward pass and for the weights' gradient, and have no gradient themselves
    first = [_dense(n, w, d, passes - training, stored=FORWARD + training) for w in shape.widths.values()]
    costs = {"encoders": _sum([*first, *[_dense(n, d, d, passes)] * modalities])}
    if model.context != "none":
        costs["context"] = _times(modalities, _context(model, shape, passes))
    values = len(RELATIONS) if graph.relation_values else 1
    layer = [_dense(n, d, d * values, passes)]
    scores = {"additive": 2 * len(RELATIONS) * graph.heads, "dot": 2 * d, "uniform": 0}[graph.score]
    layer.append(Cost(2.0 * passes * n * d * scores, 0.0))  # from the input that the values read
    dot = 2.0 * d if graph.score == "dot" else 0.0
    weights = 2 * FLOAT * graph.heads * training  # written, and read by the backward pass
    share = SOFTMAX if training else SOFTMAX / 2
    layer.append(Cost(shape.edges * (passes * (2.0 * d + dot) + share * graph.heads), shape.edges * weights))
    costs["graph attention"] = _times(modalities * graph.layers, layer)
    costs["classifier"] = _sum([_dense(n, modalities * d, d, passes), _dense(n, d, shape.classes, passes)])
    return costs


def _context(model: Any, shape: Shape, passes: int) -> list[Cost]:
    n, d = shape.utterances, model.hidden
    if model.context == "gru":
        half = d // 2
        return 2 * [_dense(n, d, 3 * half, passes), _dense(n, half, 3 * half, passes)]
    if model.context == "speaker":
        return [_dense(n, d, d, passes)]
    return [*[_dense(n, d, d, passes)] * 4, Cost(passes * 4.0 * shape.together * d, 0.0)]


def _adversarial(config: Any, shape: Shape) -> tuple[Cost, Cost]:
    """Generators, and discriminators in both players' steps."""
    gan, n, others = config.model.gan, shape.utterances, len(shape.widths) - 1
    hidden = gan.discriminator_hidden
    generators, discriminators = [], []
    for width in shape.widths.values():
        out = width if gan.wiring == "feature" else config.model.hidden
        fakes = n * others
        generators += [
            _dense(fakes, config.model.hidden, gan.generator_hidden),
            _dense(fakes, gan.generator_hidden, out),
        ]
        judged = n + fakes
        # their own step: no gradient for their input; the model's step: none for their weights
        discriminators += [_dense(judged, out, hidden, 2), _dense(judged, hidden, hidden), _dense(judged, hidden, 1)]
        discriminators += [_dense(fakes, out, hidden, 2), _dense(fakes, hidden, hidden, 2), _dense(fakes, hidden, 1, 2)]
    return _sum(generators), _sum(discriminators)


def _dense(rows: float, inner: int, outer: int, products: int = FULL, stored: int | None = None) -> Cost:
    """A product, its gradients, and its input written once and read once (or read `stored` times); without gradients
    nothing needs to be kept."""
    moves = (2 if products > FORWARD else 0) if stored is None else stored
    return Cost(2.0 * products * rows * inner * outer, float(moves * FLOAT * rows * inner))


def _sum(costs: Sequence[Cost]) -> Cost:
    return sum(costs, start=Cost(0.0, 0.0))


def _times(number: int, costs: Sequence[Cost]) -> Cost:
    flops, moved = _sum(costs)
    return Cost(number * flops, number * moved)


def _network_parameters(config: Any, shape: Shape) -> Iterator[tuple[int, ...]]:
    """Shapes of the matrices of encoders to classifier; vectors do not weigh."""
    model, graph, d = config.model, config.model.graph, config.model.hidden
    values = len(RELATIONS) if graph.relation_values else 1
    scores = {"additive": 2 * len(RELATIONS) * graph.heads, "dot": 2 * d, "uniform": 0}[graph.score]
    gru = 2 * (d + d // 2) * 3 * (d // 2)
    context = {"none": 0, "gru": gru, "attention": 4 * d * d, "speaker": d * d}[model.context]
    for width in shape.widths.values():
        yield from [(width, d), (d, d), (context,), (graph.layers, d, d * values + scores)]
    yield from [(len(shape.widths) * d, d), (d, shape.classes)]


def _parameters(config: Any, shape: Shape, contrast: bool, adversarial: bool) -> Iterator[tuple[int, ...]]:
    """The same of all that training changes."""
    yield from _network_parameters(config, shape)
    gan, d = config.model.gan, config.model.hidden
    for width in shape.widths.values():
        if config.losses.unimodal.weight > 0:
            yield (d, shape.classes)
        if contrast:
            yield from [(d, d), (d, config.model.contrast_width)]
        if adversarial:
            out, hidden = width if gan.wiring == "feature" else d, gan.discriminator_hidden
            yield from [(d, gan.generator_hidden), (gan.generator_hidden, out), (out, hidden), (hidden, hidden + 1)]


# --- By the compiler --------------------------------------------------------------------------------------------------


def step_by_compiler(config: Any, corpus: Corpus, layout: Any, rows: Any, *, compile: bool = True) -> dict[str, Cost]:
    """What XLA says of one training step on one device, padding included: of the program as traced, before it is
    optimised, and as compiled, where library calls may count as nothing.

    Args:
      config: as `experiments.base.get_config`.
      corpus: standardised.
      layout: of the train split.
      rows: the train split's rows.
      compile: whether to compile too.

    Returns:
      "traced" and, where asked for, "compiled".
    """
    players = train.make_players(config, corpus, layout.steps)
    sample = jax.tree.map(lambda x: x[-1:], rows)
    state = jax.eval_shape(lambda: train.init_state(players, sample, jax.random.key(0)))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((layout.rows, *x.shape[1:]), x.dtype), rows)
    step = functools.partial(train.train_step, players, axis=None)
    lowered = jax.jit(lambda state, batch: step(state, batch)).lower(state, batch)
    found = {"traced": _analysed(lowered)}
    return found | ({"compiled": _analysed(lowered.compile())} if compile else {})


def _analysed(program: Any) -> Cost:
    found = program.cost_analysis() or {}
    found = found[0] if isinstance(found, list) else found
    return Cost(float(found.get("flops", 0.0)), float(found.get("bytes accessed", 0.0)))

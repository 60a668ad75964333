"""Tiny corpora, batches, models and outputs for tests; packed by plain loops, apart from the code under test."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from ariigcn_jax.nn.model import Model
from ariigcn_jax.options import base
from ariigcn_jax.types import PADDING, UNLABELED, Batch, Corpus, Outputs

WIDTHS = {"text": 3, "audio": 2}
NAMES = ("text", "audio", "visual", "pose", "pulse")


def widths(count):
    """`count` modalities, each of another width."""
    return {name: 2 + k for k, name in enumerate(NAMES[:count])}


def corpus(lengths, widths=WIDTHS, classes=3, speakers=2, missing=0.0, unlabeled=0.0, seed=0):
    """Random conversations of the given lengths, all in the train split."""
    random = np.random.default_rng(seed)
    total = sum(lengths)
    labels = random.integers(0, classes, total)
    present = {m: random.random(total) >= missing for m in widths}
    return Corpus(
        name="tiny",
        features={m: np.where(present[m][:, None], random.normal(size=(total, d)), 0) for m, d in widths.items()},
        present=present,
        dialogue=np.repeat(np.arange(len(lengths)), lengths).astype(np.int32),
        speaker=random.integers(0, speakers, total).astype(np.int32),
        label=np.where(random.random(total) < unlabeled, UNLABELED, labels).astype(np.int32),
        split=np.full(total, "train"),
        label_names=tuple(f"class {c}" for c in range(classes)),
        dialogue_ids=tuple(f"dialogue {d}" for d in range(len(lengths))),
        utterance_ids=tuple(f"utterance {u}" for u in range(total)),
    )


def place(corpus, rows, length):
    """Packs dialogues where the test wants them: `rows` lists for each row the numbers of its dialogues."""
    utterance = np.full((len(rows), length), PADDING, np.int32)
    dialogue = np.full((len(rows), length), PADDING, np.int32)
    n_node = np.zeros((len(rows), max(map(len, rows)) + 1), np.int32)
    for row, dialogues in enumerate(rows):
        slot = 0
        for number, d in enumerate(dialogues):
            for u in np.flatnonzero(corpus.dialogue == d):
                utterance[row, slot], dialogue[row, slot] = u, number
                n_node[row, number] += 1
                slot += 1
        n_node[row, -1] = length - slot

    def spread(values, empty):
        return jnp.asarray(put(values, utterance, empty))

    return Batch(
        features={m: spread(x.astype(np.float32), 0) for m, x in corpus.features.items()},
        present={m: spread(x, False) for m, x in corpus.present.items()},
        dialogue=jnp.asarray(dialogue),
        speaker=spread(corpus.speaker, 0),
        label=spread(corpus.label, UNLABELED),
        n_node=jnp.asarray(n_node),
        row=jnp.arange(len(rows), dtype=jnp.int32),
        utterance=jnp.asarray(utterance),
    )


def batch(rows, length=None, **options):
    """A batch whose rows hold dialogues of the given lengths: [[3, 2], [4]] is two rows with three dialogues."""
    numbers, count = [], 0
    for lengths in rows:
        numbers.append(list(range(count, count + len(lengths))))
        count += len(lengths)
    made = corpus([n for lengths in rows for n in lengths], **options)
    return place(made, numbers, length or max(sum(lengths) for lengths in rows))


def put(values, utterance, empty=0):
    """One value for each utterance [U, ...] -> [R, L, ...] in the slots `utterance` [R, L], `empty` at padding."""
    values = np.asarray(values)
    spread = np.full((*utterance.shape, *values.shape[1:]), empty, values.dtype)
    for place, u in np.ndenumerate(np.asarray(utterance)):
        if u != PADDING:
            spread[place] = values[u]
    return spread


def by_utterance(x, batch):
    """[R, L, ...] -> [U, ...]: the values of the real utterances in the corpus's order."""
    places = [(u, place) for place, u in np.ndenumerate(np.asarray(batch.utterance)) if u != PADDING]
    return np.stack([np.asarray(x)[place] for _, place in sorted(places)])


def model(corpus, further=("generated", "contrast", "unimodal"), **options):
    """A small model for a corpus's modalities and classes, dropout off."""
    return Model(corpus.description, model_options(options), frozenset(further))


def model_options(changes):
    """`config.model` of a small model; options are given by their last names."""
    small = dict(
        hidden=4,
        dropout=0.0,
        speakers=2,
        contrast_width=3,
        layers=1,
        heads=2,
        past=2,
        future=1,
        relation_values=True,
        block=0,
        generator_hidden=5,
    )
    options = base.get_config().model
    for name, value in (small | changes).items():
        next(part for part in (options, options.graph, options.gan) if name in part)[name] = value
    return FrozenConfigDict(options)


def jit(function, **options):
    """jax.jit for tests, where compiling takes far longer than running."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)


def init(module, *args):
    """A module's outputs and parameters, compiled once; the last argument, `train`, is static where it is a bool."""
    static = len(args) if isinstance(args[-1], bool) else ()
    outputs, variables = jit(module.init_with_output, static_argnums=static)(jax.random.key(0), *args)
    return outputs, variables.get("params", {})


def scattered(params, seed=1, scale=0.5):
    """Random values instead of the initial ones, so that zero biases and unit scales hide nothing."""
    leaves, tree = jax.tree.flatten(params)
    random = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [jnp.asarray(scale * random.normal(size=x.shape), x.dtype) for x in leaves])


def outputs(batch, widths=WIDTHS, classes=3, contrast_width=4, seed=0):
    """Random outputs that belong to utterances, wherever they lie; padding is filled with values of its own."""
    utterance = np.asarray(batch.utterance)
    count = utterance.max() + 1

    def draw(index, *shape):
        drawn = np.random.default_rng((seed, index)).normal(size=(count, *shape)).astype(np.float32)
        noise = np.random.default_rng((seed, index, *utterance.shape)).normal(size=(*utterance.shape, *shape))
        real = (utterance != PADDING).reshape(utterance.shape + (1,) * len(shape))
        return jnp.asarray(np.where(real, put(drawn, utterance), 5 * noise), jnp.float32)

    vectors = {m: draw(10 + k, contrast_width) for k, m in enumerate(widths)}
    pairs = [(a, b) for a in widths for b in widths if a != b]
    return Outputs(
        logits=draw(0, classes),
        unimodal={m: draw(50 + k, classes) for k, m in enumerate(widths)},
        codes={},
        hidden={},
        contrast={m: x / jnp.linalg.norm(x, axis=-1, keepdims=True) for m, x in vectors.items()},
        generated={},
        fake_logits={pair: draw(30 + k) for k, pair in enumerate(pairs)},
    )

"""Time a text encoder: tokens of utterances per CPU second, in training and as it is, and the memory of a step.

An epoch is that of `utterances.draw`: 16 steps of 32 utterances, of equal numbers of tokens as training packs them. A
step is forward, backward and AdamW of all parameters; padding costs, but only real tokens count. The same in PyTorch:
`python -m tools.bench.torch_words`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ariigcn_jax.commands import machine
from ariigcn_jax.data import packing
from ariigcn_jax.nn import pretrained, text_encoder
from ariigcn_jax.types import Array, Tokens, Words
from tools.bench.utterances import CLASSES, SHAPES, STEP, STEPS, draw

Encoder = tuple[text_encoder.Architecture, Callable[[], Any] | None]


def encoder(name: str) -> Encoder:
    """Return the architecture of a folder, or of a name in SHAPES, and what reads its parameters; None for random."""
    if name not in SHAPES:
        source = pretrained.read(Path(name))
        return source.architecture, source.params
    vocabulary, width, depth, heads, middle, positions = SHAPES[name]
    fields = dict(first_position=0, types=2, epsilon=1e-12, activation="gelu")
    return text_encoder.Architecture(vocabulary, width, depth, heads, middle, positions, **fields), None  # type: ignore


def measure(name: str, way: str, precision: str, *, most: int, budget: float) -> dict[str, Any]:
    """Time epochs of an encoder.

    Args:
      name: a folder, or a key of SHAPES.
      way: "train"; "frozen" for the forward pass alone; "memory" for no time at all.
      precision: of the products with weights, "float32" or "bfloat16".
      most: epochs, at most.
      budget: seconds of epochs, at most.

    Returns:
      "tokens_per_cpu_second", the median; "padding", the share of the computed tokens; "step_memory", bytes of a step
      with parameters, optimizer and gradients.
    """
    architecture, read = encoder(name)
    batches, labels = _batches(architecture)
    network = text_encoder.TextEncoder(architecture, precision=precision)
    first = jax.tree.map(lambda x: x[:1], batches)
    params = {"text_encoder": read()} if read and way != "memory" else None

    def init() -> Any:
        made = network.init(jax.random.key(0), first, jnp.arange(1), False)["params"]
        return {"text_encoder": made, "head": jnp.zeros((architecture.width, CLASSES))}

    def vectors(params: Any, tokens: Tokens) -> Array:
        rows = jnp.arange(tokens.slot.shape[0])
        states: Any = network.apply({"params": params["text_encoder"]}, tokens, rows, False)
        return text_encoder.pool(states[-1], tokens, STEP, "mean")

    def loss(params: Any, tokens: Tokens, label: Array) -> Array:
        logits = vectors(params, tokens) @ params["head"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, label[None]).mean()

    update = optax.adamw(1e-4)

    def step(state: tuple[Any, Any], tokens: Tokens, label: Array) -> tuple[Any, Any]:
        changes, kept = update.update(jax.grad(loss)(state[0], tokens, label), state[1], state[0])
        return optax.apply_updates(state[0], changes), kept

    state: Any = jax.eval_shape(lambda: (init(), update.init(init())))
    trained = jax.jit(step, donate_argnums=0).lower(state, first, labels[0]).compile()
    analysis = trained.memory_analysis()
    row: dict[str, Any] = {"padding": float(np.mean(batches.slot < 0))}
    if analysis:
        sizes = (analysis.argument_size_in_bytes, analysis.output_size_in_bytes, analysis.temp_size_in_bytes)
        row["step_memory"] = sum(sizes) - analysis.alias_size_in_bytes
    if way == "memory":
        return row
    params = {"head": jnp.zeros((architecture.width, CLASSES)), **params} if params else jax.jit(init)()
    params = jax.device_put(params)
    steps = [jax.tree.map(lambda x, k=k: x[k : k + 1], batches) for k in range(len(labels))]
    encode = jax.jit(vectors)
    state = (params, update.init(params)) if way == "train" else None

    def epoch() -> None:
        nonlocal state
        for tokens, label in zip(steps, labels, strict=True):
            if way == "train":
                state = trained(state, tokens, label)
            else:
                encode(params, tokens).block_until_ready()
        jax.block_until_ready(state)

    epoch()
    taken = machine.samples(epoch, most=most, budget=budget)
    return {"tokens_per_cpu_second": float((batches.slot >= 0).sum() / np.median(taken[:, 1])), **row}


def _batches(architecture: text_encoder.Architecture) -> tuple[Tokens, np.ndarray]:
    """Return the tokens of all steps [STEPS, Q, S], packed with the least padding, and labels [STEPS, STEP]."""
    ids, labels = draw(architecture.vocabulary)
    lengths = [len(x) for x in ids]
    start = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.concatenate(ids).astype(np.int32)
    words = Words(flat, start, np.ones(len(flat), bool), architecture.first_position)
    dealt = np.argsort(lengths).reshape(STEP, STEPS)  # to one step after the other, and back, so that all get as much
    dealt[1::2] = dealt[1::2, ::-1]
    rows = [list(enumerate(step)) for step in dealt.T.tolist()]
    longest = -(-max(lengths) // 16) * 16
    laid = [packing.token_rows(words, rows, length) for length in range(longest, 2 * longest + 1, 16)]
    return packing.tokens(words, *min(laid, key=lambda made: made[0].size)), labels[dealt.T]

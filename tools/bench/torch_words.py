"""Time in PyTorch what `tools.bench.words` times in JAX, in an environment that has torch and transformers.

    python -m tools.bench.torch_words MiniLM train float32
    python -m tools.bench.torch_words FOLDER frozen bfloat16

The utterances, the encoder, AdamW and the steps of 32 utterances are the same. Steps are made of utterances of similar
length (the best case for padding), by transformers' own network; bfloat16 is torch's autocast.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
import transformers

from tools.bench.utterances import CLASSES, SHAPES, STEP, draw

EPOCHS = 3


def network_of(name: str) -> Any:
    """Return the network of a folder, or one with random weights of a shape in SHAPES; its dropout is off."""
    if name not in SHAPES:
        return transformers.AutoModel.from_pretrained(name, add_pooling_layer=False).float().eval()
    vocabulary, width, depth, heads, middle, positions = SHAPES[name]
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=middle,
        max_position_embeddings=positions,
    )
    return transformers.BertModel(config, add_pooling_layer=False).eval()


def main(name: str, way: str, precision: str) -> None:
    """Print the tokens per CPU second of an epoch, the median of a few."""
    torch.manual_seed(0)
    network = network_of(name)
    head = torch.nn.Linear(network.config.hidden_size, CLASSES)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=1e-4)
    ids, labels = draw(network.config.vocab_size)
    order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
    steps = []
    for first in range(0, len(ids), STEP):
        members = order[first : first + STEP]
        longest = max(len(ids[n]) for n in members)
        tokens = torch.tensor(np.stack([np.pad(ids[n], (0, longest - len(ids[n]))) for n in members]))
        real = torch.tensor(np.stack([np.arange(longest) < len(ids[n]) for n in members]).astype(np.int64))
        steps.append((tokens, real, torch.tensor(labels[members])))

    def forward(tokens: Any, real: Any) -> Any:
        lower = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
        with lower:
            states = network(input_ids=tokens, attention_mask=real).last_hidden_state
        return (states.float() * real[..., None]).sum(1) / real.sum(1, keepdim=True)

    def epoch() -> float:
        begun = time.process_time()
        for tokens, real, label in steps:
            if way == "frozen":
                with torch.inference_mode():
                    forward(tokens, real)
                continue
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(forward(tokens, real)), label).backward()
            optimizer.step()
        return time.process_time() - begun

    epoch()
    seconds = statistics.median(epoch() for _ in range(EPOCHS))
    padding = 1 - sum(map(len, ids)) / sum(tokens.numel() for tokens, _, _ in steps)
    print(
        f"{name}, {way}, {precision}: {sum(map(len, ids)) / seconds:,.0f} tokens per CPU second, {padding:.0%} padding"
    )


if __name__ == "__main__":
    main(*sys.argv[1:4])

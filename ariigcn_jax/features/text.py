"""Encode text: a transcript's embedding by a transformers model, including those of sentence-transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ariigcn_jax.features.encoder import Combine, Encode, Input, PretrainedEncoder, hidden, require
from ariigcn_jax.types import UserError

Pooling = Literal["auto", "mean", "cls", "max", "last"]
# As sentence-transformers names them in 1_Pooling/config.json.
_KINDS = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max", "lasttoken": "last"}


@dataclasses.dataclass(frozen=True)
class TextEncoder(PretrainedEncoder):
    """Pool the hidden states of chosen layers over a transcript's tokens.

    Attributes:
      pooling: over the tokens; "auto" is what a sentence-transformers model specifies, and the mean for others.
      layers: numbers of the hidden states: 0 is the embeddings, -1 the last layer.
      combine: whether several layers are averaged or concatenated.
      normalize: to unit length; "auto" is what a sentence-transformers model specifies.
      max_tokens: a longer transcript is cut; 0 is the model's own limit.
    """

    batch: int = 32
    pooling: Pooling = "auto"
    layers: tuple[int, ...] = (-1,)
    combine: Combine = "mean"
    normalize: Literal["auto", "true", "false"] = "auto"
    max_tokens: int = 0

    modality = kind = "text"

    def workers(self, jobs: int, device: str) -> int:
        """Return one, or none, because a matrix product uses every core by itself."""
        return min(jobs, 1)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), **self._resolved().options(), "model": ""}

    def load(self, threads: int, device: str) -> Encode:
        torch = require("torch", "text")
        chosen = self._resolved()
        network = self.network(threads, device)
        tokenizer = self.part("AutoTokenizer")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        own = min(tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", 512) or 512)
        cut = dict(padding=True, truncation=True, max_length=chosen.max_tokens or own)

        def encode(texts: Sequence[Input]) -> list[np.ndarray]:
            tokens = tokenizer([str(text) for text in texts], return_tensors="pt", **cut).to(device)
            with torch.inference_mode():
                outputs = network(**tokens, output_hidden_states=True)
                states = hidden(outputs, chosen.layers, chosen.combine)
                vectors = _pooled(states, tokens["attention_mask"], chosen.pooling)
                if chosen.normalize == "true":
                    vectors = torch.nn.functional.normalize(vectors, dim=-1)
            return list(vectors.cpu().numpy())

        return encode

    def _resolved(self) -> TextEncoder:
        """Replace "auto" by what the files of sentence-transformers beside a model specify."""
        found: dict[str, Any] = {"pooling": "mean", "normalize": "false"}
        for module in self.settings("modules.json") or ():
            kind = module["type"].rpartition(".")[2]
            if kind == "Pooling":
                found["pooling"] = self._declared_pooling(f"{module['path']}/config.json")
            elif kind == "Normalize":
                found["normalize"] = "true"
            elif kind != "Transformer" and "auto" in (self.pooling, self.normalize):
                problem = f"this sentence-transformers model ends in a {kind} module, which is not supported"
                remedy = "Leave the module out by choosing both: --text MODEL,pooling=mean,normalize=true"
                raise UserError(f"{self.model}: {problem}. {remedy}.")
        limit = self.max_tokens or (self.settings("sentence_bert_config.json") or {}).get("max_seq_length") or 0
        automatic = {option: value for option, value in found.items() if getattr(self, option) == "auto"}
        return dataclasses.replace(self, **automatic, max_tokens=limit)

    def _declared_pooling(self, name: str) -> str:
        settings = self.settings(name) or {}
        prefix = "pooling_mode_"
        kinds = [key.removeprefix(prefix) for key, on in settings.items() if key.startswith(prefix) and on is True]
        if isinstance(declared := settings.get("pooling_mode"), str):  # since sentence-transformers 6
            kinds = [key for key, kind in _KINDS.items() if kind == declared] or [declared]
        if len(kinds) == 1 and kinds[0] in _KINDS:
            return _KINDS[kinds[0]]
        if self.pooling != "auto":
            return self.pooling
        problem = f"its own pooling ({', '.join(kinds) or 'not named'}) is not supported"
        raise UserError(f"{self.model}: {problem}. Choose one: --text MODEL,pooling=mean.")


def _pooled(states: Any, mask: Any, how: str) -> Any:
    """Pool [B, T, D] to [B, D] by a mask [B, T]; padding is on the right and does not count."""
    torch = require("torch", "text")
    weight = mask.unsqueeze(-1).to(states.dtype)
    if how == "cls":
        return states[:, 0]
    if how == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    if how == "max":
        return states.masked_fill(weight == 0, -torch.inf).max(dim=1).values
    return (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-9)

"""Records of a prediction, and the forward pass that explains it: contributions of modalities and attention."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax.nn.model import Model
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs.results import truth
from ariigcn_jax.types import WORDS, Array, Batch, Corpus, Modality, Outputs

if TYPE_CHECKING:
    import pandas as pd

MOST_ATTENDED = 3  # other utterances named for each


@dataclasses.dataclass(frozen=True)
class Attended:
    """Hold an utterance that another one attended to.

    Attributes:
      turn: its place in the dialogue, from 0.
      weight: attention on it, in [0, 1]: the mean over layers, heads and the modalities below.
      modalities: modality -> the same in that modality's graph.
    """

    utterance_id: str
    turn: int
    weight: float
    modalities: dict[Modality, float]


@dataclasses.dataclass(frozen=True)
class UtteranceEmotion:
    """Hold the prediction for one utterance.

    Attributes:
      turn: its place in the dialogue, from 0.
      label: the true emotion if known; a score as text, or labels with | between.
      emotion: the most probable one; a score as text, or the labels with a probability above 0.5.
      probabilities: emotion or label -> calibrated probability; {} for a score.
      contribution: modality -> decrease of the probability of `emotion` (of the most probable label; of the score) when
        the modality is removed from the whole conversation.
      missing: modalities that this utterance lacks.
      attended: the other utterances with the highest attention, highest first.
      score: of a regression; else None.
    """

    dialogue_id: str
    utterance_id: str
    turn: int
    speaker: str
    label: str | None
    emotion: str
    probabilities: dict[str, float]
    contribution: dict[Modality, float]
    missing: tuple[Modality, ...]
    attended: tuple[Attended, ...]
    score: float | None = None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Hold the prediction for a corpus: arrays, and as a sequence one record per utterance.

    Attributes:
      corpus: the conversations in the model's form (`TrainedModel.prepare`); `notes` name missing modalities.
      probabilities: [U, O], calibrated; or scores.
      contribution: modality -> [U], see `UtteranceEmotion.contribution`.
      attention: modality -> [U, W], mean over layers and heads, on utterance u + w - past; {} without a graph.
      past: number of the window's W slots before the utterance.
    """

    corpus: Corpus
    probabilities: np.ndarray
    contribution: Mapping[Modality, np.ndarray]
    attention: Mapping[Modality, np.ndarray]
    past: int

    def __len__(self) -> int:
        return len(self.corpus)

    def __iter__(self) -> Iterator[UtteranceEmotion]:
        return (self[u] for u in range(len(self)))

    @overload
    def __getitem__(self, u: int) -> UtteranceEmotion: ...

    @overload
    def __getitem__(self, u: slice) -> list[UtteranceEmotion]: ...

    def __getitem__(self, u: int | slice) -> UtteranceEmotion | list[UtteranceEmotion]:
        if isinstance(u, slice):
            return [self[k] for k in range(len(self))[u]]
        corpus = self.corpus
        return UtteranceEmotion(
            dialogue_id=corpus.dialogue_ids[corpus.dialogue[u]],
            utterance_id=corpus.utterance_ids[u],
            turn=int(self.turns[u]),
            speaker=str(corpus.speaker[u] if corpus.speaker_names is None else corpus.speaker_names[u]),
            label=truth(corpus, u),
            **answer(corpus.task, corpus.output_names, self.probabilities[u]),
            contribution={m: float(c[u]) for m, c in self.contribution.items()},
            missing=tuple(m for m, here in corpus.present.items() if not here[u]),
            attended=self.attended(u),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each utterance.

        Its columns: dialogue_id, utterance_id, turn, speaker, transcript (if there are any), label, emotion; `p_NAME`
        with the probability of each emotion or label, or `score`; `contribution_MODALITY`; missing, the modalities with
        blanks between; attended, turn:weight of the other utterances with the most attention.

        Example:
          >>> from ariigcn_jax import load
          >>> frame = load("runs/calls")(["Ann: I can't believe it.", "Bob: Sorry!"]).to_frame()
          >>> frame[["turn", "speaker", "transcript", "missing"]]
             turn speaker           transcript missing
          0     0     Ann  I can't believe it.   audio
          1     1     Bob               Sorry!   audio
          >>> [column for column in frame if column.startswith("p_")]
          ['p_calm', 'p_happy', 'p_sad']
        """
        import pandas as pd

        said = self.corpus.transcript
        return pd.DataFrame(
            {
                **{name: getattr(u, name) for name in ("dialogue_id", "utterance_id", "turn", "speaker")},
                **({} if said is None else {"transcript": str(said[k])}),
                "label": u.label,
                "emotion": u.emotion,
                **({f"p_{name}": p for name, p in u.probabilities.items()} or {"score": u.score}),
                **{f"contribution_{m}": c for m, c in u.contribution.items()},
                "missing": " ".join(u.missing),
                "attended": " ".join(f"{a.turn}:{a.weight:.3f}" for a in u.attended),
            }
            for k, u in enumerate(self)
        )

    @property
    def emotions(self) -> list[str]:
        """Return the prediction for each utterance: its most probable emotion, its score, or its labels."""
        return [tasks.get(self.corpus.task).words(p, self.corpus.output_names) for p in self.probabilities]

    @functools.cached_property
    def turns(self) -> np.ndarray:
        """Return [U] int, each utterance's place in its dialogue, from 0."""
        starts = np.flatnonzero(np.diff(self.corpus.dialogue, prepend=-1))
        return np.arange(len(self.corpus)) - starts[self.corpus.dialogue]

    def attended(self, u: int, count: int = MOST_ATTENDED) -> tuple[Attended, ...]:
        """Return the `count` other utterances that utterance `u` attended to most."""
        found = strongest({m: w[u] for m, w in self.attention.items()}, self.past, count)
        return tuple(
            Attended(self.corpus.utterance_ids[u + offset], int(self.turns[u + offset]), weight, by)
            for offset, weight, by in found
        )


def answer(task: str, names: Sequence[str], values: np.ndarray) -> dict[str, Any]:
    """Return `emotion`, `probabilities` and `score` of an `UtteranceEmotion` from an answer [O]."""
    learnt = tasks.get(task)
    return {
        "emotion": learnt.words(values, names),
        "probabilities": dict(zip(names, values.tolist(), strict=True)) if learnt.probabilistic else {},
        "score": None if learnt.probabilistic else float(values[0]),
    }


def strongest(
    weights: Mapping[Modality, np.ndarray], past: int, count: int
) -> list[tuple[int, float, dict[Modality, float]]]:
    """Return offset, mean weight and weight by modality of the `count` most attended other utterances.

    Args:
      weights: modality -> [W]; a modality with weight on the utterance itself alone does not count.
      past: slot of the utterance itself.
      count: at most; utterances without weight are left out.
    """
    others = {m: np.where(np.arange(len(w)) == past, 0, w) for m, w in weights.items()}
    others = {m: w for m, w in others.items() if w.any()}
    if not others:
        return []
    mean: np.ndarray = functools.reduce(np.add, others.values()) / len(others)
    order = np.argsort(-mean, kind="stable")[:count]
    return [(int(w) - past, float(mean[w]), {m: float(x[w]) for m, x in others.items()}) for w in order if mean[w] > 0]


def forward(model: Model, task: str, members: int) -> Callable[[Any, Batch], Outputs]:
    """Return the forward pass of a trained model, (parameters, batch) -> outputs.

    Args:
      model: the network.
      task: that it was trained for.
      members: networks K whose answers are averaged; above 1 each parameter has a leading axis of them.

    Returns:
      A pure function. With several members `logits` decode to the average answer, attention is the average, and all
      else, which lies in a space of its own for each member, is the first member's. Where each has a text encoder of
      its own, the batch's vectors of words are theirs, side by side.
    """

    def one(params: Any, batch: Batch) -> Outputs:
        outputs: Any = model.apply({"params": params}, batch, False)
        return outputs

    def several(params: Any, batch: Batch) -> Outputs:
        def member(params: Any, own: dict[Modality, Array]) -> Outputs:
            return one(params, batch.replace(features=batch.features | own))

        every = jax.vmap(member)(params, _own_words(model, members, batch))
        learnt = tasks.get(task)
        mean = jax.tree.map(lambda x: x.mean(axis=0), (every.attention, every.attention_entropy))
        return jax.tree.map(lambda x: x[0], every).replace(
            logits=learnt.encode(learnt.decode(every.logits).mean(axis=0)), attention=mean[0], attention_entropy=mean[1]
        )

    return one if members == 1 else several


def _own_words(model: Model, members: int, batch: Batch) -> dict[Modality, Array]:
    """Return WORDS -> the vectors of each member's text encoder [K, R, L, d]; {} where all members take the same."""
    width, x = dict(model.description.widths).get(WORDS), batch.features.get(WORDS)
    if width is None or x is None or x.shape[-1] == width:
        return {}
    return {WORDS: jnp.moveaxis(x.reshape(*x.shape[:-1], members, width), -2, 0)}


def explain(
    network: Callable[[Any, Batch], Outputs],
    modalities: Sequence[Modality],
    read: Callable[[Array], Array],
    params: Any,
    temperature: float,
    batch: Batch,
    removal: bool,
) -> tuple[Array, dict[Modality, Array]]:
    """Run one forward pass over a batch of R rows as it is and, stacked on them, once without each modality.

    Args:
      network: of `forward`, without generators and contrast heads.
      modalities: in the model's order, which `jit` sorts away.
      read: of the task, logits -> probabilities or scores.
      params: of the network.
      temperature: divides logits; positive.
      batch: as packed.
      removal: whether modalities are removed too.

    Returns:
      Probabilities [V, R, L, O], V = 1 or 1 + M, in the order of removal; and attention of the batch as it is,
      modality -> [R, L, W], the mean over layers and heads.
    """
    count = 1 + len(modalities) if removal else 1
    rows, length = batch.dialogue.shape
    variants = jax.tree.map(lambda x: jnp.tile(x, (count, *[1] * (x.ndim - 1))), batch)
    removed = jnp.repeat(jnp.arange(count) - 1, rows)[:, None]
    present = {m: variants.present[m] & (removed != k) for k, m in enumerate(modalities)}
    features = {m: jnp.where(present[m][..., None], x, 0) for m, x in variants.features.items()}
    outputs = network(params, variants.replace(features=features, present=present))
    probabilities = read(outputs.logits / temperature).reshape(count, rows, length, -1)
    attention = {
        m: w.reshape(w.shape[0], count, rows, length, *w.shape[2:])[:, 0].mean(axis=(0, -1))
        for m, w in outputs.attention.items()
    }
    return probabilities, attention


def contributions(probabilities: np.ndarray) -> np.ndarray:
    """Return [M, ...] of [1 + M, ..., O]: the predicted class's probability, less that without each modality."""
    predicted = probabilities[0].argmax(axis=-1)[None, ..., None]
    chosen = np.take_along_axis(probabilities, predicted, axis=-1)[..., 0]
    return chosen[0] - chosen[1:]

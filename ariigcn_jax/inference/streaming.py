"""Predict conversations while they go on: each utterance costs the same, however long the conversation is.

With K graph layers that hear p utterances before and f after, an utterance's result depends on K · p utterances before
and K · f after, and on no other. A stream keeps these K · (p + f) + 1 utterances of each conversation and runs the
network on them alone, so results equal those of the whole conversation and come K · f utterances late.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ariigcn_jax.data import packing
from ariigcn_jax.data.normalisation import COPIES
from ariigcn_jax.data.readers import conversations as conversations
from ariigcn_jax.inference.prediction import MOST_ATTENDED, Attended, UtteranceEmotion, answer, contributions, strongest
from ariigcn_jax.nn.graph import WHOLE_DIALOGUE
from ariigcn_jax.types import Batch, Modality, UserError

if TYPE_CHECKING:
    from ariigcn_jax.inference.model import TrainedModel


@dataclasses.dataclass
class _Heard:
    """Keep what is needed of a conversation: its last V utterances, oldest first, empty slots before the first one.

    Attributes:
      features: modality -> [V, d_m], standardised.
      present: modality -> [V] bool.
      speaker: [V] int32.
      real: [V] bool, an utterance and no empty slot.
      utterances: V records of `conversation.checked` without features, None at empty slots.
      speakers: name -> number, by first appearance.
      count: utterances that came so far, and places after the last one that stay empty.
    """

    features: dict[Modality, np.ndarray]
    present: dict[Modality, np.ndarray]
    speaker: np.ndarray
    real: np.ndarray
    utterances: list[dict[str, Any] | None]
    speakers: dict[str, int]
    count: int = 0


class Stream:
    """Follow any number of conversations at once; made by `TrainedModel.stream`.

    Memory is bounded: the last V utterances of each conversation that is not finished, and its speakers' names.

    Attributes:
      delay: utterances that must follow an utterance before its result is there, K · f.
      length: V = K · (p + f) + 1, utterances kept of each conversation.
    """

    def __init__(self, model: TrainedModel, explain: bool = False):
        _check(model)
        self._model = model
        self._explain = explain
        window = model.model.options.graph
        self.delay = window.layers * window.future
        self.length = window.layers * (window.past + window.future) + 1
        self._conversations: dict[str, _Heard] = {}

    def push(self, utterance: conversations.Utterance) -> list[UtteranceEmotion]:
        """Take the next utterance of a conversation.

        Args:
          utterance: as in `corpus.conversation`; its `dialogue_id` says which conversation goes on.

        Returns:
          The results that it completes: that of the utterance `delay` places before; none while there is no such one.

        Raises:
          UserError: it is not of the right form; the conversation then stands as before.
        """
        return self.push_all([utterance])

    def push_all(self, utterances: Iterable[conversations.Utterance]) -> list[UtteranceEmotion]:
        """Take the next utterance of several conversations, in one forward pass; else as `push`.

        Several utterances of one conversation are taken one after the other.
        """
        given = [self._checked(utterance) for utterance in utterances]  # all, before anything changes
        results = []
        while given:
            now: dict[str, dict[str, Any]] = {}
            for row in given:
                now.setdefault(row["dialogue_id"], row)  # the first one of each
            given = [row for row in given if row is not now[row["dialogue_id"]]]
            for row in now.values():
                self._append(row)
            results += self._answers([d for d in now if self._conversations[d].count > self.delay])
        return results

    def finish(self, dialogue_id: str = conversations.ONLY_DIALOGUE) -> list[UtteranceEmotion]:
        """End a conversation: return the results that were still waiting, and forget it.

        Raises:
          UserError: no such conversation goes on.
        """
        if dialogue_id not in self._conversations:
            known = ", ".join(map(repr, self._conversations)) or "there is none"
            raise UserError(f"No conversation {dialogue_id!r} goes on to be finished ({known}).")
        heard, results = self._conversations[dialogue_id], []
        for _ in range(self.delay):
            self._shift(heard)
            heard.count += 1  # a place that stays empty
            if heard.count > self.delay:
                results += self._answers([dialogue_id])
        del self._conversations[dialogue_id]
        return results

    @property
    def dialogue_ids(self) -> tuple[str, ...]:
        """Return the names of the conversations that go on."""
        return tuple(self._conversations)

    def _checked(self, utterance: conversations.Utterance) -> dict[str, Any]:
        row = conversations.checked(utterance, "the utterance")
        for m, width in self._model.widths.items():
            vector = row["features"].get(m)
            if vector is not None and len(vector) != width:
                raise UserError(f"the utterance: {m} has {len(vector)} features, but the model takes {width}.")
        return row

    def _new(self) -> _Heard:
        length, model = self.length, self._model
        return _Heard(
            features={m: np.zeros((length, width), np.float32) for m, width in model.widths.items()},
            present={m: np.zeros(length, bool) for m in model.modalities},
            speaker=np.zeros(length, np.int32),
            real=np.zeros(length, bool),
            utterances=[None] * length,
            speakers={},
        )

    def _append(self, row: dict[str, Any]) -> None:
        heard = self._conversations.setdefault(row["dialogue_id"], self._new())
        self._shift(heard)
        for m in self._model.modalities:
            vector = row["features"].get(m)
            if vector is not None:
                heard.features[m][-1] = self._model.normalisation.standardise(m, vector)
                heard.present[m][-1] = True
        heard.speaker[-1] = heard.speakers.setdefault(row["speaker"], len(heard.speakers))
        heard.real[-1] = True
        turn = heard.count
        heard.utterances[-1] = row | {
            "turn": turn,
            "features": None,
            "utterance_id": row["utterance_id"] or f"{row['dialogue_id']}_{turn}",
        }
        heard.count += 1

    def _shift(self, heard: _Heard) -> None:
        """Forget the oldest utterance and leave the last slot empty."""
        for x in (*heard.features.values(), *heard.present.values(), heard.speaker, heard.real):
            x[:-1] = x[1:]
            x[-1] = 0
        heard.utterances = [*heard.utterances[1:], None]

    def _answers(self, dialogue_ids: list[str]) -> list[UtteranceEmotion]:
        """Return results of the utterance `delay` places before the last slot in each conversation."""
        if not dialogue_ids:
            return []
        chosen = [self._conversations[d] for d in dialogue_ids]
        probabilities, attention = jax.tree.map(np.asarray, self._model.explained(self._batch(chosen), self._explain))
        place = self.length - 1 - self.delay
        contribution = contributions(probabilities[:, : len(chosen), place]) if self._explain else None
        results = []
        for k, heard in enumerate(chosen):
            gained = {} if contribution is None else dict(zip(self._model.modalities, contribution[:, k], strict=True))
            weights = {m: w[k, place] for m, w in attention.items()} if self._explain else {}
            results.append(self._result(heard, place, probabilities[0, k, place], gained, weights))
        return results

    def _batch(self, chosen: list[_Heard]) -> Batch:
        """Pack one row a conversation, their number rounded up to a power of two."""
        rows = 1 << (len(chosen) - 1).bit_length()

        def stack(arrays: Iterable[np.ndarray]) -> np.ndarray:
            x = np.stack(list(arrays))
            return np.concatenate([x, np.zeros((rows - len(x), *x.shape[1:]), x.dtype)])

        modalities = self._model.modalities
        return packing.one_a_row(
            features={m: stack(heard.features[m] for heard in chosen) for m in modalities},
            present={m: stack(heard.present[m] for heard in chosen) for m in modalities},
            speaker=stack(heard.speaker for heard in chosen),
            real=stack(heard.real for heard in chosen),
        )

    def _result(
        self,
        heard: _Heard,
        place: int,
        probabilities: np.ndarray,
        contribution: Mapping[Modality, np.ndarray],
        weights: Mapping[Modality, np.ndarray],
    ) -> UtteranceEmotion:
        utterance: Any = heard.utterances[place]
        task, names = self._model.task, self._model.output_names
        found = strongest(weights, self._model.model.options.graph.past, MOST_ATTENDED) if weights else []
        others: list[tuple[Any, float, dict[Modality, float]]] = [
            (heard.utterances[place + offset], weight, by) for offset, weight, by in found
        ]
        return UtteranceEmotion(
            dialogue_id=utterance["dialogue_id"],
            utterance_id=utterance["utterance_id"],
            turn=utterance["turn"],
            speaker=utterance["speaker"],
            label=utterance["label"] if task != "classification" or utterance["label"] in names else None,
            **answer(task, names, probabilities),
            contribution={m: float(c) for m, c in contribution.items()},
            missing=tuple(m for m, here in heard.present.items() if not here[place]),
            attended=tuple(Attended(o["utterance_id"], o["turn"], weight, by) for o, weight, by in others),
        )


def _check(model: TrainedModel) -> None:
    """Refuse a model whose results would change with what is said later."""
    window, context, reasons = model.model.options.graph, model.model.options.context, []
    if window.layers and window.future == WHOLE_DIALOGUE:
        reasons.append(
            "model.graph.future=-1: each utterance hears all later ones; train with 0, or a fixed look-ahead"
        )
    if window.layers and window.past == WHOLE_DIALOGUE:
        reasons.append("model.graph.past=-1: all that was ever said would have to be kept; train with a window")
    if context != "none":
        reasons.append(f"model.context={context}: it reads the whole dialogue; train with none")
    for option, within in COPIES.items():
        if names := ", ".join(m for m in model.modalities if within in model.copies[m]):
            reasons.append(f'data.{option}: {names} is standardised over the whole dialogue; train with "()"')
    if reasons:
        raise UserError(f"{model.path}: this model cannot stream.\n  " + "\n  ".join(reasons))

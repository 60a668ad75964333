"""Predict conversations while they go on, at the same cost for each utterance.

With K graph layers whose window is p utterances before and f after, the result of an utterance depends on the K · p
utterances before it and the K · f after it. A stream keeps these K · (p + f) + 1 utterances of each conversation and
runs the network on them. Results equal those of the whole conversation and come K · f utterances late. Where a text
encoder reads up to k turns after an utterance with it (model.text.turns), they come k utterances later.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ariigcn_jax.data import Normalisation, packing
from ariigcn_jax.data.normalisation import COPIES
from ariigcn_jax.data.readers import conversations
from ariigcn_jax.data.readers import recordings as sounding
from ariigcn_jax.features import recordings
from ariigcn_jax.inference.prediction import MOST_ATTENDED, Attended, UtteranceEmotion, answer, contributions, strongest
from ariigcn_jax.inference.words import Transcripts
from ariigcn_jax.nn import graph
from ariigcn_jax.types import WORDS, Array, Batch, Modality, UserError

Row = dict[str, Any]


@dataclasses.dataclass
class _Conversation:
    """Keep the last V utterances of a conversation, oldest first; None at an empty slot.

    An utterance is that of `conversations.checked`, with standardised features, `turn` and the speaker's `number`.
    """

    utterances: collections.deque[Row | None]
    said: collections.deque[Row]  # the last utterances that came, as many as a text encoder reads together
    waiting: int = 0  # the last of `said` that are not among `utterances`, as turns after them may be in their texts
    speakers: dict[str, int] = dataclasses.field(default_factory=dict)  # name -> number, by first appearance
    count: int = 0  # utterances so far, and empty slots after the last one


class Stream:
    """Follow any number of conversations at once; made by `TrainedModel.stream`.

    Memory is bounded: the last V utterances of each unfinished conversation, and its speakers' names.

    Attributes:
      delay: K · f + k, utterances that must follow an utterance before its result is there.
      length: V = K · (p + f) + 1, utterances kept of each conversation.
    """

    def __init__(
        self,
        explained: Callable[[Batch, bool], tuple[Array, dict[Modality, Array]]],
        reach: tuple[int, int],
        past: int,
        widths: Mapping[Modality, int],
        normalisation: Normalisation,
        words: Transcripts | None,
        task: str,
        names: tuple[str, ...],
        explain: bool,
        recipes: Mapping[Modality, Mapping[str, Any]],
    ):
        self._explained, self._explain = explained, explain
        self._widths, self._normalisation = widths, normalisation
        self._task, self._names, self._past = task, names, past
        self._words, self._recipes = words, recipes
        self._around = words.turns if words else (0, 0)
        self._after = reach[1]
        self.delay = self._after + self._around[1]
        self.length = sum(reach) + 1
        self._conversations: dict[str, _Conversation] = {}

    def push(self, utterance: conversations.Line) -> list[UtteranceEmotion]:
        """Take the next utterance, of the conversation with its `dialogue_id`, and return the results it completes.

        With a text encoder it may also be a line of a chat, or a pair (speaker, words). Where the model has learnt from
        sound, an utterance may have `audio_file`, a path; call.wav#t=6.29,8.24 is a part of it.

        Raises:
          UserError: the utterance is malformed; the stream is unchanged.
        """
        return self.push_all([utterance])

    def push_all(self, utterances: Iterable[conversations.Line]) -> list[UtteranceEmotion]:
        """Take the next utterances of several conversations in one forward pass, those of one conversation in turn."""
        given = [self._checked(utterance) for utterance in utterances]  # all, before anything changes
        results = []
        while given:
            now: dict[str, Row] = {}
            for row in given:
                now.setdefault(row["dialogue_id"], row)  # the first one of each
            given = [row for row in given if row is not now[row["dialogue_id"]]]
            results += self._advance([self._heard(row) for row in now.values()], self._around[1])
        return results

    def finish(self, dialogue_id: str = conversations.ONLY_DIALOGUE) -> list[UtteranceEmotion]:
        """End a conversation and return the results that were still waiting; raise a UserError if there is none."""
        if dialogue_id not in self._conversations:
            known = ", ".join(map(repr, self._conversations)) or "none"
            raise UserError(f"There is no open conversation {dialogue_id!r}. Open: {known}.")
        conversation, results = self._conversations[dialogue_id], []
        for waiting in range(conversation.waiting)[::-1]:
            results += self._advance([conversation], waiting)
        for _ in range(self._after):
            conversation.utterances.append(None)
            conversation.count += 1
            if conversation.count > self._after:
                results += self._answers([conversation])
        del self._conversations[dialogue_id]
        return results

    @property
    def dialogue_ids(self) -> tuple[str, ...]:
        """Return the names of the unfinished conversations."""
        return tuple(self._conversations)

    def _checked(self, utterance: conversations.Line) -> Row:
        heard: dict[Modality, np.ndarray] = {}
        if isinstance(utterance, Mapping) and "audio_file" in utterance:
            heard = self._of_sound(utterance["audio_file"])
            utterance = {"features": {}} | {name: x for name, x in utterance.items() if name != "audio_file"}
        row = conversations.checked(utterance, "the utterance", words=self._words is not None)
        row["features"] = heard | row["features"]
        for m, width in self._widths.items():
            vector = row["features"].get(m)
            if vector is not None and len(vector) != width:
                raise UserError(f"the utterance: {m} has {len(vector)} features, but the model takes {width}.")
        return row

    def _of_sound(self, written: str | Path | None) -> dict[Modality, np.ndarray]:
        """Return the features that a recording gives."""
        if not written:
            return {}
        try:
            return recordings.vectors(sounding.clip(Path(), str(written)), self._recipes)
        except sounding.FragmentError as error:
            raise UserError(f"the utterance: {written}: {error} is not understood. {sounding.FRAGMENTS}.") from None

    def _heard(self, row: Row) -> _Conversation:
        """Keep the next utterance of a conversation until its text is whole; return the conversation."""
        if row["dialogue_id"] not in self._conversations:
            empty: collections.deque[Row | None] = collections.deque([None] * self.length, maxlen=self.length)
            said: collections.deque[Row] = collections.deque(maxlen=sum(self._around) + 1)
            self._conversations[row["dialogue_id"]] = _Conversation(empty, said)
        conversation = self._conversations[row["dialogue_id"]]
        conversation.said.append(row)
        conversation.waiting += 1
        return conversation

    def _advance(self, heard: list[_Conversation], waiting: int) -> list[UtteranceEmotion]:
        """Take utterances whose texts are whole, until `waiting` wait in each conversation; return results."""
        ready = [conversation for conversation in heard if conversation.waiting > waiting]
        places = [len(conversation.said) - conversation.waiting for conversation in ready]
        rows = [conversation.said[place] for conversation, place in zip(ready, places, strict=True)]
        if self._words and rows:
            made = self._words.of_turns([conversation.said for conversation in ready], places)
            given = [{m: x for m, x in row["features"].items() if x is not None} for row in rows]
            rows = [row | {"features": {WORDS: x} | own} for row, x, own in zip(rows, made, given, strict=True)]
        for conversation, row in zip(ready, rows, strict=True):
            conversation.waiting -= 1
            self._append(conversation, row)
        return self._answers([conversation for conversation in ready if conversation.count > self._after])

    def _append(self, conversation: _Conversation, row: Row) -> None:
        turn, speakers = conversation.count, conversation.speakers
        given = {m: row["features"].get(m) for m in self._widths}
        conversation.utterances.append(
            row
            | {
                "turn": turn,
                "number": speakers.setdefault(row["speaker"], len(speakers)),
                "features": {m: self._normalisation.standardise(m, x) for m, x in given.items() if x is not None},
                "utterance_id": row["utterance_id"] or f"{row['dialogue_id']}_{turn}",
            }
        )
        conversation.count += 1

    def _answers(self, answered: list[_Conversation]) -> list[UtteranceEmotion]:
        """Return results of the utterance K · f places before the last slot in each conversation."""
        if not answered:
            return []
        chosen = [conversation.utterances for conversation in answered]
        probabilities, attention = jax.tree.map(np.asarray, self._explained(self._batch(chosen), self._explain))
        place = self.length - 1 - self._after
        contribution = contributions(probabilities[:, : len(chosen), place])  # [0, k] without an explanation
        return [
            self._result(
                list(utterances),
                place,
                probabilities[0, k, place],
                dict(zip(self._widths, contribution[:, k].tolist(), strict=True)) if self._explain else {},
                {m: w[k, place] for m, w in attention.items()} if self._explain else {},
            )
            for k, utterances in enumerate(chosen)
        ]

    def _batch(self, chosen: list[collections.deque[Row | None]]) -> Batch:
        """Pack one row a conversation; the number of rows is rounded up to a power of two."""
        shape = (1 << (len(chosen) - 1).bit_length(), self.length)
        features = {m: np.zeros((*shape, width), np.float32) for m, width in self._widths.items()}
        present = {m: np.zeros(shape, bool) for m in self._widths}
        speaker, real = np.zeros(shape, np.int32), np.zeros(shape, bool)
        for k, utterances in enumerate(chosen):
            for slot, row in enumerate(utterances):
                if row is not None:
                    speaker[k, slot], real[k, slot] = row["number"], True
                    for m, vector in row["features"].items():
                        features[m][k, slot], present[m][k, slot] = vector, True
        return packing.one_a_row(features=features, present=present, speaker=speaker, real=real)

    def _result(
        self,
        utterances: list[Row | None],
        place: int,
        probabilities: np.ndarray,
        contribution: dict[Modality, float],
        weights: Mapping[Modality, np.ndarray],
    ) -> UtteranceEmotion:
        row: Any = utterances[place]
        found: list[tuple[Any, float, dict[Modality, float]]] = [
            (utterances[place + offset], weight, by)
            for offset, weight, by in strongest(weights, self._past, MOST_ATTENDED)
        ]
        return UtteranceEmotion(
            **{name: row[name] for name in ("dialogue_id", "utterance_id", "turn", "speaker")},
            label=row["label"] if self._task != "classification" or row["label"] in self._names else None,
            **answer(self._task, self._names, probabilities),
            contribution=contribution,
            missing=tuple(m for m in self._widths if m not in row["features"]),
            attended=tuple(Attended(other["utterance_id"], other["turn"], weight, by) for other, weight, by in found),
        )


def check(path: Path, options: Any, copies: Mapping[Modality, tuple[str, ...]]) -> tuple[int, int]:
    """Return `graph.reach` of a model's options.

    Raises:
      UserError: results depend on the whole dialogue, by the options or by the model's `copies`.
    """
    reach = graph.reach(options)
    past, future = graph.attended(options.graph)
    reasons = []
    if future == graph.WHOLE_DIALOGUE:
        reasons.append("model.graph.future=-1: each utterance attends to all later ones; train with 0 or more")
    if past == graph.WHOLE_DIALOGUE:
        reasons.append("model.graph.past=-1: the whole conversation would have to be kept; train with a window")
    if options.context != "none":
        reasons.append(f"model.context={options.context}: it reads the whole dialogue; train with none")
    for option, within in COPIES.items():
        if names := ", ".join(m for m, of_modality in copies.items() if within in of_modality):
            reasons.append(f'data.{option}: {names} is standardised over the whole dialogue; train with "()"')
    if reach is None or reasons:
        raise UserError(f"{path}: this model cannot stream.\n  " + "\n  ".join(reasons))
    return reach

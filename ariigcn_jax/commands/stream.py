"""Answer a conversation line by line, while it goes on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable

from ariigcn_jax.commands.predict import line, printable
from ariigcn_jax.data.readers.conversations import ONLY_DIALOGUE
from ariigcn_jax.inference import model as inference
from ariigcn_jax.inference.prediction import UtteranceEmotion
from ariigcn_jax.runs import compilation
from ariigcn_jax.types import UserError


def execute(options: argparse.Namespace) -> None:
    """Answer the lines of standard input until it ends.

    Raises:
      UserError: the model cannot stream; or, at the end, a line could not be read, each of which was named before.
    """
    compilation.enable()
    model = inference.load(options.run, seed=options.seed)
    stream = model.stream(explain=options.explain)
    if stream.delay:
        print(
            f"note: an answer comes {stream.delay} turns after its turn, or at the end. A model that was trained with "
            "--config.model.graph.future=0 answers at once.",
            file=sys.stderr,
        )
    wrong = 0

    def show(answers: Iterable[UtteranceEmotion]) -> None:
        for answer in answers:
            record = json.dumps(line(answer, model.task), ensure_ascii=False) if options.jsonl else text(answer)
            print(record, flush=True)

    for number, said in enumerate(sys.stdin, start=1):
        if said.strip():
            try:
                show(stream.push(json.loads(said) if said.lstrip().startswith("{") else said.strip()))
            except (UserError, ValueError) as error:
                wrong += 1
                problem = "not JSON" if isinstance(error, ValueError) else error
                print(f"line {number} is left out: {problem}", file=sys.stderr, flush=True)
    for name in stream.dialogue_ids:
        show(stream.finish(name))
    if wrong:
        raise UserError(f"{wrong} of the lines could not be read; the others are answered.")


def text(answer: UtteranceEmotion) -> str:
    """Return an answer as a person reads it: conversation, turn, speaker, emotion, probability."""
    sure = f"{max(answer.probabilities.values()):.2f}" if answer.probabilities else ""
    dialogue = "" if answer.dialogue_id == ONLY_DIALOGUE else answer.dialogue_id
    cells = [dialogue, str(answer.turn), answer.speaker, answer.emotion, sure]
    return "  ".join(printable(cell) for cell in cells if cell)

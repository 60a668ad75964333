"""Predict emotions in conversations by the model of a run:

    python -m tools.predict --run runs/seed3 conversation.jsonl
    python -m tools.predict --run runs/seed3 corpus.npz --split test --format csv --out emotions.csv
    python -m tools.predict --run runs/seed3 conversation.jsonl --html conversation.html
    python -m tools.predict --run runs/words chat.txt
    python -m tools.predict --run runs/mine call.srt --recording call.wav

INPUT is a corpus in any layout that training reads, labelled or not. For a model with a text encoder it may be a chat
(`Ann: …` a line, or an export of WhatsApp), .srt, .vtt, JSON of whisper, WhisperX or FunASR, or a folder of these. And
it may be a .jsonl file with one utterance a line:

    {"dialogue_id": "d1", "speaker": "Ann", "features": {"text": [0.1, ...], "audio": null}, "label": "happy"}

of which only "features" is required; for a model with a text encoder "text", with what was said, is enough, and
transcripts of a corpus are. Where the model has learnt from sound by data.sound, it is made of the recording beside
INPUT (call.wav of call.srt), of --recording, or of those that a table names. What a modality contributed is by how much
the emotion's probability falls when that modality is removed from the conversation.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

import numpy as np

from ariigcn_jax.data.prepare import dialogues, dialogues_in
from ariigcn_jax.files import local, write_atomically
from ariigcn_jax.inference import model as inference
from ariigcn_jax.inference import reading
from ariigcn_jax.inference.prediction import Prediction
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import compilation, tables
from ariigcn_jax.types import SPLITS, Corpus, UserError
from experiments.command import call
from experiments.session import splitting
from tools import conversation_page
from tools.command import parser, splits_of


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = parser(__doc__)
    add = made.add_argument
    add("--run", required=True, help="work directory of the run")
    add("input", metavar="INPUT", help="a corpus, a chat, subtitles, or a .jsonl file")
    add("--recording", metavar="FILE", help="sound or video of the conversation, which its times cut")
    add("--seed", type=int, help="one of the run's seeds; by default the best on validation")
    add("--split", choices=SPLITS, help="only this split of a corpus, as training had it")
    add("--dialogue", action="append", help="only this dialogue; may be given several times")
    add("--format", choices=FORMATS, default="table", help="default: table")
    add("--out", help="a file, instead of the terminal")
    add("--html", metavar="FILE", help="write a page to look at, instead")
    add("--transcripts", action="store_true", help="show the transcripts on the page")
    return made


def execute(options: argparse.Namespace) -> None:
    """Predict and write."""
    if not local(options.input).exists():
        raise UserError(
            f"{options.input}: there is no such file. Give a corpus, a chat, or a .jsonl file of utterances."
        )
    compilation.enable()
    model = inference.load(options.run, seed=options.seed)
    splits = splits_of(model, options.split) if options.split else ()
    corpus = choose(read(options.input, model, bool(splits), options.recording), splits, options.dialogue)
    prediction = model(corpus)
    for note in prediction.corpus.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.html:
        title = f"{model.config.experiment}, seed {model.seed}, epoch {model.epoch}"
        page = conversation_page.html(prediction, title, transcripts=options.transcripts)
        print(write_atomically(options.html, page.encode()), file=sys.stderr)
    if options.out:
        print(write_atomically(options.out, FORMATS[options.format](prediction).encode()), file=sys.stderr)
    elif not options.html:
        sys.stdout.write(FORMATS[options.format](prediction))


def read(path: str, model: inference.TrainedModel, splits: bool = False, recording: str | None = None) -> Corpus:
    """Read what a user gives; with `splits`, dialogues are put into the splits in which training had them.

    `recording` is that of the conversation; without it, one of the same stem beside it, or those that a table names.

    Raises:
      UserError: the file cannot be read.
    """
    data = model.config.data
    of_training = splitting(data) | {"carved": True} if splits else {}
    known = (model.modalities, model.words is not None, model.recorded, local(recording) if recording else None)
    return reading.of_file(path, data, *known, **of_training)


def choose(corpus: Corpus, splits: Sequence[str], names: Sequence[str] | None) -> Corpus:
    """Return the dialogues of some splits, or some dialogues by name; all where there are no such choices.

    Raises:
      UserError: nothing is left.
    """
    if unknown := [name for name in names or () if name not in corpus.dialogue_ids]:
        raise UserError(f"There is no dialogue {unknown[0]!r}; the first of them is {corpus.dialogue_ids[0]!r}.")
    chosen = np.array([not names or name in names for name in corpus.dialogue_ids])
    if splits:
        chosen &= dialogues_in(corpus, splits)
    if chosen.all():
        return corpus
    if not chosen.any():
        there = ", ".join(sorted(set(corpus.split.tolist())))
        raise UserError(f"No dialogue is left in the split {' or '.join(splits)!r}; the corpus has {there}.")
    return dialogues(corpus, chosen)


def jsonl(prediction: Prediction) -> str:
    """Return one line of JSON an utterance, with the fields of `prediction.UtteranceEmotion`."""
    records = [dataclasses.asdict(utterance) for utterance in prediction]
    if tasks.get(prediction.corpus.task).probabilistic:
        for record in records:
            del record["score"]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def comma_separated(prediction: Prediction) -> str:
    """Return CSV, one row an utterance (RFC 4180): `Prediction.to_frame` without transcripts and scores."""
    frame = prediction.to_frame().drop(columns=["transcript", "score"], errors="ignore")
    rows = [[f"{x:.6f}" if isinstance(x, float) else "" if x is None else x for x in row] for row in frame.to_numpy()]
    return tables.comma_separated([list(frame.columns), *rows])


def table(prediction: Prediction) -> str:
    """Return a table for a terminal, a block for each dialogue."""
    modalities, task = prediction.corpus.modalities, tasks.get(prediction.corpus.task)
    header = ["turn", "speaker", "emotion", "prob.", "true", *modalities, "attends to (turn)"]
    blocks: dict[str, list[list[str]]] = {}
    for u in prediction:
        predicted, true = task.brief(u.emotion), None if u.label is None else task.brief(u.label)
        missing = dict.fromkeys(u.missing, "–")
        probability = f"{max(u.probabilities.values()):.2f}" if u.probabilities else "–"
        line = [str(u.turn), u.speaker, predicted, probability, "✓" if true == predicted else true or ""]
        line += [missing.get(m) or f"{c:+.2f}" for m, c in u.contribution.items()]
        line += [", ".join(f"{a.turn} ({a.weight:.0%})" for a in u.attended)]
        blocks.setdefault(u.dialogue_id, [header]).append(line)
    answer = "this probability" if task.probabilistic else "the score"
    legend = [
        ["prob.", task.confidence],
        ["true", "the label in the file; ✓ where the prediction is the same"],
        [", ".join(modalities), f"by how much {answer} falls without the modality; – where missing"],
        ["attends to (turn)", "the other utterances with the most attention, and their shares"],
    ]
    return "\n".join([*(f"{_printable(name)}\n{_aligned(lines)}" for name, lines in blocks.items()), _aligned(legend)])


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    cells = [[_printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in cells)


def _printable(text: str) -> str:
    """Return names from data without control characters of a terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)


FORMATS = {"table": table, "jsonl": jsonl, "csv": comma_separated}

if __name__ == "__main__":
    sys.exit(call(execute, arguments(), sys.argv[1:]))

"""Predict emotions in conversations by the model of a run."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ariigcn_jax import extras
from ariigcn_jax.commands import conversation_page
from ariigcn_jax.commands.finished import splits_of
from ariigcn_jax.data.prepare import dialogues, dialogues_in
from ariigcn_jax.data.readers import transcripts
from ariigcn_jax.files import local, write_atomically
from ariigcn_jax.inference import model as inference
from ariigcn_jax.inference import reading
from ariigcn_jax.inference.prediction import Prediction, UtteranceEmotion
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import compilation, tables
from ariigcn_jax.runs.session import splitting
from ariigcn_jax.types import Corpus, UserError

if TYPE_CHECKING:
    import pandas as pd

STANDARD = "-"  # for standard input and output


def execute(options: argparse.Namespace) -> None:
    """Predict and write."""
    if options.input != STANDARD and not local(options.input).exists():
        raise UserError(
            f"{options.input}: there is no such file. Give a corpus, a chat, or a .jsonl file of utterances."
        )
    writers = {name: getattr(options, name) for name in WRITERS if getattr(options, name)}
    if options.parquet:
        extras.require("pyarrow", "parquet")  # before minutes of predicting
    if [*writers.values(), options.html].count(STANDARD) > 1 or STANDARD in (options.parquet, options.html):
        raise UserError(
            "- stands for standard output, which takes one of --csv and --jsonl. Name files for the others."
        )
    compilation.enable()
    model = inference.load(options.run, seed=options.seed)
    splits = splits_of(model, options.split) if options.split else ()
    with given(options.input) as path:
        shown = options.transcripts or are_words(local(path))
        corpus = choose(read(path, model, bool(splits), options.recording), splits, options.dialogue)
        prediction = model(corpus)
    for note in prediction.corpus.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.html:
        title = f"{model.config.experiment}, seed {model.seed}, epoch {model.epoch}"
        embedded = options.sound == "embed"
        sound = {} if options.sound == "none" else conversation_page.sound_of(prediction.corpus, options.html, embedded)
        page = conversation_page.html(prediction, title, transcripts=shown, sound=sound)
        print(write_atomically(options.html, page.encode()), file=sys.stderr)
    for name, file in writers.items():
        content = WRITERS[name](prediction, options.transcripts)
        if file == STANDARD:
            sys.stdout.write(content.decode())
        else:
            print(write_atomically(file, content), file=sys.stderr)
    if not options.html and not writers:
        sys.stdout.write(table(prediction))


@contextlib.contextmanager
def given(name: str) -> Iterator[str]:
    """Yield the path of the input; of standard input, a file of what is read from it, a chat or lines of JSON."""
    if name != STANDARD:
        yield name
        return
    content = getattr(sys.stdin, "buffer", sys.stdin).read()
    content = content.encode() if isinstance(content, str) else content
    if not content.strip():
        raise UserError("Standard input is empty. Give a chat, such as `Ann: Oh no!`, or lines of JSON.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("input.jsonl" if content.lstrip()[:1] == b"{" else "input.txt")
        file.write_bytes(content)
        try:
            yield str(file)
        except UserError as error:
            raise UserError(str(error).replace(str(file), "standard input")) from error


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


def are_words(path: Path) -> bool:
    """Return whether a file is a chat, subtitles or what a recogniser writes, or a folder of these alone."""
    forms = set(transcripts.members(path).values()) if path.is_dir() else {transcripts.form(path)}
    return bool(forms) and forms <= {"chat", "subtitles", "recogniser"}


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


def jsonl(prediction: Prediction, transcripts: bool = False) -> bytes:
    """Return one line of JSON an utterance, with the fields of `prediction.UtteranceEmotion`."""
    lines = []
    for u, utterance in enumerate(prediction):
        record = line(utterance, prediction.corpus.task)
        if transcripts and prediction.corpus.transcript is not None:
            record["transcript"] = str(prediction.corpus.transcript[u])
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def line(utterance: UtteranceEmotion, task: str) -> dict[str, Any]:
    """Return the fields of an answer; a score only where the task has one."""
    record = dataclasses.asdict(utterance)
    if tasks.get(task).probabilistic:
        del record["score"]
    return record


def comma_separated(prediction: Prediction, transcripts: bool = False) -> bytes:
    """Return CSV, one row an utterance (RFC 4180): `Prediction.to_frame` without scores, which `emotion` has."""
    frame = _frame(prediction, transcripts).drop(columns="score", errors="ignore")
    rows = [[f"{x:.6f}" if isinstance(x, float) else "" if x is None else x for x in row] for row in frame.to_numpy()]
    return tables.comma_separated([list(frame.columns), *rows]).encode()


def parquet(prediction: Prediction, transcripts: bool = False) -> bytes:
    """Return the table of `Prediction.to_frame` as Parquet."""
    file = io.BytesIO()
    _frame(prediction, transcripts).to_parquet(file, index=False)
    return file.getvalue()


def _frame(prediction: Prediction, transcripts: bool) -> pd.DataFrame:
    frame = prediction.to_frame()
    return frame if transcripts else frame.drop(columns="transcript", errors="ignore")


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
    return "\n".join([*(f"{printable(name)}\n{_aligned(lines)}" for name, lines in blocks.items()), _aligned(legend)])


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    cells = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in cells)


def printable(text: str) -> str:
    """Return names from data without control characters of a terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)


WRITERS = {"csv": comma_separated, "jsonl": jsonl, "parquet": parquet}  # by the names of options

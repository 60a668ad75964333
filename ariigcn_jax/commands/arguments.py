"""Describe the arguments of every subcommand, without importing anything heavy, so that help comes at once.

The docstring of a function is what `ariigcn COMMAND --help` shows, and its first line is in the list of `ariigcn
--help`.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path

Parser = argparse.ArgumentParser
SPLITS = ("train", "valid", "test")  # types.SPLITS, whose module loads JAX; as data.targets.TARGETS
TASKS = ("classification", "regression", "multilabel")


def train(parser: Parser) -> None:
    """Learn emotions from conversations with labels, evaluate, and resume.

        ariigcn train calls.csv
        ariigcn train calls.csv --workdir=runs/calls --config.num_epochs=50 --config.seed=3
        ariigcn train calls.csv --names=words
        ariigcn train --config=experiments/iemocap.py --workdir=runs/iemocap

    PATH is a file or folder in any layout that `ariigcn inspect` reads. A table has one row an utterance, with
    dialogue_id, speaker, label, and its words as transcript or its features as audio_0, audio_1, …. The same command
    with the same --workdir resumes from the last checkpoint. ariigcn_jax/options/base.py lists the options.
    """
    add = parser.add_argument
    add("path", nargs="?", metavar="PATH", help="conversations with labels")
    add("--workdir", metavar="RUN", help="folder of the run, made or resumed; by default a new one under runs/")
    add(
        "--names",
        default="",
        metavar="A+B",
        help="swap parts: words (train the text encoder), task_regression, …",
    )
    add("--config", metavar="FILE", help="an experiment's file, in place of the options for your own conversations")
    parser.epilog = "--config.KEY=VALUE changes an option, as in --config.model.hidden=64; it may be repeated."


def predict(parser: Parser) -> None:
    """Predict the emotions of conversations by the model of a run.

        ariigcn predict --run runs/calls chat.txt
        ariigcn predict --run runs/calls chat.txt --html chat.html --csv chat.csv
        ariigcn predict --run runs/calls calls.csv --split test --jsonl -
        ariigcn predict --run runs/calls call.srt --recording call.wav
        echo "Ann: Oh no!" | ariigcn predict --run runs/calls -

    INPUT is a corpus in any layout that training reads, labelled or not. For a model with a text encoder it may be a
    chat (`Ann: …` a line, or an export of WhatsApp), .srt, .vtt, JSON of whisper, WhisperX or FunASR, or a folder of
    these. And it may be a .jsonl file with one utterance a line:

        {"dialogue_id": "d1", "speaker": "Ann", "features": {"text": [0.1, ...], "audio": null}, "label": "happy"}

    of which only "features" is required; for a model with a text encoder "text", with what was said, is enough, and
    transcripts of a corpus are. Where the model has learnt from sound by data.sound, it is made of the recording beside
    INPUT (call.wav of call.srt), of --recording, or of those that a table names.

    What a modality contributed is by how much the emotion's probability falls when that modality is removed from the
    conversation. Without an output of those below, a table is printed. The page of --html shows what was said where the
    input is a chat, subtitles or what a recogniser wrote; that of a corpus, and the tables, only with --transcripts.
    """
    add = parser.add_argument
    add("--run", required=True, help="work directory of the run")
    add("input", metavar="INPUT", help="a corpus, a chat, subtitles, or a .jsonl file; - for standard input")
    add("--recording", metavar="FILE", help="sound or video of the conversation, which its times cut")
    add("--seed", type=int, help="one of the run's seeds; by default the best on validation")
    add("--split", choices=SPLITS, help="only this split of a corpus, as training had it")
    add("--dialogue", action="append", help="only this dialogue; may be given several times")
    add("--html", metavar="FILE", help="write a page to look at")
    add(
        "--sound", choices=("link", "embed", "none"), default="link", help="recordings on the page: as links, within it"
    )
    add("--csv", metavar="FILE", help="write a table with a row for each utterance; - for standard output")
    add("--jsonl", metavar="FILE", help="write a line of JSON for each utterance; - for standard output")
    add("--parquet", metavar="FILE", help="write the table of --csv as Parquet (extra `parquet`)")
    add("--transcripts", action="store_true", help="put the transcripts into the page and the tables, too")


def stream(parser: Parser) -> None:
    """Answer a conversation line by line, while it goes on.

        ariigcn stream --run runs/causal
        recogniser | ariigcn stream --run runs/causal --jsonl

    Each line of standard input is a turn: `Ann: Oh no!`, or an utterance as JSON, as in a .jsonl file of `ariigcn
    predict`. Conversations with different dialogue_id may be interleaved. Each answer is printed at once. A model that
    looks ahead answers as many turns later; one that was trained with --config.model.graph.future=0 does not wait.
    """
    add = parser.add_argument
    add("--run", required=True, help="work directory of the run")
    add("--seed", type=int, help="one of the run's seeds; by default the best on validation")
    add("--jsonl", action="store_true", help="answer with lines of JSON")
    add(
        "--explain", action="store_true", help="with --jsonl: contributions and attended turns, too, which takes longer"
    )


def convert(parser: Parser) -> None:
    """Convert a corpus of any layout into a folder of the project's own format.

        ariigcn convert THEIRS.pkl corpus/

    `ariigcn inspect` says which layouts are read.
    """
    _corpus(parser, "IN")
    add = parser.add_argument
    add("output", metavar="OUT", help="the folder to make")
    add("--overwrite", action="store_true", help="replace a corpus that is there already")
    add("--name", help="what the corpus is called; by default as the file")
    add("--label-names", metavar="A,B,…", help="names of the classes 0, 1, …")


def inspect_(parser: Parser) -> None:
    """Print what is in a corpus, and what should be looked at before training.

        ariigcn inspect calls.csv

    What is read, recognised by what is in it: tables (CSV, TSV, JSON, JSON Lines, Parquet, Arrow), chats, subtitles,
    JSON of speech recognisers, .npz, the pickles of DialogueRNN and its successors, MMSA's pickle, MERBench's folders,
    and folders of `ariigcn convert`. Without a PATH each layout is described.
    """
    _corpus(parser, "PATH", optional=True)


def validate(parser: Parser) -> None:
    """Check whether training could use a corpus; the exit status is 0 or 1.

    ariigcn validate calls.csv
    """
    _corpus(parser, "PATH")


def features(parser: Parser) -> None:
    """Compute features of recordings and transcripts, as an .npz that training reads.

        ariigcn features manifest --release iemocap IEMOCAP_full_release --out dialogues.csv
        ariigcn features extract --manifest dialogues.csv --out corpus/ --audio eGeMAPSv02

    The encoders' packages are extras: pip install 'ariigcn-jax[words,audio,visual]'
    """
    parser.add_argument("step", choices=("manifest", "extract"), help="each has --help")


def export(parser: Parser) -> None:
    """Write a run's model as a folder that answers without this package.

        ariigcn export --run runs/causal --out exported
        ariigcn export --refresh exported             make its program again, where a newer JAX does not read it

    The folder holds StableHLO, safetensors, a loader and a model card.
    """
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", help="work directory of the run")
    source.add_argument("--refresh", metavar="FOLDER", help="a folder that was exported, to make its program again")
    parser.add_argument("--out", help="a new or empty folder")
    parser.add_argument("--seed", type=int, help="one of the run's seeds; by default the best on validation")
    text = "utterances of a conversation; only where the graph spans all of it"
    parser.add_argument("--longest", type=int, default=512, help=text)


def report(parser: Parser) -> None:
    """Make one self-contained page from one or several work directories.

        ariigcn report runs/full runs/no_tgan --output=report.html

    A folder may be a run, finished or not, folds (experiments.folds), a set of ablations (experiments.ablate) or a
    sweep (experiments.sweep). The page begins with a summary. It shows scores with intervals, classes, confusion
    matrices, calibration, learning curves, failure signatures, alignment (where `ariigcn align` has measured it),
    folds, ablations, curves over swept options, attention over conversations of the corpus, and the options in which
    the runs differ. It needs no network. It holds no transcripts unless --transcripts asks for them.
    """
    _runs(parser)
    add = parser.add_argument
    add("--output", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    add("--dialogue", action="append", default=[], metavar="ID", help="a conversation to draw; repeatable")
    add("--count", type=int, default=2, help="conversations to draw where none is named (default: 2)")
    add("--transcripts", action="store_true", help="put the transcripts onto the page, too")


def align(parser: Parser) -> None:
    """Measure the distances between the modalities' distributions in trained models.

        ariigcn align runs/full runs/no_tgan

    They are measured before TGAN, after it, and in the graph. The first run is compared with each of the others, over
    their seeds. Each run gets alignment.json and alignment.png, the t-SNE projection of its first seed; `ariigcn
    report` shows both. Of several members only the first is measured, because each has spaces of its own.
    ariigcn_jax/analysis/alignment.py defines the measures.
    """
    _runs(parser)


def robustness(parser: Parser) -> None:
    """Measure what a trained model scores when modalities are missing.

        ariigcn robustness runs/seed3
        ariigcn robustness runs/full runs/no_dropout --draws=10

    Shares of the (utterance, modality) entries of the test split are removed at random, where each utterance keeps at
    least one of its modalities; then each modality is removed altogether, and each is left alone. Masks are drawn from
    fixed numbers: they are the same for every seed and run, and a larger share removes all that a smaller one removes.
    Each run gets robustness.md, .csv, .json and .png: the mean over masks, then mean ± std over the run's seeds.
    """
    _runs(parser)
    parser.add_argument("--draws", type=int, default=5, help="masks for each share (default: 5)")


def latency(parser: Parser) -> None:
    """Measure how long a trained model takes to answer.

        ariigcn latency --run runs/causal

    Timed are a whole conversation, one streamed utterance, and the export. Features are random, and so are words, eight
    to an utterance on average. Calls are timed after compiling, from Python objects to Python objects. A whole
    conversation comes with contributions and attention; a streamed utterance is timed without and with them. CPU is the
    mean over calls of the processor time of all threads, which depends less than wall time on other programs of the
    machine. For a model that cannot stream, the reason is printed and the rest is measured.
    """
    parser.add_argument("--run", required=True, help="work directory of the run")
    parser.add_argument("--repeats", type=int, default=200, help="calls of which p50 and p99 are taken; default 200")


def _runs(parser: Parser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="work directory of a run")
    parser.add_argument("--split", choices=SPLITS, default="test", help="whose conversations (default: test)")


def _corpus(parser: Parser, path: str, optional: bool = False) -> None:
    add = parser.add_argument
    add("path", metavar=path, nargs="?" if optional else None, help="a file or folder")
    add("--label", default="label", help="field of the classes, e.g. sentiment (default: label)")
    add("--task", choices=TASKS, default="classification", help="what it holds (default: classification)")
    add("--modalities", default="", metavar="A,B,…", help="fields to take; by default all that look like features")
    valid, test = "of the train dialogues, if no split is valid", "of all dialogues, if there are no splits"
    add("--valid-fraction", default=0.1, type=float, metavar="SHARE", help=f"{valid} (default: 0.1)")
    add("--test-fraction", default=0.2, type=float, metavar="SHARE", help=f"{test} (default: 0.2)")


def fill(parser: Parser, describe: Callable[[Parser], None]) -> None:
    """Give a subcommand its arguments, and its help as it is written in the docstring of `describe`."""
    parser.description = inspect.getdoc(describe)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    describe(parser)


def summary(describe: Callable[[Parser], None]) -> str:
    """Return the first line of a docstring, as a list of commands shows it."""
    line = str(inspect.getdoc(describe)).partition("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:]

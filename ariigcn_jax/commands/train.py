"""Learn emotions from conversations with labels: `ariigcn train`, and `ariigcn_jax.train` in Python."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from ariigcn_jax.commands import command
from ariigcn_jax.files import json_safe, local, write_atomically
from ariigcn_jax.inference import model as inference
from ariigcn_jax.options import ablations, own
from ariigcn_jax.runs import session
from ariigcn_jax.types import Corpus, UserError

FILE = "conversations.jsonl"  # in a run's folder: what it learnt from, where that was no file


def execute(options: argparse.Namespace) -> None:
    """Train by the arguments of `ariigcn train`; those in `options.further` change options of the config.

    Raises:
      UserError: an argument is wrong, or as `session.execute`.
    """
    if not options.path and not options.config:
        raise UserError("Nothing to learn from: give the path of conversations, as in ariigcn train calls.csv.")
    if options.config and options.names:
        raise UserError(f"Write the names behind the file: --config={options.config}:{options.names}")
    mine = f"{own.__file__}:{options.names}"
    argv = ["ariigcn", f"--config={options.config or mine}", *options.further]
    argv += [f"--config.data.path={options.path}"] if options.path else []
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=argv)
    try:
        overrides = command.parse(argv, values=values)
    except UserError as error:
        raise UserError(str(error).replace(mine, "ariigcn train")) from error
    session.execute(values.config, options.workdir, overrides)


def train(
    conversations: Any,
    *,
    workdir: str | Path | None = None,
    encoder: str | Path | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    names: str = "",
    options: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> inference.TrainedModel:
    """Learn emotions from conversations with labels, evaluate, and return the model, as `load` does.

    This is `ariigcn train` for what a Python program has: options are those of options/own.py.

    Args:
      conversations: the path of a file or folder that training reads; a pandas DataFrame with a row for each utterance,
        with columns as in a table on disk; a list of utterances, each a dictionary with `label` and `text` or
        `features`, with a `dialogue_id`; a list of such lists, one a conversation; or a corpus.
      workdir: folder of the run, made or resumed. None makes a temporary one, which is deleted with the model; copy
        `model.path` to keep it.
      encoder: folder or hub's name of the text encoder, `model.text.encoder`.
      epochs: passes over the conversations, `num_epochs`.
      seed: >= 0, of first parameters, order and dropout.
      names: parts that are swapped, as behind an experiment's file: "words", "task_regression", "no_tgan+no_imcl", ….
      options: dotted key -> value, of options/base.py, such as {"model.hidden": 64}.
      quiet: whether to print nothing but progress.

    Example:
      >>> turns = [
      ...     {"dialogue_id": n // 4, "speaker": "Ann", "label": label, "features": {"audio": [volume, 1.0 + n % 3]}}
      ...     for n, (label, volume) in enumerate([("calm", 0.1), ("angry", 0.9)] * 40)
      ... ]
      >>> small = {"model.hidden": 8, "batch_size": 2, "optimizer.lr": 0.01, "diagnostics.every": 0}
      >>> model = train(turns, epochs=10, names="utterance_mlp", options=small, quiet=True)
      >>> model([{"speaker": "Bob", "features": {"audio": [0.9, 2.0]}}]).emotions
      ['angry']

    Raises:
      UserError: the conversations cannot be learnt from, an option is wrong, or the training ended early.
    """
    config = own.get_config(names)
    changes = {"model.text.encoder": encoder and str(encoder), "num_epochs": epochs, "seed": seed}
    changes = {key: value for key, value in changes.items() if value is not None} | dict(options or {})
    ablations.override(config, changes)
    folder = Path(tempfile.mkdtemp(prefix="ariigcn-")) if workdir is None else local(workdir)
    try:
        with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
            _learn(conversations, config, folder, list(changes))
        model = inference.load(folder)
    except BaseException:
        if workdir is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if workdir is None:
        weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model


def _learn(conversations: Any, config: Any, folder: Path, overrides: Sequence[str]) -> None:
    """Run a config on conversations as `train` takes them."""
    if isinstance(conversations, Corpus):
        session.execute(config, str(folder), overrides, session.load(config, overrides, conversations))
    elif isinstance(conversations, str | Path):
        ablations.override(config, {"data.path": str(local(conversations))})
        session.execute(config, str(folder), overrides)
    else:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(conversations)).encode()
        with tempfile.TemporaryDirectory() as place:
            file = write_atomically(Path(place) / FILE, lines)
            ablations.override(config, {"data.path": str(file)})
            try:
                corpus = session.load(config, overrides)
            except UserError as error:
                raise UserError(str(error).replace(str(file), "the conversations")) from error
        ablations.override(config, {"data.path": str(folder / FILE)})  # where tools will look for them
        session.execute(config, str(folder), overrides, corpus)
        write_atomically(folder / FILE, lines)


def _rows(conversations: Any) -> list[dict[str, Any]]:
    """Return one dictionary an utterance, of a DataFrame, of utterances, or of lists of them."""
    if hasattr(conversations, "columns"):
        rows = conversations.rename(columns=str).to_dict("records")
    else:
        given = list(conversations) if isinstance(conversations, Iterable) else []
        several = [one for one in given if not isinstance(one, Mapping | str) and isinstance(one, Iterable)]
        if several and len(several) == len(given):
            given = [{"dialogue_id": f"conversation {n}", **u} for n, one in enumerate(given, 1) for u in one]
        if not given or not all(isinstance(one, Mapping) for one in given):
            raise UserError(
                "These are no conversations with labels. Give the path of a file, a pandas DataFrame, or a list of "
                'utterances such as {"dialogue_id": "call1", "speaker": "Ann", "text": "Oh no!", "label": "sad"}.'
            )
        rows = [dict(one) for one in given]
    return [json_safe(row) for row in rows]

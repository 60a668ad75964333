"""Prepare a corpus between reading and packing: pure functions of the corpus, options and statistics.

    training          `arrange`, then `standardise` by what it is trained on
    a trained model   `match`, with the statistics of its training

`traced` does to one conversation what `match` does to its features, inside an exported model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ariigcn_jax.data import labels, normalisation, splits, targets
from ariigcn_jax.data.normalisation import Normalisation
from ariigcn_jax.types import UNLABELED, WORDS, Corpus, Modality, UserError


def arrange(corpus: Corpus, data: Mapping[str, Any], members: int = 1, given: Collection[str] = ()) -> Corpus:
    """Choose modalities, mark ranks, append copies and deal folds: the corpus of a run, not standardised.

    Args:
      corpus: as read.
      data: the options `data` of a config.
      members: K, models that leave out one fold each where `data.cross_validation` asks for it.
      given: dotted keys that the user set by hand. There a name that no modality begins with is an error; in an
        experiment's file, which is also for corpora that have less, it is a note.

    Raises:
      UserError: an option does not fit the corpus.
    """
    notes = [note for option in normalisation.OPTIONS for note in _check_beginnings(corpus, data, option, given)]
    kept = modalities(corpus, tuple(data["only"]))
    if len(kept.modalities) < len(corpus.modalities):
        notes.append(f"data.only keeps {', '.join(kept.modalities)} of {', '.join(corpus.modalities)}")
    kept = normalisation.with_copies(normalisation.ranked(kept, data["ranked"]), data)
    if data["cross_validation"]:
        kept = splits.cross_validated(kept, members)
        count = len(np.unique(kept.dialogue[kept.training]))
        what = f"another fold of the {count} dialogues that are not for testing, and is validated on it"
        notes.append(f"data.cross_validation: each of the {members} models leaves out {what}")
    return dataclasses.replace(kept, notes=(*corpus.notes, *notes))


def _check_beginnings(corpus: Corpus, data: Mapping[str, Any], option: str, given: Collection[str]) -> list[str]:
    """Return a note for each beginning of a modality's name in an option that fits no modality of the corpus."""
    notes = []
    for beginning in data[option]:
        if not isinstance(beginning, str) or not beginning:
            remedy = f'Write --config.data.{option}="(\'{corpus.modalities[0]}\',)", or "()" for none.'
            problem = f"{beginning!r} is no beginning of a modality's name"
            raise UserError(f"data.{option}={tuple(data[option])}: {problem}. {remedy}")
        if corpus.words is not None and WORDS.startswith(beginning):
            remedy = "Leave it out, or take an encoder that is frozen (model.text.train=frozen)"
            raise UserError(f"data.{option} names {WORDS!r}, whose encoder is trained along. {remedy}.")
        if not any(m.startswith(beginning) for m in corpus.modalities):
            have = ", ".join(corpus.modalities)
            notes.append(f"data.{option} names {beginning!r}, but no modality's name begins with it (there are {have})")
            if f"data.{option}" in given:
                raise UserError(f"{notes[-1]}.")
    return notes


def standardise(corpus: Corpus, statistics: Normalisation | None = None) -> tuple[Corpus, Normalisation]:
    """Return the corpus as it is packed, and the statistics: given ones, or those of what this corpus trains on.

    Raises:
      UserError: the statistics do not fit the corpus.
    """
    statistics = statistics or normalisation.fit(corpus)
    return normalisation.apply(corpus, statistics), statistics


def match(
    corpus: Corpus,
    data: Mapping[str, Any],
    statistics: Normalisation,
    *,
    widths: Mapping[Modality, int],
    task: str,
    label_names: tuple[str, ...],
    target_names: tuple[str, ...],
) -> Corpus:
    """Bring a corpus into the form that a trained model takes.

    Its modalities are standardised and in the model's order. Those that the model does not know are dropped, those that
    the corpus lacks count as missing, and labels are matched by name; `notes` says so.

    Args:
      corpus: as read.
      data: the options `data` of the model's config.
      statistics: what the model's features were standardised with.
      widths: modality -> d_m that the model takes, with copies.
      task: that it was trained for.
      label_names: C names, of its classes.
      target_names: O names, of its score or labels; () for classes.

    Raises:
      UserError: a modality has another width, or none is known to the model.
    """
    notes = _check_modalities(corpus, normalisation.raw_widths(widths, data))
    corpus = normalisation.with_copies(corpus, data)
    here = {m: corpus.features[m] for m in widths if m in corpus.features}
    corpus, _ = standardise(dataclasses.replace(corpus, features=here), statistics)
    label, found = _match_labels(corpus, label_names, data["relabel"])
    if targets.of(task) is not None:
        corpus, label, found = _match_targets(corpus, task, target_names, label)
    zeros = {m: np.zeros((len(corpus), width), np.float32) for m, width in widths.items() if m not in here}
    features = {**corpus.features, **zeros}
    return dataclasses.replace(
        corpus,
        features={m: features[m] for m in widths},
        present={m: corpus.present[m] if m in here else np.zeros(len(corpus), bool) for m in widths},
        label=label,
        label_names=label_names,
        notes=(*corpus.notes, *notes, *found),
    )


def _check_modalities(corpus: Corpus, widths: Mapping[Modality, int]) -> list[str]:
    """Return notes on modalities that are not used or missing; `widths` are the model's, without copies."""
    shared = {m: corpus.widths[m] for m in widths if m in corpus.features}
    if not shared:
        have = f"The corpus {corpus.name!r} has the modalities {', '.join(corpus.modalities)}"
        raise UserError(f"{have}, but this model knows only {', '.join(widths)}. Name its features as in training.")
    for m, width in shared.items():
        if width != widths[m]:
            have = f"{corpus.name}: {m} has {width} features an utterance, but this model was trained on {widths[m]}"
            raise UserError(f"{have}. Give features of the same extractor as in training.")
    notes = []
    if unknown := [m for m in corpus.modalities if m not in widths]:
        notes.append(f"{', '.join(unknown)}: not used, the model was not trained on it")
    if absent := [m for m in widths if m not in shared]:
        notes.append(f"{', '.join(absent)}: missing, the model predicts from the others")
    lacking = {m: int((~corpus.present[m]).sum()) for m in shared}
    return notes + [f"{m}: missing in {n} of {len(corpus)} utterances" for m, n in lacking.items() if n]


def _match_labels(corpus: Corpus, names: tuple[str, ...], relabel: str) -> tuple[np.ndarray, list[str]]:
    """Return labels [U] in the model's numbering, by name after `relabel`, and notes."""
    known = {name: index for index, name in enumerate(names)}
    given, given_names = labels.relabel(corpus.label, corpus.label_names, relabel, partly=True)
    table = np.array([known.get(name, UNLABELED) for name in given_names] + [UNLABELED], np.int32)
    label = table[given]  # UNLABELED is the table's last
    lost = sorted({given_names[c] for c in np.unique(given[(given >= 0) & (label < 0)])})
    return label, [f"labels {', '.join(lost)}: not among the model's, left out of comparisons"] if lost else []


def _match_targets(
    corpus: Corpus, task: str, names: tuple[str, ...], label: np.ndarray
) -> tuple[Corpus, np.ndarray, list[str]]:
    """Return the corpus with the model's scores or labels (none where it does not know one), `label` [U], and notes."""
    kind, notes = targets.of(task), []
    several = kind is not None and kind.several
    target, known = np.zeros((len(corpus), len(names)), np.float32), corpus.label >= 0
    given = corpus.target if corpus.task == task else None
    if given is not None and not several:
        target = given[:, :1]
    elif given is not None and {*names} & {*corpus.target_names}:
        for o, name in enumerate(names):
            if name in corpus.target_names:
                target[:, o] = given[:, corpus.target_names.index(name)]
        if lost := sorted({*corpus.target_names} - {*names}):
            notes = [f"labels {', '.join(lost)}: not among the model's, left out of comparisons"]
    else:
        if known.any():
            notes = [f"labels: not those of data.task={task} that the model knows, left out of comparisons"]
        known = np.zeros(len(corpus), bool)
    label = np.where(known, np.maximum(label, 0), UNLABELED).astype(np.int32)
    return dataclasses.replace(corpus, task=task, target=target, target_names=names), label, notes


def dialogues(corpus: Corpus, chosen: np.ndarray) -> Corpus:
    """Return the corpus with the `chosen` [dialogues] bool alone, in its order; features are read into memory."""
    rows = np.asarray(chosen, bool)[corpus.dialogue]
    columns = {name: value[rows] for name, value in vars(corpus).items() if isinstance(value, np.ndarray)}
    columns["dialogue"] = np.unique(corpus.dialogue[rows], return_inverse=True)[1].reshape(-1).astype(np.int32)
    return dataclasses.replace(
        corpus,
        features={m: x[rows] for m, x in corpus.features.items()},
        present={m: x[rows] for m, x in corpus.present.items()},
        dialogue_ids=tuple(name for name, here in zip(corpus.dialogue_ids, chosen, strict=True) if here),
        utterance_ids=tuple(name for name, here in zip(corpus.utterance_ids, rows, strict=True) if here),
        words=None if corpus.words is None else corpus.words.take(np.flatnonzero(rows)),
        **columns,
    )


def dialogues_in(corpus: Corpus, splits: Collection[str]) -> np.ndarray:
    """Return [dialogues] bool, those that are in one of the splits."""
    chosen = np.zeros(len(corpus.dialogue_ids), bool)
    chosen[corpus.dialogue] = np.isin(corpus.split, list(splits))
    return chosen


def modalities(corpus: Corpus, beginnings: Sequence[str]) -> Corpus:
    """Return all utterances with the modalities whose names begin so, e.g. ("text", "audio"); () keeps all.

    Raises:
      UserError: no modality begins with one of them.
    """
    if unknown := [b for b in beginnings if not any(m.startswith(b) for m in corpus.modalities)]:
        raise UserError(
            f"No modality of the corpus {corpus.name!r} begins with {' or '.join(map(repr, unknown))}; it has "
            f"{', '.join(corpus.modalities)}. data.only takes beginnings of these names, and only_A_B names A and B."
        )
    kept = [m for m in corpus.modalities if not beginnings or m.startswith(tuple(beginnings))]
    return dataclasses.replace(
        corpus,
        features={m: corpus.features[m] for m in kept},
        present={m: corpus.present[m] for m in kept},
        ranked={m: count for m, count in corpus.ranked.items() if m in kept},
        words=corpus.words if WORDS in kept else None,
        encoder=corpus.encoder if WORDS in kept else None,
        recipes={m: how for m, how in corpus.recipes.items() if m in kept},
    )

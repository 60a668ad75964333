"""Examine a corpus before training: sizes, labels, missing features, leaks between splits, signs of wrong labels."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ariigcn_jax.data import targets
from ariigcn_jax.data.fields import count
from ariigcn_jax.types import SPLITS, UNLABELED, Corpus, Modality

FLOOR = 1e-6  # standard deviation of a constant feature, and share of the largest of a direction that counts
WIDE = 1e3  # largest scale of a modality's features over its median scale, above which one calls it unscaled
TAILED = 10.0  # kurtosis (3 for a Gaussian) above which a feature has a long tail
MANY_TAILED = 0.1  # share of a modality's features with long tails, above which it is reported
FEW_WORDS = 4  # shorter utterances ("okay", "what?") repeat for good reasons
NEIGHBOURS = 10
MOST_ROWS = 4000  # of train, drawn once, whose neighbours are looked at
NARROW = 0.75  # of train's width along the classes' directions, below which test's is reported
FEWEST = 100  # utterances of train, and of test, from which widths are taken, and of train from which tails are
SHARED = 0.5  # of a dialogue's longer utterances, found in a dialogue of another split, that make it a copy
MOST_COPIES = 50  # of an utterance, above which it is a common phrase and no sign of a copied dialogue
Contents = dict[str, Sequence[Any]]  # "transcript" or a modality -> what tells utterances apart, empty where missing


class Report(NamedTuple):
    """Hold what was found."""

    tables: dict[str, list[list[str]]]  # title -> rows of cells, the first row the head
    findings: tuple[str, ...]  # what should be looked at before training

    def text(self) -> str:
        """Return the tables, aligned, and the findings."""
        parts = [f"{title}\n{_aligned(rows)}" for title, rows in self.tables.items()]
        found = "\n".join(f"  - {finding}" for finding in self.findings) or "  nothing"
        return "\n\n".join([*parts, f"To look at before training\n{found}"])


class _Scale(NamedTuple):
    """Say how the features of a modality are spread over the train split."""

    middle: float  # median standard deviation of the features that are not constant
    greatest: float  # and the largest
    low: float  # least value
    high: float  # greatest value
    constant: int  # number of constant features
    tailed: float  # share of the features with long tails; 0 for few utterances


def examine(corpus: Corpus) -> Report:
    """Examine a corpus as it is read, not standardised; features that are not made yet, [U, 0], are left out."""
    made = [m for m, x in corpus.features.items() if x.shape[1]]
    corpus = dataclasses.replace(corpus, features={m: corpus.features[m] for m in made})
    splits = [s for s in SPLITS if s in corpus.split]
    counts = {s: targets.occurrences(corpus, corpus.split == s) for s in SPLITS}
    scales = {modality: _scale(corpus, modality) for modality in corpus.modalities}
    contents: Contents = {} if corpus.transcript is None else {"transcript": _words(corpus.transcript)}
    contents |= {modality: _prints(corpus, modality) for modality in corpus.modalities}
    tables = {
        "Splits": _sizes(corpus, splits),
        "Labels (share of the labelled utterances)": _labels(corpus, {s: counts[s] for s in splits}),
        **({"Modalities": _modalities(corpus, splits, scales)} if scales else {}),
    }
    findings = [
        *_split_findings(corpus, splits, counts),
        *_feature_findings(corpus, scales),
        *_made_with_labels(corpus),
        *_duplicates(corpus, contents),
        *_shared_speakers(corpus, splits),
        *_copied_dialogues(corpus, contents),
        *_contradictions(corpus, contents),
        *_odd_neighbours(corpus),
    ]
    return Report(tables, tuple(findings))


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = (str.ljust, *(str.rjust for _ in widths[1:]))
    lines = ("  ".join(f(c, w) for f, c, w in zip(pad, row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def _sizes(corpus: Corpus, splits: Sequence[str]) -> list[list[str]]:
    rows = [["", "dialogues", "utterances", "longest", "median", "most speakers", "unlabelled", "no words"]]
    for split in [*splits, "all"]:
        chosen = np.ones(len(corpus), bool) if split == "all" else corpus.split == split
        _, lengths = np.unique(corpus.dialogue[chosen], return_counts=True)
        numbers = [len(lengths), chosen.sum(), lengths.max(), int(np.median(lengths)), corpus.speaker[chosen].max() + 1]
        numbers.append((corpus.label[chosen] == UNLABELED).sum())
        words = None if corpus.transcript is None else corpus.transcript[chosen]
        silent = "-" if words is None else f"{sum(not str(t).strip() for t in words):,}"
        rows.append([split, *(f"{number:,}" for number in numbers), silent])
    return rows


def _labels(corpus: Corpus, counts: dict[str, np.ndarray]) -> list[list[str]]:
    labelled = {s: max(((corpus.split == s) & (corpus.label != UNLABELED)).sum(), 1) for s in counts}
    rows = [["", *(cell for s in counts for cell in (s, "%"))]]
    for c, name in enumerate(corpus.label_names):
        cells = [(f"{n[c]:,}", f"{100 * n[c] / labelled[s]:.1f}") for s, n in counts.items()]
        rows.append([name, *itertools.chain.from_iterable(cells)])
    return rows


def _modalities(corpus: Corpus, splits: Sequence[str], scales: dict[Modality, _Scale]) -> list[list[str]]:
    rows = [["", "width", *(f"missing in {s}" for s in splits), "constant", "least", "greatest", "median deviation"]]
    for modality, scale in scales.items():
        gaps = [f"{(~corpus.present[modality][corpus.split == s]).sum():,}" for s in splits]
        numbers = [f"{number:.3g}" for number in (scale.low, scale.high, scale.middle)]
        rows.append([modality, str(corpus.widths[modality]), *gaps, str(scale.constant), *numbers])
    return rows


def _scale(corpus: Corpus, modality: Modality) -> _Scale:
    train = (corpus.split == "train") & corpus.present[modality]
    rows = np.asarray(corpus.features[modality][train], np.float64)
    if not len(rows):
        return _Scale(0, 0, 0, 0, corpus.widths[modality], 0)
    deviation = rows.std(axis=0)
    varying = deviation[deviation >= FLOOR]
    tailed = 0.0
    if len(rows) >= FEWEST:
        standard = (rows - rows.mean(axis=0)) / np.where(deviation < FLOOR, np.inf, deviation)
        tailed = float(((standard**4).mean(axis=0) > TAILED).mean())
    middle, greatest = (float(np.median(varying)), float(varying.max())) if len(varying) else (0.0, 0.0)
    return _Scale(middle, greatest, float(rows.min()), float(rows.max()), len(deviation) - len(varying), tailed)


def _split_findings(corpus: Corpus, splits: Sequence[str], counts: dict[str, np.ndarray]) -> list[str]:
    found = [f"there is no {s} split" for s in SPLITS if s not in splits]
    for split in splits:
        if nothing := [n for n, c in zip(corpus.label_names, counts[split], strict=True) if not c]:
            found.append(f"no {split} utterance is labelled {', '.join(nothing)}")
    classes = corpus.target is None  # other tasks have no options for their classes
    train = counts["train"]
    if train.any() and 0 < train.min() < train.max() / 20:
        rare = corpus.label_names[int(train.argmin())]
        found.append(
            f"the classes are unbalanced: {rare} has {train.min():,} train utterances and "
            f"{corpus.label_names[int(train.argmax())]} {train.max():,}"
            + ("; watch macro F1, and try --config.losses.emotion.fn=weighted_cross_entropy" if classes else "")
        )
    for group in _groups([re.sub(r"[\s_]+", "", name.lower()) for name in corpus.label_names]):
        names = [corpus.label_names[i] for i in group]
        merged = ",".join(f"{name}={names[0]}" for name in names[1:])
        advice = f'; --config.data.relabel="{merged}" makes them one' if classes else ""
        found.append(f"{', '.join(names)} may be one class{advice}")
    _, lengths = np.unique(corpus.dialogue, return_counts=True)
    if (lengths == 1).all():
        found.append("every dialogue has one utterance: there is no context to learn from")
    return found


def _feature_findings(corpus: Corpus, scales: dict[Modality, _Scale]) -> list[str]:
    found = []
    for modality, scale in scales.items():
        if scale.constant:
            width = corpus.widths[modality]
            found.append(f"{modality}: {scale.constant} of {width} features are constant in train and carry nothing")
        if scale.middle and scale.greatest > WIDE * scale.middle:
            found.append(
                f"{modality}: unscaled, one feature's deviation is {scale.greatest / scale.middle:,.0f} times the "
                "median's; training standardises each feature by the train split, other codes may not"
            )
        gaps = ~corpus.present[modality]
        if gaps.any():
            words = f"{modality}: missing in {gaps.sum():,} of {len(corpus):,} utterances ({gaps.mean():.1%})"
            rates = [gaps[corpus.label == c].mean() for c in range(corpus.num_classes) if (corpus.label == c).any()]
            if rates and max(rates) > 2 * min(rates) + 0.02:
                words += f", and unevenly: {100 * min(rates):.0f} to {100 * max(rates):.0f} % by class"
            found.append(words)
    if tailed := [modality for modality, scale in scales.items() if scale.tailed > MANY_TAILED]:
        found.append(
            f"{', '.join(tailed)}: some features have long tails (kurtosis above {TAILED:g}): a few utterances lie far "
            f'from the rest; --config.data.ranked="{tuple(tailed)}" makes ranks of them, which may help'
        )
    return found


def _made_with_labels(corpus: Corpus) -> list[str]:
    """Return the modalities in which train's classes are further apart than test's, as if the extractor knew labels."""
    found = []
    for modality in corpus.modalities:
        here = corpus.present[modality]
        train = here & (corpus.split == "train")
        enough = min((train & (corpus.label != UNLABELED)).sum(), (here & (corpus.split == "test")).sum()) >= FEWEST
        if enough and (ratio := relative_width(corpus, modality, train)) < NARROW:
            found.append(
                f"{modality}: along the directions that separate the train labels, test spreads {ratio:.2f} times as "
                "much as train. This is typical of features made with the train labels, or of other recordings or "
                "shares of labels. Validation dialogues from train then score better than new ones, and cannot choose "
                "the epoch"
            )
    return found


def relative_width(corpus: Corpus, modality: Modality, known: np.ndarray) -> float:
    """Return the ratio of test's standard deviation to train's along the directions that separate the classes.

    Directions fit the rows that they are found on. So they are taken from half of the dialogues and compared with the
    other half, both ways, and the two ratios are averaged (choice). The labels of test are not looked at. Train are the
    utterances `known` [U] bool, which have the modality. The ratio is 1 where there is nothing to measure.
    """
    new = corpus.present[modality] & (corpus.split == "test")
    rows, there = (np.asarray(corpus.features[modality][x], np.float64) for x in (known, new))
    half = np.isin(corpus.dialogue, np.unique(corpus.dialogue[known])[1::2])[known]
    if not len(there) or not half.any():
        return 1.0
    scale = np.maximum(rows.std(axis=0), FLOOR)
    label, ratios = corpus.label[known], []
    for fitted in (half, ~half):
        axes = directions(rows[fitted] / scale, label[fitted])
        widths = [(x / scale @ axes.T).var(axis=0).sum() for x in (there, rows[~fitted])]
        ratios.append(np.sqrt(widths[0] / max(widths[1], FLOOR**2)) if len(axes) else 1.0)
    return float(np.mean(ratios))


def directions(rows: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return orthonormal directions [k, d] in which the means of labelled rows [N, d] differ between classes; k < C."""
    known = np.unique(label[label != UNLABELED])
    if len(known) < 2:
        return np.empty((0, rows.shape[1]))
    means = np.stack([rows[label == c].mean(axis=0) for c in known])
    _, size, axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    return axes[: len(known) - 1][size[: len(known) - 1] > FLOOR * max(size[0], FLOOR)]


def _words(transcript: np.ndarray) -> list[str]:
    """Return each utterance's words without case and punctuation; "" where they are few."""
    plain = [" ".join(re.findall(r"\w+", str(text).lower())) for text in transcript]
    return [words if words.count(" ") >= FEW_WORDS - 1 else "" for words in plain]


def _prints(corpus: Corpus, modality: Modality) -> list[bytes]:
    """Return a fingerprint of each utterance's features; b"" where they are missing."""
    pairs = zip(corpus.features[modality], corpus.present[modality], strict=True)
    return [hashlib.blake2b(x.tobytes(), digest_size=12).digest() if here else b"" for x, here in pairs]


def _groups(values: Sequence[Any]) -> list[list[int]]:
    """Return the rows of each value that comes several times; empty values do not count."""
    places: dict[Any, list[int]] = collections.defaultdict(list)
    for row, value in enumerate(values):
        if value:
            places[value].append(row)
    return [rows for rows in places.values() if len(rows) > 1]


def _duplicates(corpus: Corpus, contents: Contents) -> list[str]:
    found = []
    for source, values in contents.items():
        if groups := _groups(values):
            copies = sum(len(rows) - 1 for rows in groups)
            name = f"transcript ({FEW_WORDS} words or more)" if source == "transcript" else source
            words = f"{name}: {count(copies, 'utterance is', 'utterances are')} the same as an earlier one"
            splits = [corpus.split[rows].tolist() for rows in groups]
            if leaks := sum(len(set(inside)) > 1 for inside in splits):
                tests = sum(inside.count("test") for inside in splits if "train" in inside)
                words += f"; {count(leaks, 'group')} of them in several splits, {tests:,} test utterances seen in train"
            found.append(words)
    return found


def _shared_speakers(corpus: Corpus, splits: Sequence[str]) -> list[str]:
    if corpus.speaker_names is None:
        return []
    names = {s: set(corpus.speaker_names[corpus.split == s].tolist()) for s in splits}
    found = []
    for one, other in itertools.combinations(splits, 2):
        if both := sorted(names[one] & names[other]):
            words = f"{len(both):,} of {len(names[other]):,} speakers of {other} are in {one} too"
            shown = ", ".join(map(str, both[:5])) + (", …" if len(both) > 5 else "")
            found.append(f"{words} ({shown}); harmless where the names are roles and not people")
    return found


def _copied_dialogues(corpus: Corpus, contents: Contents) -> list[str]:
    """Return how many dialogues share most of their longer utterances with a dialogue of another split."""
    values = contents.get("transcript", ())
    if not any(values):
        values = contents[corpus.modalities[0]] if corpus.modalities else ()
    filled = np.array([bool(v) for v in values], bool)
    counted = np.bincount(corpus.dialogue[: len(filled)][filled], minlength=len(corpus.dialogue_ids))
    shared: collections.Counter[tuple[int, int]] = collections.Counter()
    for rows in (rows for rows in _groups(values) if len(rows) <= MOST_COPIES):
        where = {int(corpus.dialogue[i]): str(corpus.split[i]) for i in rows}
        pairs = itertools.combinations(sorted(where), 2)
        shared.update((one, other) for one, other in pairs if where[one] != where[other])
    copies = [(a, b) for (a, b), n in shared.items() if n >= 3 and n >= SHARED * min(counted[a], counted[b])]
    if not copies:
        return []
    example = " and ".join(corpus.dialogue_ids[d] for d in copies[0])
    words = count(len(copies), "pair of dialogues", "pairs of dialogues")
    return [f"{words} in different splits are copies for the most part, such as {example}"]


def _contradictions(corpus: Corpus, contents: Contents) -> list[str]:
    """Return how often the same words, or the same features, have different labels."""
    found = []
    for source, values in contents.items():
        groups = _groups([v if x != UNLABELED else v[:0] for v, x in zip(values, corpus.label, strict=True)])
        if mixed := [rows for rows in groups if len(set(corpus.label[rows].tolist())) > 1]:
            name = "words" if source == "transcript" else f"{source} features"
            one, other = (corpus.utterance_ids[i] for i in mixed[0][:2])
            found.append(
                f"label noise: {len(mixed):,} of {len(groups):,} groups of utterances with the same {name} have "
                f"different labels, such as {one} and {other}"
            )
    return found


def _odd_neighbours(corpus: Corpus) -> list[str]:
    """Return whether neighbours in the train split have the same labels, and labels that all but one contradict."""
    rows = np.flatnonzero((corpus.split == "train") & (corpus.label != UNLABELED))
    if len(rows) < 10 * NEIGHBOURS or not corpus.modalities:
        return []
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_ROWS])
    labels = corpus.label[rows]
    similarity = np.zeros((len(rows), len(rows)), np.float32)
    for modality in corpus.modalities:
        x = np.asarray(corpus.features[modality][rows], np.float32)
        x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), FLOOR)
        x *= corpus.present[modality][rows][:, None]
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), FLOOR)
        similarity += x @ x.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    votes = (labels[nearest][..., None] == np.arange(corpus.num_classes)).sum(axis=1)
    agreement = float((votes.argmax(axis=1) == labels).mean())
    majority = float(np.bincount(labels).max() / len(labels))
    against = rows[(votes.max(axis=1) >= NEIGHBOURS - 1) & (votes.argmax(axis=1) != labels)]
    found = []
    if agreement < majority:
        found.append(
            f"the {NEIGHBOURS} nearest neighbours in feature space name the label in {agreement:.1%} of {len(rows):,} "
            f"train utterances, less than always the most frequent one ({majority:.1%}): features that do not tell "
            "the classes apart, or labels that do not belong to their rows"
        )
    if len(against):
        shown = ", ".join(corpus.utterance_ids[i] for i in against[:5])
        found.append(
            f"label noise: {len(against):,} of {len(rows):,} train utterances have a label that at least "
            f"{NEIGHBOURS - 1} of their {NEIGHBOURS} nearest neighbours contradict in the same way, such as {shown}"
        )
    return found

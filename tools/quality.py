"""What a look at a corpus shows before anything is trained on it: sizes, labels, gaps, leaks, and signs of noise."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ariigcn_jax.data import leakage, targets
from ariigcn_jax.data.fields import count
from ariigcn_jax.types import SPLITS, UNLABELED, Corpus, Modality

FLOOR = 1e-6  # standard deviation of a constant feature
WIDE = 1e3  # largest scale of a modality's features over its median scale, above which one calls it unscaled
TAILED = 10.0  # kurtosis (3 for a Gaussian) above which a feature has a long tail
MANY_TAILED = 0.1  # of a modality's features, above which that is told
FEW_WORDS = 4  # shorter utterances ("okay", "what?") repeat for good reasons
NEIGHBOURS = 10
MOST_ROWS = 4000  # of train, drawn once, whose neighbours are looked at
NARROW = 0.75  # of train's width along the classes' directions, below which test's is told
FEWEST = 100  # utterances of train, and of test, from which widths are taken, and of train from which tails are
SHARED = 0.5  # of a dialogue's longer utterances, found in a dialogue of another split, that make it a copy


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
      tables: title -> lines of cells, the first the head.
      findings: what should be looked at before training; () if nothing.
    """

    tables: dict[str, list[list[str]]]
    findings: tuple[str, ...]

    def text(self) -> str:
        """The tables, aligned, then the findings."""
        parts = [f"{title}\n{_aligned(rows)}" for title, rows in self.tables.items()]
        found = "\n".join(f"  - {finding}" for finding in self.findings) or "  nothing"
        return "\n\n".join([*parts, f"To look at before training\n{found}"])


def examine(corpus: Corpus) -> Report:
    """Looks at a corpus as it is read, not standardised.

    Args:
      corpus: any corpus.

    Returns:
      The report.
    """
    splits = [s for s in SPLITS if s in corpus.split]
    tables = {
        "Splits": _sizes(corpus, splits),
        "Labels (share of the labelled utterances)": _labels(corpus, splits),
        "Modalities": _modalities(corpus, splits),
    }
    findings = [
        *_split_findings(corpus, splits),
        *_feature_findings(corpus),
        *_made_with_labels(corpus),
        *_duplicates(corpus),
        *_shared_speakers(corpus, splits),
        *_copied_dialogues(corpus),
        *_contradictions(corpus),
        *_odd_neighbours(corpus),
    ]
    return Report(tables, tuple(findings))


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _sizes(corpus: Corpus, splits: Sequence[str]) -> list[list[str]]:
    rows = [["", "dialogues", "utterances", "longest", "median", "most speakers", "unlabelled", "no words"]]
    for split in [*splits, "all"]:
        chosen = np.ones(len(corpus), bool) if split == "all" else corpus.split == split
        _, lengths = np.unique(corpus.dialogue[chosen], return_counts=True)
        silent = "-"
        if corpus.transcript is not None:
            silent = f"{sum(not str(t).strip() for t in corpus.transcript[chosen]):,}"
        cells = [
            f"{len(lengths):,}",
            f"{chosen.sum():,}",
            f"{lengths.max():,}",
            f"{int(np.median(lengths)):,}",
            f"{corpus.speaker[chosen].max() + 1}",
            f"{(corpus.label[chosen] == UNLABELED).sum():,}",
            silent,
        ]
        rows.append([split, *cells])
    return rows


def _labels(corpus: Corpus, splits: Sequence[str]) -> list[list[str]]:
    counts = {s: _counts(corpus, corpus.split == s) for s in splits}
    labelled = {s: max(((corpus.split == s) & (corpus.label != UNLABELED)).sum(), 1) for s in splits}
    rows = [["", *(cell for s in splits for cell in (s, "%"))]]
    for c, name in enumerate(corpus.label_names):
        cells = [(f"{counts[s][c]:,}", f"{100 * counts[s][c] / labelled[s]:.1f}") for s in splits]
        rows.append([name, *itertools.chain.from_iterable(cells)])
    return rows


def _counts(corpus: Corpus, chosen: np.ndarray) -> np.ndarray:
    """[classes] int, utterances with each of `label_names`; one of several labels counts for each of them."""
    return targets.occurrences(corpus, chosen)


def _modalities(corpus: Corpus, splits: Sequence[str]) -> list[list[str]]:
    head = ["", "width", *(f"missing in {s}" for s in splits), "constant", "least", "greatest", "median deviation"]
    rows = [head]
    for modality, (mean_scale, low, high, constant) in {m: _scale(corpus, m) for m in corpus.modalities}.items():
        gaps = [f"{(~corpus.present[modality][corpus.split == s]).sum():,}" for s in splits]
        numbers = [f"{constant}", f"{low:.3g}", f"{high:.3g}", f"{mean_scale:.3g}"]
        rows.append([modality, str(corpus.widths[modality]), *gaps, *numbers])
    return rows


def _train_rows(corpus: Corpus, modality: Modality) -> np.ndarray:
    return np.asarray(corpus.features[modality][(corpus.split == "train") & corpus.present[modality]], np.float64)


def _scale(corpus: Corpus, modality: Modality) -> tuple[float, float, float, int]:
    """Median deviation of the features that vary, least and greatest value, and the number of constant features."""
    rows = _train_rows(corpus, modality)
    if not len(rows):
        return 0.0, 0.0, 0.0, corpus.widths[modality]
    deviation = rows.std(axis=0)
    varying = deviation[deviation >= FLOOR]
    middle = float(np.median(varying)) if len(varying) else 0.0
    return middle, float(rows.min()), float(rows.max()), int((deviation < FLOOR).sum())


def _split_findings(corpus: Corpus, splits: Sequence[str]) -> list[str]:
    found = [f"there is no {s} split" for s in SPLITS if s not in splits]
    for split in splits:
        counts = _counts(corpus, corpus.split == split)
        if nothing := [n for n, c in zip(corpus.label_names, counts, strict=True) if not c]:
            found.append(f"no {split} utterance is labelled {', '.join(nothing)}")
    classes = corpus.target is None  # what options do about classes, they do for no other task
    train = _counts(corpus, corpus.split == "train")
    if train.any() and 0 < train.min() < train.max() / 20:
        rare = corpus.label_names[int(train.argmin())]
        found.append(
            f"the classes are unbalanced: {rare} has {train.min():,} train utterances and "
            f"{corpus.label_names[int(train.argmax())]} {train.max():,}"
            + ("; watch macro F1, and try --config.losses.emotion.fn=weighted_cross_entropy" if classes else "")
        )
    alike = _groups([re.sub(r"[\s_]+", "", name.lower()) for name in corpus.label_names])
    for group in alike:
        names = [corpus.label_names[i] for i in group]
        merged = ",".join(f"{name}={names[0]}" for name in names[1:])
        advice = f'; --config.data.relabel="{merged}" makes them one' if classes else ""
        found.append(f"{', '.join(names)} may be one class{advice}")
    _, lengths = np.unique(corpus.dialogue, return_counts=True)
    if (lengths == 1).all():
        found.append("every dialogue has one utterance: there is no context to learn from")
    return found


def _feature_findings(corpus: Corpus) -> list[str]:
    found = []
    tailed = []
    for modality, width in corpus.widths.items():
        middle, _, _, constant = _scale(corpus, modality)
        if constant:
            found.append(f"{modality}: {constant} of {width} features are constant in train and carry nothing")
        rows = _train_rows(corpus, modality)
        deviation = rows.std(axis=0)
        greatest = deviation.max(initial=0)
        if len(rows) >= FEWEST and (_kurtosis(rows, deviation) > TAILED).sum() > MANY_TAILED * width:
            tailed.append(modality)
        if middle and greatest > WIDE * middle:
            found.append(
                f"{modality}: unscaled, one feature's deviation is {greatest / middle:,.0f} times the median's; "
                "training standardises each feature by the train split, other codes may not"
            )
        gaps = ~corpus.present[modality]
        if gaps.any():
            words = f"{modality}: missing in {gaps.sum():,} of {len(corpus):,} utterances ({gaps.mean():.1%})"
            rates = [gaps[corpus.label == c].mean() for c in range(corpus.num_classes) if (corpus.label == c).any()]
            if rates and max(rates) > 2 * min(rates) + 0.02:
                words += f", and unevenly: {100 * min(rates):.0f} to {100 * max(rates):.0f} % by class"
            found.append(words)
    if tailed:
        names = ",".join(repr(modality) for modality in tailed) + ("," if len(tailed) == 1 else "")
        found.append(
            f"{', '.join(tailed)}: some features have long tails (kurtosis above {TAILED:g}): a few utterances lie far "
            f'from the rest; --config.data.ranked="({names})" makes ranks of them, which may help'
        )
    return found


def _kurtosis(rows: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """[d] fourth moment of rows [U, d], U >= 1, over the square of their variance; 0 for constant features."""
    squares = np.square((rows - rows.mean(axis=0)) / np.where(deviation < FLOOR, np.inf, deviation))
    return np.square(squares).mean(axis=0)


def _made_with_labels(corpus: Corpus) -> list[str]:
    """Modalities in which test is much narrower than train along the directions that tell the train labels apart.

    An extractor that was trained on the train labels spreads the classes of train further apart than it can those of
    test.
    """
    found = []
    for modality in corpus.modalities:
        here = corpus.present[modality]
        train = here & (corpus.split == "train")
        if min((train & (corpus.label != UNLABELED)).sum(), (here & (corpus.split == "test")).sum()) < FEWEST:
            continue
        if (ratio := leakage.relative_width(corpus, modality, train)) < NARROW:
            found.append(
                f"{modality}: along what tells the train labels apart, test is {ratio:.2f} times as wide as "
                "train. Features that were made with the train labels look so (as do recordings of another kind, or "
                "other shares of the labels): then validation dialogues out of train score better than new ones ever "
                "will, and cannot choose; --config.data.leaky trains on what is as unsure as test"
            )
    return found


def _words(corpus: Corpus) -> list[str]:
    """Each utterance's words without case and punctuation; "" where they are few."""
    if corpus.transcript is None:
        return [""] * len(corpus)
    plain = [" ".join(re.findall(r"\w+", str(text).lower())) for text in corpus.transcript]
    return [words if words.count(" ") >= FEW_WORDS - 1 else "" for words in plain]


def _prints(corpus: Corpus, modality: Modality) -> list[bytes]:
    """A fingerprint of each utterance's features; b"" where they are missing."""
    rows = corpus.features[modality]
    return [
        hashlib.blake2b(np.ascontiguousarray(rows[i]).tobytes(), digest_size=12).digest() if here else b""
        for i, here in enumerate(corpus.present[modality].tolist())
    ]


def _groups(values: Sequence[Any]) -> list[list[int]]:
    """Rows with the same value, where there are several; empty values are none."""
    places: dict[Any, list[int]] = collections.defaultdict(list)
    for row, value in enumerate(values):
        if value:
            places[value].append(row)
    return [rows for rows in places.values() if len(rows) > 1]


def _duplicates(corpus: Corpus) -> list[str]:
    found = []
    sources: dict[str, Sequence[str] | Sequence[bytes]] = {m: _prints(corpus, m) for m in corpus.modalities}
    if corpus.transcript is not None:
        sources = {f"transcript ({FEW_WORDS} words or more)": _words(corpus), **sources}
    for source, values in sources.items():
        groups = _groups(values)
        if not groups:
            continue
        copies = sum(len(g) - 1 for g in groups)
        leaks = sum(len({str(corpus.split[i]) for i in g}) > 1 for g in groups)
        words = f"{source}: {count(copies, 'utterance is', 'utterances are')} the same as an earlier one"
        if leaks:
            tests = sum(
                sum(corpus.split[i] == "test" for i in g) for g in groups if any(corpus.split[i] == "train" for i in g)
            )
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


def _copied_dialogues(corpus: Corpus) -> list[str]:
    """Dialogues most of whose longer utterances also make up a dialogue of another split."""
    values: Sequence[str] | Sequence[bytes] = _words(corpus)
    if not any(values):
        values = _prints(corpus, corpus.modalities[0])
    counted = np.bincount(corpus.dialogue[[bool(v) for v in values]], minlength=len(corpus.dialogue_ids))
    shared: collections.Counter[tuple[int, int]] = collections.Counter()
    for rows in _groups(values):
        if len(rows) > 50:  # a phrase of the trade, not a copy
            continue
        where = {int(corpus.dialogue[i]): str(corpus.split[i]) for i in rows}
        for one, other in itertools.combinations(sorted(where), 2):
            if where[one] != where[other]:
                shared[one, other] += 1
    copies = [
        (corpus.dialogue_ids[a], corpus.dialogue_ids[b])
        for (a, b), n in shared.items()
        if n >= 3 and n >= SHARED * min(counted[a], counted[b])
    ]
    if not copies:
        return []
    example = " and ".join(copies[0])
    words = count(len(copies), "pair of dialogues", "pairs of dialogues")
    return [f"{words} in different splits are copies for the most part, such as {example}"]


def _contradictions(corpus: Corpus) -> list[str]:
    """The same words, or the same features, under different labels."""
    found = []
    sources: dict[str, Sequence[str] | Sequence[bytes]] = {"words": _words(corpus)}
    sources |= {f"{m} features": _prints(corpus, m) for m in corpus.modalities}
    for source, values in sources.items():
        labelled = [v if label != UNLABELED else v[:0] for v, label in zip(values, corpus.label.tolist(), strict=True)]
        groups = _groups(labelled)
        mixed = [g for g in groups if len({int(corpus.label[i]) for i in g}) > 1]
        if mixed:
            found.append(
                f"label noise: {len(mixed):,} of {len(groups):,} groups of utterances with the same {source} have "
                f"different labels, such as {corpus.utterance_ids[mixed[0][0]]} and {corpus.utterance_ids[mixed[0][1]]}"
            )
    return found


def _odd_neighbours(corpus: Corpus) -> list[str]:
    """Labels that all of an utterance's nearest neighbours in the train split contradict with one voice."""
    rows = np.flatnonzero((corpus.split == "train") & (corpus.label != UNLABELED))
    if len(rows) < 10 * NEIGHBOURS:
        return []
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_ROWS])
    labels = corpus.label[rows]
    votes = np.zeros((len(rows), corpus.num_classes))
    similarity = np.zeros((len(rows), len(rows)), np.float32)
    for modality in corpus.modalities:
        x = np.asarray(corpus.features[modality][rows], np.float32)
        x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), FLOOR)
        x *= corpus.present[modality][rows][:, None]
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), FLOOR)
        similarity += x @ x.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    np.add.at(votes, (np.repeat(np.arange(len(rows)), NEIGHBOURS), labels[nearest].ravel()), 1)
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
            f"{NEIGHBOURS - 1} of their {NEIGHBOURS} nearest neighbours contradict with one voice, such as {shown}"
        )
    return found

"""Features that an extractor made which was trained on the train labels: along what tells the classes apart they are
surer of train utterances than of any new one.

A model that is trained on them learns to believe them and nothing else, and a validation split out of train cannot say
so. Here they are made as unsure as in test (choice), which no extractor was trained on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ariigcn_jax.types import UNLABELED, Corpus, Modality, UserError

OPTION = "data.leaky"
FLOOR = 1e-6  # standard deviation of a constant feature, and share of the largest of a direction that counts
FEWEST = 2  # utterances whose width can be taken
NARROW = 0.9  # of train's width along the classes' directions, above which test's leaves nothing to mend


def parse(entries: Sequence[str]) -> dict[str, float]:
    """Reads which modalities leak, and how much of their sureness is left in test.

    Args:
      entries: MODALITY=SHARE each, where MODALITY is the beginning of a name.

    Returns:
      Beginning -> share, in [0, 1].

    Raises:
      UserError: an entry is written otherwise.
    """
    shares = {}
    for entry in entries:
        beginning, _, number = str(entry).rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not beginning or not 0 <= share <= 1:
            raise UserError(
                f"{OPTION}={entry}: write MODALITY=SHARE, such as text=0.4: the distance between the classes' means "
                "that is left in test, as a share of that in train, from 0 to 1."
            )
        shares[beginning] = share
    return shares


def unsure(corpus: Corpus, shares: Mapping[str, float]) -> Corpus:
    """The labelled utterances of train and validation, made as unsure of the classes as those of test.

    In the directions that join the classes' means, features are drawn together to the share of their distance that is
    left in test, and Gaussian noise is added until they are as wide as in test. What lies across these directions
    stays, and with it what an extractor may have hidden there. The noise is drawn once, for one modality after the
    other, and the same each time a corpus is read.

    The labels of test are not looked at, but the widths of its features are. Those of validation are: the directions
    are of train and validation together, so what is found across them is worse than chance on validation. Unlabelled
    utterances, which no extractor was trained on, stay as they are.

    Args:
      corpus: as read, not standardised; memory-mapped features that leak are read into memory.
      shares: beginnings of modalities' names -> share in [0, 1], as `parse` reads it; of several that fit, the last
        counts.

    Returns:
      The corpus; features of test, of unlabelled utterances and of other modalities are as they were.

    Raises:
      UserError: there is nothing to take a width or a mean from, or test is as wide as train, or narrower than the
        share says.
    """
    share = {m: s for beginning, s in shares.items() for m in corpus.modalities if m.startswith(beginning)}
    random = np.random.RandomState(0)  # the generator whose numbers never change
    features = {m: _unsure(corpus, m, share[m], random) if m in share else x for m, x in corpus.features.items()}
    return dataclasses.replace(corpus, features=features)


def _unsure(corpus: Corpus, modality: Modality, share: float, random: np.random.RandomState) -> np.ndarray:
    here, test = corpus.present[modality], corpus.split == "test"
    known, new = here & ~test & (corpus.label != UNLABELED), here & test
    label, name = corpus.label[known], f"{OPTION}={modality}={share:g}"
    if min(known.sum(), new.sum()) < FEWEST or len(np.unique(label)) < 2:
        raise UserError(
            f"{name}: it takes labelled utterances of two classes in train, and utterances in test, that have this "
            f"modality; {corpus.name} has {known.sum()} and {new.sum()}. Leave the modality out of {OPTION}."
        )
    ratio = relative_width(corpus, modality, known)
    if not ratio <= NARROW:
        raise UserError(
            f"{name}: along what tells the train labels apart, test is {ratio:.2f} times as wide as train, so either "
            f"nothing leaks, or into this test split as well, which would flatter. Leave the modality out of {OPTION}, "
            "and test on what the extractor was not trained on."
        )
    rows, there = (np.asarray(corpus.features[modality][x], np.float64) for x in (known, new))
    scale = np.maximum(rows.std(axis=0), FLOOR)
    axes = directions(rows / scale, label)
    along = ((rows - rows.mean(axis=0)) / scale) @ axes.T
    goal = (there / scale @ axes.T).var(axis=0)
    missing = goal - share**2 * along.var(axis=0)
    if (missing < 0).any():
        most = float(np.sqrt((goal / along.var(axis=0)).min()))
        raise UserError(
            f"{name}: test is only {most:.2f} times as wide as train along what tells the train labels apart, so less "
            f"than {most:.2f} of the classes' distance is left there. Give a smaller share."
        )
    moved = share * along + np.sqrt(missing) * random.standard_normal(along.shape)
    result = np.array(corpus.features[modality], np.float32)
    result[known] = rows + (moved - along) @ axes * scale
    return result


def relative_width(corpus: Corpus, modality: Modality, known: np.ndarray) -> float:
    """How wide test is, over what the extractor may have been trained on, along what tells the labels of that apart.

    The directions are the classes' means over half of the dialogues, and widths are compared with those of the other
    half, because directions fit the rows that they are found on; both ways, and their mean (choice). The labels of test
    are not looked at.

    Args:
      corpus: as read, not standardised.
      modality: one of its own.
      known: [U] bool, utterances that have it and may have been trained on.

    Returns:
      The ratio of standard deviations; 1 where there is nothing to measure.
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
    """Orthonormal directions in which the classes' means differ.

    Args:
      rows: [N, d] of features of one scale.
      label: [N] int; UNLABELED ones do not count.

    Returns:
      [k, d], where k is the number of classes less one, or less where their means lie in fewer directions or are equal.
    """
    known = np.unique(label[label != UNLABELED])
    if len(known) < 2:
        return np.empty((0, rows.shape[1]))
    means = np.stack([rows[label == c].mean(axis=0) for c in known])
    _, size, axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    return axes[: len(known) - 1][size[: len(known) - 1] > FLOOR * max(size[0], FLOOR)]

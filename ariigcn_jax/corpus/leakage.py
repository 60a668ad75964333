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
FLOOR = 1e-6  # standard deviation of a constant feature
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
    stays. The noise is drawn once, and the same for a corpus each time it is read. The labels of test are not looked
    at, but the widths of its features are.

    Args:
      corpus: as read, not standardised.
      shares: beginnings of modalities' names -> share in [0, 1], as `parse` reads it; of several that fit, the last
        counts.

    Returns:
      The corpus; features of test, of unlabelled utterances and of other modalities are as they were.

    Raises:
      UserError: there is nothing to take a width or a mean from, or test is narrower than the share says.
    """
    share = {m: s for beginning, s in shares.items() for m in corpus.modalities if m.startswith(beginning)}
    features = {m: _unsure(corpus, m, share[m]) if m in share else x for m, x in corpus.features.items()}
    return dataclasses.replace(corpus, features=features)


def _unsure(corpus: Corpus, modality: Modality, share: float) -> np.ndarray:
    here, test = corpus.present[modality], corpus.split == "test"
    known, new = np.flatnonzero(here & ~test & (corpus.label != UNLABELED)), np.flatnonzero(here & test)
    label = corpus.label[known]
    if min(len(known), len(new)) < FEWEST or len(np.unique(label)) < 2:
        raise UserError(
            f"{OPTION}={modality}: it takes labelled utterances of two classes in train, and utterances in test, that "
            f"have this modality; {corpus.name} has {len(known)} and {len(new)}. Leave the modality out of {OPTION}."
        )
    rows, there = (np.asarray(corpus.features[modality][x], np.float64) for x in (known, new))
    scale = np.maximum(rows.std(axis=0), FLOOR)
    axes = directions(rows / scale, label)
    along = ((rows - rows.mean(axis=0)) / scale) @ axes.T
    goal = (there / scale @ axes.T).var(axis=0)
    ratio = float(np.sqrt(goal.sum() / max(along.var(axis=0).sum(), FLOOR**2)))
    if ratio > NARROW:
        raise UserError(
            f"{OPTION}={modality}={share:g}: along what tells the train labels apart, test is {ratio:.2f} times as "
            f"wide as train, so either nothing leaks, or into test as well. Leave the modality out of {OPTION}."
        )
    missing = goal - share**2 * along.var(axis=0)
    if (missing < 0).any():
        most = float(np.sqrt((goal / along.var(axis=0)).min()))
        raise UserError(
            f"{OPTION}={modality}={share:g}: test is only {most:.2f} times as wide as train along what tells the train "
            f"labels apart, so less than {most:.2f} of the classes' distance is left there. Give a smaller share."
        )
    noise = np.random.RandomState(0).standard_normal(along.shape)  # the generator whose numbers never change
    moved = share * along + np.sqrt(missing) * noise
    result = np.array(corpus.features[modality], np.float32)
    result[known] = rows + (moved - along) @ axes * scale
    return result


def directions(rows: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Orthonormal directions in which the classes' means differ.

    Args:
      rows: [N, d] of features of one scale.
      label: [N] int; UNLABELED ones do not count.

    Returns:
      [classes - 1, d]; [0, d] where there are fewer than two classes.
    """
    known = np.unique(label[label != UNLABELED])
    if len(known) < 2:
        return np.empty((0, rows.shape[1]))
    means = np.stack([rows[label == c].mean(axis=0) for c in known])
    return np.linalg.svd(means - means.mean(axis=0), full_matrices=False)[2][: len(known) - 1]

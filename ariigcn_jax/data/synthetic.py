"""Generate conversations whose structure is known, for tests, for trying the model and for measuring it.

Each speaker's emotion is a chain: it lasts (inertia), spreads (contagion) or is drawn anew. Each modality shows only
some of the emotions, so that no modality alone suffices, and noise makes the neighbouring turns worth looking at.

In latent space, modality i of M shows the classes c with c mod M = i mod min(M, C), each by its own direction, and
all others near the origin (`shared`). The latent vector, with noise, goes through a random linear map and a warp into
the modality's own space.

By default each modality has directions and a map of its own. With `common`, all are views of one latent space, which
differ by `rotation`, `shift`, `warp` and the noise alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ariigcn_jax.data import labels, targets
from ariigcn_jax.types import UNLABELED, Corpus, Modality, UserError

WIDTHS: Mapping[Modality, int] = {"text": 48, "audio": 24, "visual": 16}
# Latent dimensions beyond one per class: they carry noise alone, which a model has to learn to ignore.
_SPARE = 4
# What a common space is seen through, by modality in turn; where each has a space of its own, all take the first.
_WARPS = (np.tanh, lambda y: np.sin(2 * y), lambda y: np.abs(y) - 1)
_FEATURE_NOISE = 0.1
_LINGERING = 0.4  # probability that an utterance also has the label of the one before it, where it may have several


def generate(
    *,
    seed: int = 0,
    dialogues: int = 120,
    utterances: tuple[int, int] = (8, 40),
    speakers: int = 2,
    classes: int = 4,
    widths: Mapping[Modality, int] = WIDTHS,
    separation: float = 2.5,
    noise: float = 1.0,
    inertia: float = 0.6,
    contagion: float = 0.2,
    imbalance: float = 0.2,
    shared: float = 0.0,
    common: bool = False,
    rotation: float = 0.0,
    shift: float = 0.0,
    warp: float = 0.5,
    label_noise: float = 0.0,
    missing: float = 0.0,
    valid: float = 0.15,
    test: float = 0.2,
    task: str = "classification",
    label_names: Sequence[str] = (),
    last_only: bool = False,
) -> Corpus:
    """Generate a corpus; the same arguments give the same corpus.

    Args:
      seed: of every random draw, at least 0.
      dialogues: how many, at least 1.
      utterances: fewest and most utterances of a dialogue, at least 1; lengths are uniform between them, both included.
      speakers: people in each dialogue, at least 1; another one speaks next with probability 0.8.
      classes: number of emotions C, at least 2.
      widths: modality -> number of features d_m, at least 1; at least one modality.
      separation: distance from the origin to a shown class's mean in latent space, at least 0; 0 leaves only noise.
      noise: deviation of the latent noise, in the unit of `separation`, at least 0; each feature gets a tenth of it.
      inertia: probability, in [0, 1], that a speaker keeps their own last emotion.
      contagion: probability, at most 1 - inertia, of another speaker's last emotion; what remains is a new draw.
      imbalance: in [0, 1): a new draw has class c with probability proportional to (1 - imbalance)^c; 0 is uniform.
      shared: share of `separation`, in [0, 1], by which a modality also shows the other classes.
      common: whether the modalities are views of one latent space.
      rotation: quarter turns, in [0, 1], in planes of its own, of the latent space of every modality but the first.
      shift: distance, in the unit of `separation`, at least 0, of every modality but the first in latent space.
      warp: strength w >= 0 of the non-linearity y + w f(y); f is tanh, or tanh y, sin 2y, |y| − 1 in turn if `common`.
      label_noise: probability, in [0, 1), that the label of a train utterance is drawn evenly from all emotions.
      missing: probability, in [0, 1), that an utterance lacks a modality, independent for each of them.
      valid: share of the dialogues in the validation split, in [0, 1), rounded to the nearest number.
      test: the same for the test split; `valid` and `test` leave at least one dialogue for training.
      task: what the labels are. Of a "regression" the classes, which must be seven, are the levels of a score that lies
        evenly within half a unit around them; of "multilabel" class 0 is that no label applies, and with probability
        0.4 an utterance also has, and shows, the label of the one before it.
      label_names: of the C classes (of "multilabel" without class 0); () for emotion_0, …
      last_only: whether the last utterance of each dialogue alone is labelled, as a punchline with its context is.

    Returns:
      The corpus, called "synthetic", every utterance labelled unless `last_only`.

    Raises:
      UserError: an argument is out of its range.
    """
    _check_sizes(seed, dialogues, utterances, speakers, classes, widths)
    scales = dict(separation=separation, noise=noise, shift=shift, warp=warp)
    _check(scales, lambda x: 0 <= x < np.inf, "be a finite number of at least 0")
    closed = dict(inertia=inertia, contagion=contagion, shared=shared, rotation=rotation)
    _check(closed, lambda x: 0 <= x <= 1, "lie in [0, 1]")
    shares = dict(imbalance=imbalance, label_noise=label_noise, missing=missing, valid=valid, test=test)
    _check(shares, lambda x: 0 <= x < 1, "be at least 0 and less than 1")
    if inertia + contagion > 1:
        raise UserError(f"inertia = {inertia} and contagion = {contagion} add up to more than 1.")
    _check_task(task, classes, label_names)
    held = [round(valid * dialogues), round(test * dialogues)]
    if sum(held) >= dialogues:
        raise UserError(f"valid = {valid} and test = {test} leave none of the {dialogues} dialogues for training.")
    # One stream each: the missing rate, for example, does not change who says what.
    streams = np.random.SeedSequence(seed).spawn(6)
    chain, space, gaps, views, errors, truths = (np.random.default_rng(child) for child in streams)
    lengths = chain.integers(utterances[0], utterances[1], endpoint=True, size=dialogues)
    # Dialogues are exchangeable, so the last ones are held out.
    split = np.repeat(np.repeat(["train", "valid", "test"], [dialogues - sum(held), *held]), lengths)
    prior = (1.0 - imbalance) ** np.arange(classes)
    turns = [_dialogue(chain, n, speakers, prior / prior.sum(), inertia, contagion) for n in lengths]
    speaker, label = (np.concatenate(part).astype(np.int32) for part in zip(*turns, strict=True))
    size = classes + _SPARE
    target = targets.of(task)
    also = _lingering(truths, label, lengths) if target and target.several else None
    one_space = (_basis(space, size)[:classes], _map(space, size, max(widths.values()))) if common else None
    features, present = {}, {}
    for i, (m, width) in enumerate(widths.items()):
        shown = np.arange(classes) % len(widths) == i % min(len(widths), classes)
        directions = one_space[0] if one_space else _basis(space, size)[:classes]
        means = separation * np.where(shown, 1.0, shared)[:, None] * directions
        latent = means[label] + noise * space.normal(size=(len(label), size))
        if also is not None:
            latent = latent + np.where((also > 0)[:, None], means[also], 0)
        turn, displacement = _view(views, size, rotation)
        latent = latent if i == 0 else latent @ turn + shift * displacement
        seen = latent @ (one_space[1][:, :width] if one_space else _map(space, size, width))
        seen = seen + warp * _WARPS[i % len(_WARPS) if common else 0](seen)
        seen = (seen + _FEATURE_NOISE * noise * space.normal(size=seen.shape)).astype(np.float32)
        present[m] = gaps.random(len(label)) >= missing
        features[m] = np.where(present[m][:, None], seen, np.float32(0))
    wrong = (errors.random(len(label)) < label_noise) & (split == "train")
    given = np.where(wrong, errors.integers(classes, size=len(label)), label).astype(np.int32)
    ids = tuple(f"dialogue_{i}" for i in range(dialogues))
    corpus = Corpus(
        name="synthetic",
        features=features,
        present=present,
        dialogue=np.repeat(np.arange(dialogues, dtype=np.int32), lengths),
        speaker=speaker,
        label=given,
        split=split,
        label_names=tuple(label_names or (f"emotion_{c}" for c in range(classes))),
        dialogue_ids=ids,
        utterance_ids=tuple(f"{name}_{turn}" for name, n in zip(ids, lengths, strict=True) for turn in range(n)),
        speaker_names=np.array([f"speaker_{s}" for s in speaker]),
    )
    if target is not None:
        corpus = targets.attach(corpus, task, *_targets(truths, given, also, classes, label_names))
    if last_only:
        last = np.diff(corpus.dialogue, append=-1) != 0
        truth = None if corpus.target is None else np.where(last[:, None], corpus.target, np.float32(0))
        kept = np.where(last, corpus.label, UNLABELED).astype(np.int32)
        corpus = dataclasses.replace(corpus, label=kept, target=truth)
    return corpus


def _lingering(rng: np.random.Generator, label: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return [U] int, the class of the utterance before, where it lingers, else 0."""
    before = np.concatenate([[0], label[:-1]])
    before[np.cumsum(lengths) - lengths] = 0  # nothing lingers from another dialogue
    return np.where((rng.random(len(label)) < _LINGERING) & (before != label), before, 0)


def _targets(
    rng: np.random.Generator, label: np.ndarray, also: np.ndarray | None, classes: int, names: Sequence[str]
) -> tuple[np.ndarray, Sequence[str]]:
    """Return [U, O] and O names, as `targets.attach` takes them: several labels where there is `also`, else a score."""
    if also is None:
        scores = label - labels.MOST + rng.uniform(-0.5, 0.5, size=len(label))
        return np.clip(scores, -labels.MOST, labels.MOST)[:, None], names or ("sentiment",)
    several = np.eye(classes)[label] + np.eye(classes)[also]
    return np.minimum(several[:, 1:], 1), names or [f"emotion_{c}" for c in range(1, classes)]


def _dialogue(
    rng: np.random.Generator, length: int, speakers: int, prior: np.ndarray, inertia: float, contagion: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw who speaks ([T] int, numbered by first appearance) and with which emotion ([T] int)."""
    who, what = np.zeros(length, int), np.zeros(length, int)
    last: dict[int, int] = {}
    number: dict[int, int] = {}
    speaker = int(rng.integers(speakers))
    for turn in range(length):
        emotion, chance = int(rng.choice(len(prior), p=prior)), rng.random()
        if chance < inertia:
            emotion = last.get(speaker, emotion)
        elif chance < inertia + contagion:
            emotion = next((last[other] for other in reversed(last) if other != speaker), emotion)
        who[turn], what[turn] = number.setdefault(speaker, len(number)), emotion
        # Taken out first, so that the dictionary's order is that of who spoke last.
        last.pop(speaker, None)
        last[speaker] = emotion
        if speakers > 1 and rng.random() < 0.8:
            speaker = (speaker + int(rng.integers(1, speakers))) % speakers
    return who, what


def _basis(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return [size, size], orthonormal."""
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


def _map(rng: np.random.Generator, size: int, width: int) -> np.ndarray:
    """Return [size, d_m]."""
    return rng.normal(size=(size, width)) / np.sqrt(size)


def _view(rng: np.random.Generator, size: int, rotation: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a rotation by `rotation` quarter turns in random planes (an odd dimension stays), and a direction."""
    basis = _basis(rng, size)
    angle, turn = rotation * np.pi / 2, np.eye(size)
    cos, sin = np.cos(angle), np.sin(angle)
    for plane in range(0, size - 1, 2):
        turn[plane : plane + 2, plane : plane + 2] = [[cos, sin], [-sin, cos]]
    direction = rng.normal(size=size)
    return basis @ turn @ basis.T, direction / np.linalg.norm(direction)


def _check_sizes(
    seed: int, dialogues: int, utterances: tuple[int, int], speakers: int, classes: int, widths: Mapping[Modality, int]
) -> None:
    if len(utterances) != 2:
        raise UserError(f"utterances = {utterances!r}: must be two numbers, the fewest and the most of a dialogue.")
    if not widths:
        raise UserError("widths names no modality: give at least one, such as {'text': 48}.")
    fewest, most = utterances
    sizes = [("seed", seed, 0), ("dialogues", dialogues, 1), ("speakers", speakers, 1), ("classes", classes, 2)]
    sizes += [("the fewest utterances", fewest, 1), ("the most utterances", most, fewest)]
    sizes += [(f"the width of {modality!r}", width, 1) for modality, width in widths.items()]
    for name, value, least in sizes:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise UserError(f"{name} = {value!r}: must be a whole number of at least {least}.")


def _check_task(task: str, classes: int, names: Sequence[str]) -> None:
    if task not in targets.TARGETS:
        raise UserError(f"task = {task!r}: must be one of {', '.join(targets.TARGETS)}.")
    target = targets.TARGETS[task]
    wanted = classes if target is None else classes - 1 if target.several else 1
    if target and not target.several and classes != len(labels.LEVELS):
        raise UserError(f"classes = {classes}: a score has {len(labels.LEVELS)} levels.")
    if names and len(names) != wanted:
        raise UserError(f"label_names has {len(names)}: task = {task!r} with {classes} classes takes {wanted}.")


def _check(values: Mapping[str, float], right: Callable[[float], bool], wanted: str) -> None:
    for name, value in values.items():
        if not right(value):
            raise UserError(f"{name} = {value}: must {wanted}.")

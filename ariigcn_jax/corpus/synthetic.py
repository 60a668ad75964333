"""Generated conversations whose structure is known, for tests, for trying the model and for measuring it.

Each speaker's emotion is a chain: it lasts (inertia), spreads (contagion) or is drawn anew. Each modality shows only
some of the emotions, so that no modality alone suffices, and noise makes the neighbouring turns worth looking at.

In latent space, modality i of M shows the classes c with c mod M = i mod min(M, C), each by its own direction, and
all others by the origin. The latent vector, with noise, goes through a random linear map and y + tanh(y) / 2 into the
modality's own space.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ariigcn_jax.types import Corpus, Modality, UserError

WIDTHS: Mapping[Modality, int] = {"text": 48, "audio": 24, "visual": 16}
# Latent dimensions beyond one per class: they carry noise alone, which a model has to learn to ignore.
_SPARE = 4
_NONLINEARITY = 0.5
_FEATURE_NOISE = 0.1


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
    missing: float = 0.0,
    valid: float = 0.15,
    test: float = 0.2,
) -> Corpus:
    """Generates a corpus; the same arguments give the same corpus.

    Args:
      seed: of every random draw, at least 0.
      dialogues: number of dialogues, at least 1.
      utterances: fewest and most utterances of a dialogue, at least 1; lengths are uniform between them, both included.
      speakers: people in each dialogue, at least 1; another one speaks next with probability 0.8.
      classes: number of emotions C, at least 2.
      widths: modality -> number of features d_m, at least 1; at least one modality.
      separation: distance from the origin to a shown class's mean in latent space, at least 0; 0 leaves only noise.
      noise: standard deviation of the latent noise, in the unit of `separation`, at least 0; a tenth of it is added
        to each feature.
      inertia: probability, in [0, 1], that a speaker keeps their own last emotion.
      contagion: probability, in [0, 1], of taking over the emotion last shown by another speaker; `inertia` and
        `contagion` add up to at most 1, and what remains is a new draw.
      imbalance: in [0, 1): a new draw has class c with probability proportional to (1 - imbalance)^c; 0 is uniform.
      missing: probability, in [0, 1), that an utterance lacks a modality, independent for each of them.
      valid: share of the dialogues in the validation split, in [0, 1), rounded to the nearest number.
      test: the same for the test split; `valid` and `test` leave at least one dialogue for training.

    Returns:
      The corpus, called "synthetic", every utterance labelled.

    Raises:
      UserError: an argument is out of its range.
    """
    _check_sizes(seed, dialogues, utterances, speakers, classes, widths)
    _check_scales(separation=separation, noise=noise)
    _check_shares(inertia=inertia, contagion=contagion, imbalance=imbalance, missing=missing, valid=valid, test=test)
    split = _split(dialogues, valid, test)
    # One stream each: the missing rate, for example, does not change who says what.
    chain, space, gaps = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3))
    lengths = chain.integers(utterances[0], utterances[1], endpoint=True, size=dialogues)
    prior = (1.0 - imbalance) ** np.arange(classes)
    turns = [_dialogue(chain, n, speakers, prior / prior.sum(), inertia, contagion) for n in lengths]
    speaker, label = (np.concatenate(part).astype(np.int32) for part in zip(*turns, strict=True))
    features = {
        m: _features(space, label, _shown(i, len(widths), classes), width, separation, noise)
        for i, (m, width) in enumerate(widths.items())
    }
    present = {m: gaps.random(len(label)) >= missing for m in widths}
    return _corpus(lengths, split, speaker, label, classes, features, present)


def _dialogue(
    rng: np.random.Generator, length: int, speakers: int, prior: np.ndarray, inertia: float, contagion: float
) -> tuple[np.ndarray, np.ndarray]:
    """Who speaks ([T] int) and with which emotion ([T] int)."""
    who, what = np.zeros(length, int), np.zeros(length, int)
    last: dict[int, int] = {}
    speaker = int(rng.integers(speakers))
    for turn in range(length):
        fresh, chance = int(rng.choice(len(prior), p=prior)), rng.random()
        if chance < inertia:
            emotion = last.get(speaker, fresh)
        elif chance < inertia + contagion:
            emotion = next((last[other] for other in reversed(last) if other != speaker), fresh)
        else:
            emotion = fresh
        who[turn], what[turn] = speaker, emotion
        # Taken out first, so that the dictionary's order is that of who spoke last.
        last.pop(speaker, None)
        last[speaker] = emotion
        if speakers > 1 and rng.random() < 0.8:
            speaker = (speaker + int(rng.integers(1, speakers))) % speakers
    return _by_appearance(who), what


def _by_appearance(who: np.ndarray) -> np.ndarray:
    number = {speaker: i for i, speaker in enumerate(dict.fromkeys(who.tolist()))}
    return np.array([number[speaker] for speaker in who.tolist()])


def _shown(modality: int, modalities: int, classes: int) -> np.ndarray:
    """[C] bool: the classes that a modality tells apart."""
    return np.arange(classes) % modalities == modality % min(modalities, classes)


def _features(
    rng: np.random.Generator, label: np.ndarray, shown: np.ndarray, width: int, separation: float, noise: float
) -> np.ndarray:
    """[U, d_m] float32."""
    size = len(shown) + _SPARE
    directions = np.linalg.qr(rng.normal(size=(size, size)))[0][: len(shown)]
    means = separation * directions * shown[:, None]
    latent = means[label] + noise * rng.normal(size=(len(label), size))
    seen = latent @ (rng.normal(size=(size, width)) / np.sqrt(size))
    seen = seen + _NONLINEARITY * np.tanh(seen) + _FEATURE_NOISE * noise * rng.normal(size=seen.shape)
    return seen.astype(np.float32)


def _split(dialogues: int, valid: float, test: float) -> np.ndarray:
    """[dialogues] str. They are exchangeable, so the last ones may be held out."""
    held = [round(valid * dialogues), round(test * dialogues)]
    if sum(held) >= dialogues:
        raise UserError(f"valid = {valid} and test = {test} leave none of the {dialogues} dialogues for training.")
    return np.repeat(["train", "valid", "test"], [dialogues - sum(held), *held])


def _corpus(
    lengths: np.ndarray,
    split: np.ndarray,
    speaker: np.ndarray,
    label: np.ndarray,
    classes: int,
    features: dict[Modality, np.ndarray],
    present: dict[Modality, np.ndarray],
) -> Corpus:
    ids = tuple(f"dialogue_{i}" for i in range(len(lengths)))
    return Corpus(
        name="synthetic",
        features={m: np.where(present[m][:, None], x, np.float32(0)) for m, x in features.items()},
        present=present,
        dialogue=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        speaker=speaker,
        label=label,
        split=np.repeat(split, lengths),
        label_names=tuple(f"emotion_{c}" for c in range(classes)),
        dialogue_ids=ids,
        utterance_ids=tuple(f"{name}_{turn}" for name, n in zip(ids, lengths, strict=True) for turn in range(n)),
        speaker_names=np.array([f"speaker_{s}" for s in speaker]),
    )


def _check_sizes(
    seed: int, dialogues: int, utterances: tuple[int, int], speakers: int, classes: int, widths: Mapping[Modality, int]
) -> None:
    _integer("seed", seed, 0)
    _integer("dialogues", dialogues, 1)
    _integer("speakers", speakers, 1)
    _integer("classes", classes, 2)
    if len(utterances) != 2:
        raise UserError(f"utterances = {utterances!r}: must be two numbers, the fewest and the most of a dialogue.")
    _integer("the fewest utterances", utterances[0], 1)
    _integer("the most utterances", utterances[1], utterances[0])
    if not widths:
        raise UserError("widths names no modality: give at least one, such as {'text': 48}.")
    for modality, width in widths.items():
        _integer(f"the width of {modality!r}", width, 1)


def _check_scales(**scales: float) -> None:
    for name, value in scales.items():
        if not 0 <= value < np.inf:
            raise UserError(f"{name} = {value}: must be a finite number of at least 0.")


def _check_shares(*, inertia: float, contagion: float, **shares: float) -> None:
    for name, value in {"inertia": inertia, "contagion": contagion}.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name} = {value}: must lie in [0, 1].")
    if inertia + contagion > 1:
        raise UserError(f"inertia = {inertia} and contagion = {contagion} add up to more than 1.")
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise UserError(f"{name} = {value}: must be at least 0 and less than 1.")


def _integer(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name} = {value!r}: must be a whole number of at least {least}.")

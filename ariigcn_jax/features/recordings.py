"""Make the features of recordings that a model learns from, by a recipe that is kept with it.

A recipe is plain data, as `Encoder.recipe` gives it: the kind of the encoder, its options, versions of packages, and
checksums of model files. `tools.features` writes the same into a corpus, as `provenance`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.data.fields import count, is_named_like_a_modality
from ariigcn_jax.features import audio, extract
from ariigcn_jax.features.audio import OpenSmile, SpeechModel
from ariigcn_jax.features.cache import Cache
from ariigcn_jax.features.encoder import Encode, Encoder
from ariigcn_jax.features.manifest import Manifest
from ariigcn_jax.features.media import MediaError
from ariigcn_jax.features.visual import VisualEncoder
from ariigcn_jax.files import cache_folder, json_safe
from ariigcn_jax.types import Clip, Corpus, Modality, UserError, first_line

Recipe = Mapping[str, Any]
KINDS: dict[str, type[Encoder]] = {"opensmile": OpenSmile, "speech": SpeechModel, "visual": VisualEncoder}
PACKAGES = ("opensmile", "transformers", "cv2")  # whose versions are in recipes
CHECKSUMS = ("weights", "content")  # of a model's files, which may lie elsewhere on another machine
STORE, MOST = "recordings.sqlite", 2 * 2**30  # the file in the folder of caches, and the bytes of its vectors


def of_option(specification: str) -> dict[Modality, Encoder]:
    """Return the encoder of the option `data.sound`, written as --audio of tools.features, by its modality.

    Raises:
      UserError: it is not understood.
    """
    if not specification:
        return {}
    encoder = audio.from_option(specification)
    if not is_named_like_a_modality(encoder.field):
        raise UserError(f"data.sound={specification}: name={encoder.field} is not possible. Write name=audio_…")
    return {encoder.field: encoder}


def of_recipes(recipes: Mapping[Modality, Recipe]) -> dict[Modality, Encoder]:
    """Return the encoders that recipes describe; those that read no recordings are left out."""
    found: dict[Modality, Encoder] = {}
    for modality, recipe in recipes.items():
        if (kind := KINDS.get(str(recipe.get("kind")))) and isinstance(recipe.get("model"), str):
            names = {field.name for field in dataclasses.fields(kind)} & set(recipe)
            options: dict[str, Any] = {name: tuple(x) if isinstance(x := recipe[name], list) else x for name in names}
            found[modality] = kind(**options | {"name": modality})
    return found


def attach(corpus: Corpus, encoders: Mapping[Modality, Encoder], strict: bool = False) -> Corpus:
    """Give modalities whose features are to be made of recordings, [U, 0] until now, their features and recipes.

    Where an encoder cannot be used, or encodes nothing, its modality is left out of the corpus with a note.

    Args:
      corpus: with clips.
      encoders: modality -> its encoder.
      strict: whether that is an error instead; it always is where no other modality would be left.

    Raises:
      UserError: see above.
    """
    for modality, encoder in encoders.items():
        if modality not in corpus.features or corpus.features[modality].shape[1]:
            continue
        try:
            corpus = _made(corpus, modality, encoder)
        except UserError as error:
            if strict or len(corpus.features) == 1:
                raise
            features, present = (
                {m: x for m, x in known.items() if m != modality} for known in (corpus.features, corpus.present)
            )
            notes = (*corpus.notes, f"{modality} is left out: {str(error).rstrip('.')}")
            corpus = dataclasses.replace(corpus, features=features, present=present, notes=notes)
    return corpus


def adopt(corpus: Corpus, recipes: Mapping[Modality, Recipe]) -> Corpus:
    """Make the features that a trained model takes out of recordings, by its recipes, as `attach` does.

    Raises:
      UserError: the corpus has features by another recipe, or the files of an encoder have changed.
    """
    for modality, known in corpus.recipes.items():
        if problem := differing(recipes.get(modality, {}), known):
            raise UserError(
                f"{corpus.name}: {modality} was made by another recipe than in training: {problem}. Make the features "
                "as in training, or give the recordings."
            )
    encoders = {m: e for m, e in of_recipes(recipes).items() if m in corpus.features}
    corpus = attach(corpus, encoders)
    for modality in encoders.keys() & corpus.recipes.keys():
        made = corpus.recipes[modality]
        if problem := differing(recipes[modality], made):
            raise UserError(f"{modality}: its encoder is another one than in training: {problem}. Restore its files.")
        other = [
            f"{p} {recipes[modality][p]}" for p in PACKAGES if recipes[modality].get(p, made.get(p)) != made.get(p)
        ]
        if other:
            note = f"{modality} was learnt with {', '.join(other)}; another version is installed"
            corpus = dataclasses.replace(corpus, notes=(*corpus.notes, note))
    return corpus


def vectors(clip: Clip, recipes: Mapping[Modality, Recipe]) -> dict[Modality, np.ndarray]:
    """Return modality -> the features [d] of one clip, by the recipes of a trained model; nothing is kept.

    Raises:
      UserError: the clip or an encoder cannot be used, or the encoder is another one than in training.
    """
    made: dict[Modality, np.ndarray] = {}
    for modality, encoder in of_recipes(recipes).items():
        encode, recipe = _loaded(encoder)
        if problem := differing(recipes[modality], recipe):
            raise UserError(f"{modality}: its encoder is another one than in training: {problem}. Restore its files.")
        try:
            [vector] = encode([clip])
        except MediaError as error:
            raise UserError(f"{clip.path}: {error}. Leave the recording out, or give another.") from None
        if np.isfinite(vector).all():
            made[modality] = vector.astype(np.float32)
    return made


@functools.lru_cache(8)
def _loaded(encoder: Encoder) -> tuple[Encode, Recipe]:
    return encoder.load(1, "cpu"), encoder.recipe()


def differing(wanted: Recipe, given: Recipe) -> str:
    """Say which option or file differs in two recipes, of what both have; "" for none. Versions may differ."""
    wanted, given = json_safe(wanted), json_safe(given)
    ignored = {*PACKAGES, *(["model"] if any(name in wanted and name in given for name in CHECKSUMS) else [])}
    names = [name for name in wanted if name in given and name not in ignored and wanted[name] != given[name]]
    return f"{names[0]} is {given[names[0]]!r}, and was {wanted[names[0]]!r} in training" if names else ""


def described(recipe: Recipe) -> str:
    """Return a recipe in a line for people: `opensmile, model eGeMAPSv02, rate 16000, opensmile 2.6.0`."""
    parts = [f"{key} {_shown(value)}" for key, value in recipe.items() if key != "kind" and value not in ("", None)]
    return ", ".join([str(recipe.get("kind", "an encoder")), *parts])


def _shown(value: Any) -> str:
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _made(corpus: Corpus, modality: Modality, encoder: Encoder) -> Corpus:
    """Return the corpus with the features of a modality.

    Raises:
      UserError: the encoder cannot be used, or nothing could be encoded.
    """
    recipe, identity = encoder.recipe(), encoder.identity()
    nothing = [None] * len(corpus)
    clips = tuple(one if one and one.path else None for one in (nothing if corpus.clips is None else corpus.clips))
    texts = ("",) * len(corpus)
    manifest = Manifest(Path(corpus.name), {}, texts, clips, clips, np.array(corpus.utterance_ids))
    with _cache() as cache:
        # in this process: a script that starts others has to be written for it
        rows, failed = extract.features(encoder, identity, manifest, cache, jobs=0, device="cpu")
        cache.shrink(MOST)
    here = np.isfinite(rows).all(axis=1)
    notes = corpus.notes
    if failed:
        first = next(iter(failed.values()))
        counted = count(len(failed), "recording")
        notes = (*notes, f"{modality}: {counted} cannot be used and count as missing, such as {first}")
    return dataclasses.replace(
        corpus,
        features={**corpus.features, modality: np.where(here[:, None], rows, 0).astype(np.float32)},
        present={**corpus.present, modality: here},
        recipes={**corpus.recipes, modality: recipe},
        notes=notes,
    )


@contextlib.contextmanager
def _cache() -> Iterator[Cache]:
    """Yield the cache in the user's folder; one in memory where there is none, or it cannot be used."""
    folder = cache_folder()
    memory = Path(":memory:")
    try:
        cache = Cache(folder / STORE if folder else memory)
    except UserError as error:
        print(f"note: {first_line(error)} Features are not kept.", file=sys.stderr)
        cache = Cache(memory)
    with cache:
        yield cache

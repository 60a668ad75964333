"""The modality WORDS: vectors of a text encoder that stays as it is, or tokens for one that is trained along."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ariigcn_jax.data import packing
from ariigcn_jax.data import tokens as tokenizing
from ariigcn_jax.data.normalisation import moments_of
from ariigcn_jax.features.cache import Cache
from ariigcn_jax.files import cache_folder
from ariigcn_jax.nn import pretrained
from ariigcn_jax.nn.layers import unit
from ariigcn_jax.nn.pretrained import Pretrained
from ariigcn_jax.nn.text_encoder import IDS, NAME, POOLINGS, STATISTICS, TABLE, TextEncoder, joined, numbers
from ariigcn_jax.types import PADDING, WORDS, Array, Corpus, Tokens, UserError, Words, first_line

FROZEN, FULL, LAST = "frozen", "full", "last_"
ROWS = 32  # rows of tokens that are encoded at once
MULTIPLE = 16  # of which rows have so many tokens
SAMPLE = 1_000  # train utterances, at most, whose vectors are taken for the statistics of a trained encoder
SHOWN = 2_000  # utterances from which on progress is shown
FORMAT = 1  # of kept vectors; raise it when they change for the same tokens
KEPT = 200  # utterances from which on vectors are kept on disk
STORE, MOST = "words.sqlite", 2 * 2**30  # the file in the folder of caches, and the bytes of its vectors
PATIENCE = 5.0  # seconds to wait for another process that writes


@dataclasses.dataclass(frozen=True)
class WordEncoder:
    """A text encoder with the options `model.text`."""

    pretrained: Pretrained
    options: Mapping[str, Any]

    @classmethod
    def of(cls, options: Mapping[str, Any], folder: str | Path | None = None) -> WordEncoder:
        """Read the encoder that the options name, or the one in a run's folder.

        Raises:
          UserError: there is none, or an option does not fit it.
        """
        made = cls(pretrained.read(folder or pretrained.find(options["encoder"])), options)
        depth, longest = made.pretrained.architecture.depth, made.pretrained.architecture.longest
        if not options["layers"]:
            raise UserError("model.text.layers names no layer. The last one is (-1,).")
        if wrong := [k for k in options["layers"] if not -depth - 1 <= k <= depth]:
            legal = f"Layers count from 0 (the embeddings) to {depth}, or back from -1"
            raise UserError(f"{options['encoder']}: there is no layer {wrong[0]}. {legal}.")
        if not 3 <= options["max_tokens"] <= longest:
            problem = f"max_tokens={options['max_tokens']} is not possible"
            raise UserError(f"{options['encoder']}: {problem}. Choose a number from 3 to {longest}.")
        if made.pretrained.other and options["pooling"] == "auto":
            raise UserError(
                f"{options['encoder']}: {made.pretrained.other}, which is not supported. "
                f"Choose one of pooling={', '.join(POOLINGS)}; the vectors are then not those of sentence-transformers."
            )
        last_layers(options["train"], depth)
        if not made.frozen and min(made.layers) < max(made.given, 0):
            problem = f"model.text.layers={tuple(options['layers'])} names layers below those that are trained"
            raise UserError(f"{problem} (model.text.train={options['train']}). Train more layers, or leave them out.")
        return made

    @property
    def pooling(self) -> str:
        """Return how tokens are pooled, one of `nn.text_encoder.POOLINGS`."""
        return self.pretrained.pooling if self.options["pooling"] == "auto" else self.options["pooling"]

    @property
    def frozen(self) -> bool:
        return self.options["train"] == FROZEN

    @property
    def width(self) -> int:
        """Return the width of the vectors."""
        return self.pretrained.architecture.width * len(self.options["layers"])

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the numbers of the hidden states that make the vectors, from 0."""
        return numbers(self.options["layers"], self.pretrained.architecture.depth)

    @property
    def given(self) -> int:
        """Return what the trained part is given: IDS, the word table's rows, or the number of a hidden state."""
        if self.options["train"] == FULL:
            return IDS if self.options["train_table"] else TABLE
        return self.pretrained.architecture.depth - last_layers(
            self.options["train"], self.pretrained.architecture.depth
        )

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """Return all parameters, as the pretrained encoder has them."""
        return self.pretrained.params()

    @functools.cached_property
    def tokenizer(self) -> Any:
        return tokenizing.tokenizer(self.pretrained.folder / pretrained.TOKENIZER)

    def trained(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of the part that is trained, of those of the whole encoder."""
        given = self.given
        below = {"words"} if given == TABLE else set()
        if given >= 0:
            below = {"words", "positions", "types", "norm", *(f"layer_{k}" for k in range(given))}
        return {name: x for name, x in params.items() if name not in below}

    def tokens(self, corpus: Corpus, later: bool) -> tuple[Words, list[str]]:
        """Return the tokens of a corpus's transcripts, and notes; `later` is whether turns to come may be in a text."""
        texts = [""] * len(corpus) if corpus.transcript is None else [str(text) for text in corpus.transcript]
        known = corpus.speaker_names
        speakers = [""] * len(corpus) if known is None else [str(who) for who in known]
        words, cut = self.of_texts(texts, speakers, corpus.dialogue, later)
        notes = (
            [
                f"{np.count_nonzero(cut)} transcripts are longer than "
                f"model.text.max_tokens={self.options['max_tokens']}: {cut.sum():,} tokens at their ends are cut off"
            ]
            if cut.any()
            else []
        )
        return words, notes

    def turns(self, later: bool) -> tuple[int, int]:
        """Return how many turns before and after an utterance may be in its text."""
        return int(self.options["turns"]), int(self.options["turns"]) if later else 0

    def of_texts(
        self, texts: Sequence[str], speakers: Sequence[str], dialogue: np.ndarray, later: bool
    ) -> tuple[Words, np.ndarray]:
        """Return the tokens of U texts, and how many tokens of each were cut, as `data.tokens.tokens`."""
        turns = self.turns(later)
        words, cut = tokenizing.tokens(
            self.tokenizer,
            texts,
            limit=int(self.options["max_tokens"]),
            pooling=self.pooling,
            first_position=self.pretrained.architecture.first_position,
            speakers=speakers if any(turns) else (),
            dialogue=dialogue,
            turns=turns,
        )
        size = self.pretrained.architecture.vocabulary
        if (largest := int(words.ids.max(initial=0))) >= size:
            raise UserError(
                f"{self.pretrained.folder}: its {pretrained.TOKENIZER} gives the token {largest:,}, and its word table "
                f"has {size:,} rows. One of the files is of another network; copy the folder again."
            )
        return dataclasses.replace(words, width=self.width), cut

    def vectors(self, params: Any, tokens: Tokens, length: int) -> Array:
        """Return the vectors [R, length, width] of the utterances in each row's slots, as training computes them.

        Args:
          params: of the whole encoder.
          tokens: ids of R rows.
          length: slots of a row.
        """
        architecture, rows = self.pretrained.architecture, jnp.arange(tokens.slot.shape[0])
        states: Any = []
        exact = architecture.depth if self.frozen else self.given  # layers below those that are trained, in float32
        if exact >= 0:
            states = TextEncoder(architecture, last=exact).apply({"params": params}, tokens, rows, False)
        if not self.frozen:
            known = tokens.replace(states=states.pop()) if states else tokens
            above = TextEncoder(architecture, exact if exact >= 0 else IDS, precision=self.options["precision"])
            states += above.apply({"params": params}, known, rows, False)
        made = joined(dict(enumerate(states)), tokens, length, self.layers, self.pooling)
        whole = self.frozen and self.pretrained.normalize and self.options["pooling"] == "auto"
        return unit(made) if whole else made

    @functools.cached_property
    def _vectors(self) -> Any:
        """Return (parameters, tokens) -> vectors [R, S, width] of the R rows' utterances, compiled for each shape."""
        return jax.jit(lambda params, tokens: self.vectors(params, tokens, tokens.slot.shape[-1]))

    def encode(self, words: Words, params: Any = None, progress: str = "") -> np.ndarray:
        """Return the vectors [U, width] float32 of tokens; zeros where an utterance has none.

        Args:
          words: of `tokens`.
          params: of the whole encoder; None for the pretrained ones.
          progress: what is shown while many are encoded.
        """
        made = np.zeros((len(words.lengths), self.width), np.float32)
        kept = self.frozen and params is None and len(made) >= KEPT
        with _Store(cache_folder() if kept else None) as store:
            for chunk in _chunks(words, progress):
                members = np.concatenate(chunk.members)
                compute = functools.partial(self._encode, chunk, params)
                made[members] = store.get(self._key(chunk), (len(members), self.width), compute)
        return made

    def _encode(self, chunk: _Chunk, params: Any) -> np.ndarray:
        """Return the vectors of the utterances of a chunk, row by row, [n, width]."""
        found = np.asarray(self._vectors(self.params if params is None else params, chunk.tokens))
        return np.concatenate([found[row, : len(members)] for row, members in enumerate(chunk.members)])

    def _key(self, chunk: _Chunk) -> str:
        """Return a checksum of all that `_encode` depends on."""
        identity = [FORMAT, self.pretrained.digest, self.layers, self.pooling, self.options["pooling"] == "auto"]
        total = hashlib.sha256(repr([*identity, chunk.tokens.slot.shape]).encode())
        for x in jax.tree.leaves(chunk.tokens):
            total.update(np.ascontiguousarray(x).tobytes())
        return total.hexdigest()

    def states(self, words: Words, progress: str = "") -> np.ndarray | None:
        """Return what the trained part is given for each token, [N, d] float32; None where it is given the ids."""
        if self.given == IDS:
            return None
        if self.given == TABLE:
            return self.params["words"]["embedding"][words.ids]
        network = TextEncoder(self.pretrained.architecture, last=self.given)
        trained = self.trained(self.params)
        params = {name: x for name, x in self.params.items() if name not in trained}

        @jax.jit
        def compute(params: Any, tokens: Tokens) -> Array:
            states: Any = network.apply({"params": params}, tokens, jnp.arange(tokens.slot.shape[0]), False)
            return states[-1]

        made = np.zeros((len(words.ids), self.pretrained.architecture.width), np.float32)
        for chunk in _chunks(words, progress):
            real = chunk.token != PADDING
            made[chunk.token[real]] = np.asarray(compute(params, chunk.tokens))[real]
        return made


class _Chunk(NamedTuple):
    """Rows of tokens that are encoded at once."""

    tokens: Tokens  # [R, 1, S]
    token: np.ndarray  # [R, 1, S] int, which token of the words each is; PADDING at padding
    members: list[list[int]]  # of each row, the utterances in its slots


def _chunks(words: Words, progress: str) -> Iterator[_Chunk]:
    """Lay all utterances that have tokens into rows, ROWS at a time; few shapes compile."""
    lengths = words.lengths
    here = np.flatnonzero(lengths)
    length = -(-max(int(lengths.max(initial=0)), 1) // MULTIPLE) * MULTIPLE
    filled = [[int(here[n]) for n in row] for row in packing.fill_rows(lengths[here].tolist(), length)]
    shown = bool(progress) and len(here) >= SHOWN
    often = 0.1 if sys.stderr.isatty() else 10
    with tqdm(total=len(here), desc=progress, unit="utterance", disable=not shown, mininterval=often) as bar:
        for first in range(0, len(filled), ROWS):
            members = filled[first : first + ROWS]
            padding: list[list[int]] = [[]] * (min(ROWS, 1 << (len(members) - 1).bit_length()) - len(members))
            token, slot = packing.token_rows(words, [list(enumerate(row)) for row in members + padding], length)
            yield _Chunk(packing.tokens(dataclasses.replace(words, states=None), token, slot), token, members)
            bar.update(sum(map(len, members)))


class _Store:
    """Keep the vectors of whole chunks on disk, so that they come back to the last bit.

    Where `folder` is None nothing is kept. A file that fails is named once, and the vectors are computed.
    """

    def __init__(self, folder: Path | None):
        self.path = folder and folder / STORE
        self.cache: Cache | None = None
        self.added = False
        try:
            self.cache = Cache(self.path, PATIENCE, every=0) if self.path else None
        except UserError as error:
            self._give_up(first_line(error).rstrip("."))

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_: object) -> None:
        if self.added:
            self._attempt(lambda cache: cache.shrink(MOST))
        self._attempt(lambda cache: cache.__exit__())

    def get(self, key: str, shape: tuple[int, int], compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what is kept under a key, or compute and keep it."""
        found = self._attempt(lambda cache: cache.get([key]).get(key))
        if found is None or found.size != np.prod(shape):
            found = compute()
            self._attempt(lambda cache: cache.put(key, found))
            self.added = True
        return found.reshape(shape)

    def _attempt(self, use: Callable[[Cache], Any]) -> Any:
        """Return what an access to the file gives; None where there is no file, or where it fails."""
        try:
            return use(self.cache) if self.cache else None
        except (sqlite3.Error, ValueError) as error:
            self._give_up(f"{self.path}: cannot be used as the cache ({first_line(error)})")

    def _give_up(self, reason: str) -> None:
        if self.cache:
            with contextlib.suppress(sqlite3.Error):
                self.cache.database.close()
        self.cache = None
        print(f"note: {reason}. Words are encoded without it.", file=sys.stderr)


def looks_ahead(model: Any) -> bool:
    """Return whether turns to come may be in a text, by the options `config.model`: where the graph looks ahead."""
    return model.graph.layers > 0 and model.graph.future != 0


def last_layers(train: str, depth: int) -> int:
    """Return how many layers `model.text.train` trains, of `depth`; raise UserError where it is none of its values."""
    if train == FROZEN:
        return 0
    if train == FULL:
        return depth
    number = train.removeprefix(LAST)
    if not train.startswith(LAST) or not number.isdecimal() or not 1 <= int(number) <= depth:
        raise UserError(f"model.text.train={train}: it is frozen, full, or last_1 to last_{depth} for this encoder.")
    return int(number)


def attach(corpus: Corpus, options: Mapping[str, Any], later: bool, folder: Path | None = None) -> Corpus:
    """Give a corpus whose modality WORDS is empty its vectors, or its tokens where the encoder is trained.

    Args:
      corpus: with transcripts.
      options: `model.text` of a config.
      later: whether turns to come may be in a text.
      folder: of the encoder; None for the one that the options name.

    Raises:
      UserError: there is no such encoder, or an option does not fit it.
    """
    encoder = WordEncoder.of(options, folder)
    words, notes = encoder.tokens(corpus, later)
    source = (encoder.pretrained.folder, encoder.pretrained.digest)
    present = {**corpus.present, WORDS: corpus.present[WORDS] & (words.lengths > 0)}
    corpus = dataclasses.replace(corpus, present=present, notes=(*corpus.notes, *notes), encoder=source)
    if encoder.frozen:
        made = encoder.encode(words, progress=f"{corpus.name}: words")
        return dataclasses.replace(corpus, features={**corpus.features, WORDS: made})
    train = np.flatnonzero((corpus.split == "train") & (words.lengths > 0))
    few = words.take(train[:: -(-len(train) // SAMPLE) or 1])
    moments = moments_of(encoder.encode(few), np.arange(len(few.lengths)))
    words = dataclasses.replace(
        words,
        encoder=(encoder.pretrained.architecture, encoder.given, encoder.pooling),
        states=encoder.states(words, progress=f"{corpus.name}: words"),
        initial={NAME: encoder.trained(encoder.params), STATISTICS: dict(zip(("mean", "scale"), moments, strict=True))},
        moments=moments,
    )
    return dataclasses.replace(corpus, words=words)

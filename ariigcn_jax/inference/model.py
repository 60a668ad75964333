"""Load the trained model of a run, finished or not, and apply it to conversations."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict
from tqdm import tqdm

from ariigcn_jax.data import Normalisation, find, normalisation, packing, prepare
from ariigcn_jax.features import recordings
from ariigcn_jax.files import local
from ariigcn_jax.inference import reading, streaming
from ariigcn_jax.inference import words as spoken
from ariigcn_jax.inference.prediction import Prediction, contributions, explain, forward
from ariigcn_jax.inference.streaming import Stream
from ariigcn_jax.inference.words import Transcripts
from ariigcn_jax.nn import graph, text_encoder
from ariigcn_jax.nn.model import Model
from ariigcn_jax.objective import tasks
from ariigcn_jax.runs import checkpoint, runner, version
from ariigcn_jax.runs.workdir import CONFIG, read_json
from ariigcn_jax.training import build
from ariigcn_jax.types import WORDS, Array, Batch, Corpus, Description, Modality, Outputs, UserError, first_line

BATCH_EDGES = 2**19  # edge slots of a batch, at most (unless one row has more): bounds the memory of attention weights


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Hold the model of a run's chosen seed and epoch; made by `load`.

    Attributes:
      path: the run's work directory.
      config: every option of the run, as `options.base.get_config`.
      model: the network, with the generators and contrast heads that the run trained.
      params: of the network; with several members, with a leading axis of them. Those of a text encoder are in `words`.
      normalisation: statistics that standardise features.
      widths: modality -> number of features that a batch has, in the network's order, `copies` included. It is d_m, but
        K d_m for words where each of K members has trained a text encoder.
      label_names: C names.
      temperature: divides logits before the softmax; 1 if the run was not calibrated.
      finished: whether the run has its results; else the epoch is the best one so far.
      target_names: O names; () for classes.
      members: networks whose answers are averaged.
      words: what makes vectors of transcripts; None for a model that has no text encoder.
      recipes: modality -> how its features were made, where that is known (`features.recordings`).
    """

    path: Path
    config: FrozenConfigDict
    model: Model
    params: Any
    normalisation: Normalisation
    widths: dict[Modality, int]
    label_names: tuple[str, ...]
    temperature: float
    seed: int
    epoch: int
    finished: bool
    task: str = "classification"
    target_names: tuple[str, ...] = ()
    members: int = 1
    words: Transcripts | None = None
    recipes: Mapping[Modality, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def recorded(self) -> tuple[Modality, ...]:
        """Return the modalities whose features this package makes of recordings."""
        return tuple(recordings.of_recipes(self.recipes))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return O names: of the classes, of the score, or of the labels."""
        return self.target_names or self.label_names

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.widths)

    @property
    def copies(self) -> dict[Modality, tuple[str, ...]]:
        """Return modality -> groups within which copies of its features are standardised."""
        return {m: normalisation.copies(m, self.config.data) for m in self.modalities}

    @property
    def raw_widths(self) -> dict[Modality, int]:
        """Return modality -> number of features as extracted, without copies."""
        return normalisation.raw_widths(self.widths, self.config.data)

    @functools.cached_property
    def outputs(self) -> Callable[[Batch], Outputs]:
        """Return the forward pass on a batch, compiled once for each shape; `logits` exclude the temperature."""
        return functools.partial(jax.jit(forward(self.model, self.task, self.members)), self.params)

    def __call__(self, conversation: Any) -> Prediction:
        """Predict the emotion of every utterance, with contributions of the modalities and attention.

        Args:
          conversation: utterances in time order, as in `data.readers.conversations`; or a corpus, as read. Where the
            model has a text encoder, an utterance's `text` is enough, and a conversation may be a chat in a text, a
            list of its lines or of pairs (speaker, words), or a pandas DataFrame. A `Path` is read as training reads.

        Example:
          >>> model = load("runs/calls")
          >>> prediction = model(["Ann: I can't believe it.", "Bob: Sorry!"])
          >>> [(utterance.speaker, utterance.emotion in model.label_names) for utterance in prediction]
          [('Ann', True), ('Bob', True)]
          >>> with_sound = {"speaker": "Ann", "text": "Oh no!", "features": {"audio": [2.9, 3.1]}}
          >>> model([with_sound])[0].missing
          ()

        Raises:
          UserError: an utterance is malformed, or none has a modality that the model takes.
        """
        if not isinstance(conversation, Corpus):
            known = (self.modalities, self.words is not None, self.recorded)
            conversation = reading.corpus(conversation, self.config.data, *known)
        corpus = self.prepare(conversation)
        window = self.model.options.graph
        attending = self.modalities if window.layers else ()
        count, past = len(self.modalities), 0
        kept: list[list[np.ndarray]] = []
        for batch in tqdm(self.batches(corpus), "predicting", unit="batch", leave=False, delay=2):
            past = graph.window(window.past, window.future, batch.dialogue.shape[1]).past
            real = np.asarray(batch.utterance) >= 0
            probabilities, attention = jax.tree.map(np.asarray, self.explained(batch, True))
            arrays = [probabilities[0], *contributions(probabilities), *(attention[m] for m in attending)]
            kept.append([np.asarray(batch.utterance)[real], *(x[real] for x in arrays)])
        utterance, *columns = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        columns = [column[np.argsort(utterance)] for column in columns]
        return Prediction(
            corpus=corpus,
            probabilities=columns[0],
            contribution=dict(zip(self.modalities, columns[1 : 1 + count], strict=True)),
            attention=dict(zip(attending, columns[1 + count :], strict=True)),
            past=past,
        )

    def stream(self, *, explain: bool = False) -> Stream:
        """Return a stream that predicts conversations while they go on.

        Args:
          explain: whether to give contributions and attended utterances too (a forward pass more for each modality).

        Raises:
          UserError: results of the model depend on the whole dialogue.
        """
        options = self.model.options
        reach, past = streaming.check(self.path, options, self.copies), options.graph.past
        names = self.output_names
        known = (self.widths, self.normalisation, self.words)
        return Stream(self.explained, reach, past, *known, self.task, names, explain, self.recipes)

    @functools.cached_property
    def explained(self) -> Callable[[Batch, bool], tuple[Array, dict[Modality, Array]]]:
        """Return `prediction.explain` of a batch, with or without removal, compiled once for each shape."""
        lean = self.model.clone(further=frozenset())
        network, read = forward(lean, self.task, self.members), tasks.get(self.task).decode
        compiled = jax.jit(functools.partial(explain, network, self.modalities, read), static_argnums=3)
        return functools.partial(compiled, self.params, self.temperature)

    def prepare(self, corpus: Corpus) -> Corpus:
        """Bring a corpus, as read, into the model's form with `data.prepare.match`.

        Transcripts become vectors, and recordings become features by the recipes of training.

        Raises:
          UserError: features are of another recipe, or the corpus does not fit the model.
        """
        corpus = recordings.adopt(corpus, self.recipes)
        return prepare.match(
            self.words.attach(corpus) if self.words else corpus,
            self.config.data,
            self.normalisation,
            widths=self.widths,
            task=self.task,
            label_names=self.label_names,
            target_names=self.target_names,
        )

    def batches(self, corpus: Corpus) -> Iterator[Batch]:
        """Pack a corpus of `prepare` into batches, all splits together; shapes are rounded up, so that few compile."""

        def most_rows(length: int) -> int:
            window = self.model.options.graph
            return BATCH_EDGES // (length * graph.window(window.past, window.future, length).slots)

        return packing.batches(corpus, most_rows)


def load(run: str | Path, *, seed: int | None = None) -> TrainedModel:
    """Load the model of a run, finished or not, at the epoch that was chosen on validation.

    Args:
      run: the run's work directory; it is not changed.
      seed: one of the run's seeds; None for the one with the best validation score.

    Example:
      >>> model = load("runs/calls")
      >>> model.label_names, model.modalities
      (('calm', 'happy', 'sad'), ('words', 'audio'))

    Raises:
      UserError: the folder is no run of this version, it has no checkpoint yet, or it has no such seed.
    """
    path = local(run)
    if not (path / CONFIG).is_file():
        what = "is not the folder of a run" if path.is_dir() else "there is no such folder"
        raise UserError(f"{path}: {what}. Give the work directory of a run: what --workdir named, or one under runs/.")
    version.check(path)
    best, data = checkpoint.read_best(path)
    if not (path / runner.CORPUS).exists():
        raise version.refusal(path, None)
    described, config = read_json(path / runner.CORPUS), FrozenConfigDict(read_json(path / CONFIG))
    widths = {m["name"]: int(m["width"]) for m in described["modalities"]}
    model = _rebuild(path, config, widths, described)
    seeds = list(range(config.seed, config.seed + len(best["score"])))
    if seed is None:
        seed = seeds[int(np.argmax(best["score"]))]
    if seed not in seeds:
        raise UserError(f"{path}: this run has the seeds {', '.join(map(str, seeds))}, not {seed}.")
    index, members = seeds.index(seed), config.members
    mine = index if members == 1 else slice(index * members, (index + 1) * members)
    params, trained = spoken.separate(jax.tree.map(lambda x: jnp.asarray(x[mine]), best["params"]), members)
    normalisation, words = Normalisation.from_arrays(data), None
    if config.model.text.encoder and WORDS in widths:
        words = spoken.read(path, config, described["digest"].get(find.TEXT_ENCODER, ""), trained)
        normalisation = spoken.side_by_side(normalisation, len(trained))
        widths[WORDS] *= len(trained)
    _check_params(path, model, members, params, words)
    results = read_json(path / runner.RESULTS) if (path / runner.RESULTS).exists() else None
    temperature = (results or {}).get("temperature", 1.0)  # a number, or one for each seed
    return TrainedModel(
        path=path,
        config=config,
        model=model,
        params=params,
        normalisation=normalisation,
        widths=widths,
        label_names=tuple(described["label_names"]),
        temperature=float(temperature[index] if np.ndim(temperature) else temperature),
        seed=seed,
        epoch=int(best["epoch"][index]),
        finished=results is not None,
        task=described["task"],
        target_names=tuple(described["target_names"]),
        members=members,
        words=words,
        recipes=described.get("recipes", {}),
    )


def _rebuild(path: Path, config: FrozenConfigDict, widths: dict[Modality, int], described: Mapping[str, Any]) -> Model:
    """Build the network that corpus.json and the config describe."""
    classes, outputs = len(described["label_names"]), len(described["target_names"] or described["label_names"])
    description = Description(tuple(widths.items()), outputs, classes, int(described["ratings"]))
    try:
        return build.make_model(ConfigDict(config), description)
    except (AttributeError, KeyError, TypeError) as error:
        problem = first_line(error).strip("\"'")
        raise UserError(
            f"{path}: the options in its {CONFIG} do not fit this version ({problem}). Copy the run's folder again."
        ) from error


def _check_params(path: Path, model: Model, members: int, params: Any, words: Transcripts | None) -> None:
    """Check parameters against what the network and its text encoders need, by name and shape."""
    if problem := differing(model, members, params, words):
        raise UserError(
            f"{path}: its parameters differ from those that its {CONFIG} describes: {problem}. One of the two is of "
            "another run; copy the run's folder again."
        )


def differing(network: Model, members: int, params: Any, words: Transcripts | None = None) -> str:
    """Say which parameter of a tree is not as the network needs it, by name and shape; "" where all are.

    With `words` those of a trained text encoder are looked at, too.
    """
    sample = packing.empty(dict(network.description.widths))
    wanted = jax.eval_shape(lambda batch: network.init(jax.random.key(0), batch, False), sample)["params"]
    if members > 1:
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), wanted)
    if words and not words.encoder.frozen:
        wanted = {**wanted, text_encoder.NAME: words.encoder.trained(words.encoder.params)}
        params = {**params, text_encoder.NAME: words.trained[0]}
    stored, expected = (
        {jax.tree_util.keystr(key, simple=True, separator="/"): x.shape for key, x in jax.tree.leaves_with_path(tree)}
        for tree in (params, wanted)
    )
    different = sorted(k for k in stored.keys() | expected.keys() if stored.get(k) != expected.get(k))
    has, takes = (shapes.get(next(iter(different), ""), "not there") for shapes in (stored, expected))
    return f"{different[0]} for one is {has}, and the network takes {takes}" if different else ""

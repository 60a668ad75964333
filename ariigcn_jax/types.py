"""The data that passes between modules, and the glossary of dimensions.

Dimension letters, used in every docstring of the package:

    U    utterances of a corpus             R    rows of a batch
    T    utterances of a dialogue           L    slots of a row (utterances that fit in it)
    M    modalities                         N    nodes of a batch's graph, N = R * L
    d_m  width of modality m's features     G    graphs of a batch (dialogues and padding)
    D    width of the hidden space          E    edges of a batch's graph
    C    classes (emotions)                 H    attention heads
    Z    width of the contrast space        P    ordered pairs of different modalities
    K    relations of an edge               W    slots of a node's window, past + 1 + future
    O    outputs of a task: C classes, one score, or one for each of several labels
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import numpy as np

Array = jax.Array
Modality = str
SPLITS = ("train", "valid", "test")
UNLABELED = -1
PADDING = -1


class UserError(Exception):
    """Something a user can mend: bad input, a bad option, a missing file.

    The message names what is wrong and what to do. Command-line tools print it alone, without a traceback, and
    exit with a non-zero status.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters; its type if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a network is built for: all that it has to know of a corpus.

    Attributes:
      widths: modality and d_m, for each modality.
      outputs: O.
      classes: C.
      ratings: K, further ratings by annotators; 0 for none.
    """

    widths: tuple[tuple[Modality, int], ...]
    outputs: int
    classes: int
    ratings: int = 0

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(m for m, _ in self.widths)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Conversations in memory (numpy, on the host), one row per utterance, dialogue by dialogue in time order.

    Attributes:
      name: what the corpus is called in logs and tables.
      features: modality -> [U, d_m] float32, finite; rows of missing modalities are zero.
      present: modality -> [U] bool, whether the utterance has this modality.
      dialogue: [U] int32, index into `dialogue_ids`; every dialogue's rows are contiguous and in time order.
      speaker: [U] int32, who speaks, numbered inside each dialogue by first appearance (0 where not known).
      label: [U] int32 in [0, C), or UNLABELED: such an utterance is context, in the graph but in no loss or metric.
      split: [U] array of str, "train", "valid" or "test", the same for a whole dialogue.
      label_names: C names.
      dialogue_ids: names of the dialogues.
      utterance_ids: U names of the utterances.
      speaker_names: [U] array of str, or None.
      transcript: [U] array of str, or None.
      notes: what reading found and a user should be told (NaN rows that became missing, a carved validation split, …).
      task: what is to be predicted, a key of `tasks.TASKS` and of `targets.TARGETS`.
      target: [U, O] float32, the truth of a task that does not classify: a score, or 1 for each label that applies;
        zeros where `label` is UNLABELED. `label` is then the class that contrast and pictures go by. None for classes.
      target_names: O names; () for classes.
      ratings: [U, K] float32, further ratings by annotators (valence, arousal, …) that training may predict beside the
        label, with mean 0 and deviation 1 over the train split; a row of NaN where there are none. None without.
      fold: [U] int32, under cross-validation: number of the model that leaves the utterance out of training and is
        validated on it; -1 in the test split. None without cross-validation.
      ranked: modality -> n, how many of its first features are to become ranks where they are standardised.
    """

    name: str
    features: Mapping[Modality, np.ndarray]
    present: Mapping[Modality, np.ndarray]
    dialogue: np.ndarray
    speaker: np.ndarray
    label: np.ndarray
    split: np.ndarray
    label_names: tuple[str, ...]
    dialogue_ids: tuple[str, ...]
    utterance_ids: tuple[str, ...]
    speaker_names: np.ndarray | None = None
    transcript: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    task: str = "classification"
    target: np.ndarray | None = None
    target_names: tuple[str, ...] = ()
    ratings: np.ndarray | None = None
    fold: np.ndarray | None = None
    ranked: Mapping[Modality, int] = dataclasses.field(default_factory=dict)

    @property
    def training(self) -> np.ndarray:
        """[U] bool: utterances that are trained on; with folds, by all models but one."""
        return self.split == "train" if self.fold is None else self.fold >= 0

    @property
    def answered_as(self) -> np.ndarray:
        """[U] str: the split that an answer is scored in; with folds, "valid" for all that is trained on."""
        return self.split if self.fold is None else np.where(self.fold >= 0, "valid", self.split)

    def used(self, split: str) -> np.ndarray:
        """[U] bool: utterances that are trained on, validated or tested; with folds, the first two are the same."""
        return self.training if split == "train" else self.answered_as == split

    def labelled(self, split: str) -> np.ndarray:
        """[U] bool: utterances of `used` that have a label."""
        return self.used(split) & (self.label >= 0)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.features)

    @property
    def widths(self) -> dict[Modality, int]:
        """modality -> d_m."""
        return {m: x.shape[1] for m, x in self.features.items()}

    @property
    def num_classes(self) -> int:
        return len(self.label_names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """O names: of the classes, of the score, or of the labels."""
        return self.target_names or self.label_names

    @property
    def description(self) -> Description:
        """Return what a network for this corpus is built for."""
        ratings = 0 if self.ratings is None else self.ratings.shape[1]
        return Description(tuple(self.widths.items()), len(self.output_names), self.num_classes, ratings)

    def __len__(self) -> int:
        return len(self.dialogue)


class Batch(flax.struct.PyTreeNode):
    """Dialogues packed into R rows of L slots; slot j of row i is node i * L + j of every modality's graph.

    A dialogue, or a piece of a long one, lies in one row, in time order, without a gap; a row holds several of them and
    then padding. The utterances around a piece that its own can hear lie with it as context.

    Attributes:
      features: modality -> [R, L, d_m]; zero where the modality is missing and at padding.
      present: modality -> [R, L] bool; False where the modality is missing and at padding.
      dialogue: [R, L] int32, number of the dialogue inside its row; PADDING at padding.
      speaker: [R, L] int32, number of the speaker inside the dialogue.
      label: [R, L] int32; UNLABELED at utterances without a label, at context and at padding.
      n_node: [R, S] int32, sizes of the row's graphs: its dialogues, zeros, and its padding last. Sums to L in each
        row.
      row: [R] int32, number of the row in its split; what is random about a row depends on it, not on its place.
      utterance: [R, L] int32, index of the utterance in the corpus; PADDING at context and at padding.
      target: [R, L, O] float32, as in the corpus; None for classes.
      ratings: [R, L, K] float32, as in the corpus, and zeros where there are none; None without.
      rated: [R, L] bool, utterances scored here that have ratings; None without.
      fold: [R, L] int32, as in the corpus; None without.
      classes: C, where the outputs are not the classes; else 0. Not an array, because it is a width.
    """

    features: dict[Modality, Array]
    present: dict[Modality, Array]
    dialogue: Array
    speaker: Array
    label: Array
    n_node: Array
    row: Array
    utterance: Array
    target: Array | None = None
    ratings: Array | None = None
    rated: Array | None = None
    fold: Array | None = None
    classes: int = flax.struct.field(pytree_node=False, default=0)

    @property
    def real(self) -> Array:
        """[R, L] bool: a real utterance is here, not padding."""
        return self.dialogue != PADDING

    @property
    def counted(self) -> Array:
        """[R, L] bool: an utterance is scored here: neither padding nor the context of a piece."""
        return self.utterance != PADDING


class ContrastSet(flax.struct.PyTreeNode):
    """What contrast anchors are compared with: the nodes of the global batch.

    Attributes:
      vectors: modality -> [Q, Z] unit vectors.
      classes: modality -> [Q, C] one-hot, or zeros where the node has no label or lacks the modality.
      own: [A] int32, where the anchors of this device are among the Q, or -1.
    """

    vectors: dict[Modality, Array]
    classes: dict[Modality, Array]
    own: Array


class Outputs(flax.struct.PyTreeNode):
    """What the forward pass gives to the loss terms. What no active term or diagnostic needs is an empty dict.

    Attributes:
      logits: [R, L, O].
      codes: modality -> [R, L, D], the encoders' ξ, before context; what the generators translate.
      hidden: modality -> [R, L, D], the graph's output.
      contrast: modality -> [R, L, Z], unit vectors.
      generated: (source, target) -> the generator of `target` applied to the code of `source`;
        [R, L, d_target] with feature wiring, [R, L, D] with latent wiring.
      unimodal: modality -> [R, L, O], logits from that modality's nodes alone.
      ratings: [R, L, K], what annotators are thought to have rated; None without.
      extra: name -> what another head of the model gives (`nn.model.HEADS`).
      candidates: what `contrast` is compared with; set by the train step, which knows the other devices.
      fake_logits: (source, target) -> [R, L], what D_target says of `generated`.
      attention: modality -> attention weights [layers, N, W, H] over the window's slots.
      attention_entropy: modality -> [layers, R, L], entropy of α averaged over heads, over that of uniform weights.
    """

    logits: Array
    codes: dict[Modality, Array]
    hidden: dict[Modality, Array]
    contrast: dict[Modality, Array] = flax.struct.field(default_factory=dict)
    generated: dict[tuple[Modality, Modality], Array] = flax.struct.field(default_factory=dict)
    unimodal: dict[Modality, Array] = flax.struct.field(default_factory=dict)
    ratings: Array | None = None
    extra: dict[str, Any] = flax.struct.field(default_factory=dict)
    candidates: ContrastSet | None = None
    fake_logits: dict[tuple[Modality, Modality], Array] = flax.struct.field(default_factory=dict)
    attention: dict[Modality, Array] = flax.struct.field(default_factory=dict)
    attention_entropy: dict[Modality, Array] = flax.struct.field(default_factory=dict)


class TrainState(flax.struct.PyTreeNode):
    """Everything that training changes, arrays only, plus the key that it never changes.

    Attributes:
      step: [] int32, updates made.
      key: PRNG key of the run; step t draws from fold_in(key, t), so resuming is exact.
      params: parameters of encoders, generators, graphs, contrast heads and classifier.
      average: exponential moving average of `params`, or {} where none is kept.
      discriminators: parameters of the discriminators.
      optimizer: optax state of `params`.
      discriminator_optimizer: optax state of `discriminators`.
      fold: [] int32, the fold that this model leaves out of training, or {} where there are no folds.
    """

    step: Array
    key: Array
    params: Any
    average: Any
    discriminators: Any
    optimizer: Any
    discriminator_optimizer: Any
    fold: Any = flax.struct.field(default_factory=dict)

    @property
    def weights(self) -> Any:
        """The parameters to evaluate and to keep: the average where there is one."""
        return self.average or self.params

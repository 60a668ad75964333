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
    Q    rows of tokens of a row of a batch   S    tokens of such a row
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.struct import PyTreeNode, field

Array = jax.Array
Modality = str
SPLITS = ("train", "valid", "test")
UNLABELED = -1
PADDING = -1
WORDS: Modality = "words"  # the modality whose features a text encoder computes from transcripts


class UserError(Exception):
    """Something a user can mend: bad input, a bad option, a missing file.

    The message names what is wrong and what to do. Commands print it without a traceback and fail.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters; its type if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@dataclasses.dataclass(frozen=True)
class Description:
    """The facts of a corpus that a network depends on."""

    widths: tuple[tuple[Modality, int], ...]  # modality and d_m, for each modality
    outputs: int  # O
    classes: int  # C
    ratings: int = 0  # K, further ratings by annotators; 0 for none
    # of the text encoder that is trained along: its `nn.text_encoder.Architecture`, what it is given, and the pooling
    encoder: tuple[Any, int, str] | None = None

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(m for m, _ in self.widths)


@dataclasses.dataclass(frozen=True)
class Words:
    """The tokens of a corpus's transcripts (numpy, on the host), and the text encoder that is trained on them."""

    ids: np.ndarray  # [N] int32, the tokens of all utterances, one utterance after another
    start: np.ndarray  # [U + 1] int64, the first token of each utterance, and N
    pooled: np.ndarray  # [N] bool, tokens whose hidden states make the utterance's vector; not those of other turns
    first_position: int  # position of an utterance's first token
    width: int = 0  # of the vectors that the encoder makes
    encoder: tuple[Any, int, str] | None = None  # as in `Description`
    states: np.ndarray | None = None  # [N, d] float32, what the trained part of the encoder is given; None for the ids
    initial: Any = None  # parameters of the trained part before training, by their names in the model
    # [width] each, mean and deviation of the vectors of the train utterances before training
    moments: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def lengths(self) -> np.ndarray:
        """Return [U] int64, the tokens of each utterance."""
        return np.diff(self.start)

    def take(self, rows: np.ndarray) -> Words:
        """Return the tokens of the utterances `rows` [n] int, in their order."""
        lengths = self.lengths[rows]
        start = np.concatenate([[0], np.cumsum(lengths)])
        token = np.arange(start[-1]) + np.repeat(self.start[rows] - start[:-1], lengths)
        states = None if self.states is None else self.states[token]
        return dataclasses.replace(self, ids=self.ids[token], start=start, pooled=self.pooled[token], states=states)


class Clip(NamedTuple):
    """Describe a part of a media file.

    Attributes:
      path: the file; "" where only the times of a part are known.
      start: seconds from the file's start, or None for the start.
      end: seconds, or None for the file's end.
      region: x, y, width, height of a part of the picture, in [0, 1] of its size, or None for all of it.
    """

    path: str
    start: float | None = None
    end: float | None = None
    region: tuple[float, float, float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Conversations in memory (numpy, on the host), one row per utterance, dialogue by dialogue in time order."""

    name: str  # what the corpus is called in logs and tables
    features: Mapping[Modality, np.ndarray]  # modality -> [U, d_m] float32, finite; rows of missing modalities are zero
    present: Mapping[Modality, np.ndarray]  # modality -> [U] bool, whether the utterance has this modality
    dialogue: np.ndarray  # [U] int32, index into `dialogue_ids`; every dialogue's rows are contiguous and in time order
    speaker: np.ndarray  # [U] int32, who speaks, numbered inside each dialogue by first appearance (0 where not known)
    label: np.ndarray  # [U] int32 in [0, C), or UNLABELED: context, in the graph but in no loss or metric
    split: np.ndarray  # [U] array of str, "train", "valid" or "test", the same for a whole dialogue
    label_names: tuple[str, ...]  # C names
    dialogue_ids: tuple[str, ...]  # names of the dialogues
    utterance_ids: tuple[str, ...]  # U names of the utterances
    speaker_names: np.ndarray | None = None  # [U] array of str, or None
    transcript: np.ndarray | None = None  # [U] array of str, or None
    notes: tuple[str, ...] = ()  # findings of the reader for the user (NaN rows that became missing, …)
    task: str = "classification"  # what is to be predicted, a key of `tasks.TASKS` and of `targets.TARGETS`
    # [U, O] float32, the truth of a task that does not classify: a score, or 1 for each label that applies; zeros where
    # `label` is UNLABELED. `label` is then the class that contrast and pictures go by. None for classes.
    target: np.ndarray | None = None
    target_names: tuple[str, ...] = ()  # O names; () for classes
    # [U, K] float32, further ratings by annotators (valence, arousal, …) that training may predict beside the label,
    # with mean 0 and deviation 1 over the train split; a row of NaN where there are none. None without.
    ratings: np.ndarray | None = None
    # [U] int32, under cross-validation: number of the model that leaves the utterance out of training and is validated
    # on it; -1 in the test split. None without cross-validation.
    fold: np.ndarray | None = None
    ranked: Mapping[Modality, int] = dataclasses.field(default_factory=dict)  # modality -> features that become ranks
    # of the modality WORDS, whose features are then [U, 0]; None where no encoder is trained
    words: Words | None = None
    encoder: tuple[Path, str] | None = None  # folder and digest of the text encoder of the modality WORDS
    clips: np.ndarray | None = None  # [U] array of Clip, where an utterance was recorded, or None; None without any
    # modality -> how `features` made it, as `features.recordings` describes it; only where that is known
    recipes: Mapping[Modality, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def training(self) -> np.ndarray:
        """Return which utterances are trained on, [U] bool; with folds, by all models but one."""
        return self.split == "train" if self.fold is None else self.fold >= 0

    @property
    def answered_as(self) -> np.ndarray:
        """Return the split that answers are scored in, [U] str; with folds, "valid" for all of training."""
        return self.split if self.fold is None else np.where(self.fold >= 0, "valid", self.split)

    def used(self, split: str) -> np.ndarray:
        """Return which utterances are trained on, validated or tested [U] bool; with folds, the first two are equal."""
        return self.training if split == "train" else self.answered_as == split

    def labelled(self, split: str) -> np.ndarray:
        """Return which utterances of `used` have a label, [U] bool."""
        return self.used(split) & (self.label >= 0)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.features)

    @property
    def widths(self) -> dict[Modality, int]:
        """Return modality -> d_m."""
        widths = {m: x.shape[1] for m, x in self.features.items()}
        return widths if self.words is None else {**widths, WORDS: self.words.width}

    @property
    def num_classes(self) -> int:
        return len(self.label_names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return O names: of the classes, of the score, or of the labels."""
        return self.target_names or self.label_names

    @property
    def description(self) -> Description:
        """Return the facts that a network depends on."""
        ratings = 0 if self.ratings is None else self.ratings.shape[1]
        encoder = None if self.words is None else self.words.encoder
        return Description(tuple(self.widths.items()), len(self.output_names), self.num_classes, ratings, encoder)

    def __len__(self) -> int:
        return len(self.dialogue)


class Tokens(PyTreeNode):
    """The tokens of a batch's utterances: several utterances share a row of S tokens, one after another."""

    slot: Array  # [R, Q, S] int32, slot of the utterance in its row of the batch; PADDING at padding
    position: Array  # [R, Q, S] int32, place in the utterance, from the network's first position
    pooled: Array  # [R, Q, S] bool, as in `Words`
    ids: Array | None = None  # [R, Q, S] int32; None where states are given
    states: Array | None = None  # [R, Q, S, d], as in `Words`


class Batch(PyTreeNode):
    """Dialogues packed into R rows of L slots; slot j of row i is node i * L + j of every modality's graph.

    A dialogue, or a piece of a long one, is in one row, in time order, without a gap; a row holds several of them and
    then padding. A piece comes with the neighbouring utterances that the window reaches, as context.
    """

    features: dict[Modality, Array]  # modality -> [R, L, d_m]; zero where the modality is missing and at padding
    present: dict[Modality, Array]  # modality -> [R, L] bool; False where the modality is missing and at padding
    dialogue: Array  # [R, L] int32, number of the dialogue inside its row; PADDING at padding
    speaker: Array  # [R, L] int32, number of the speaker inside the dialogue
    label: Array  # [R, L] int32; UNLABELED at utterances without a label, at context and at padding
    n_node: Array  # [R, S] int32, sizes of the row's graphs: dialogues, zeros, padding last; sums to L in each row
    row: Array  # [R] int32, number of the row in its split; what is random about a row depends on it, not on its place
    utterance: Array  # [R, L] int32, index of the utterance in the corpus; PADDING at context and at padding
    target: Array | None = None  # [R, L, O] float32, as in the corpus; None for classes
    ratings: Array | None = None  # [R, L, K] float32, as in the corpus, and zeros where there are none; None without
    rated: Array | None = None  # [R, L] bool, utterances scored here that have ratings; None without
    fold: Array | None = None  # [R, L] int32, as in the corpus; None without
    tokens: Tokens | None = None  # of the modality WORDS, whose features are then [R, L, 0]; None where they are known
    classes: int = field(pytree_node=False, default=0)  # C, where the outputs are not the classes; else 0

    @property
    def real(self) -> Array:
        """Return where a real utterance is, not padding: [R, L] bool."""
        return self.dialogue != PADDING

    @property
    def counted(self) -> Array:
        """Return where an utterance is scored, neither padding nor the context of a piece: [R, L] bool."""
        return self.utterance != PADDING


class ContrastSet(PyTreeNode):
    """The candidates of contrast anchors: the nodes of the global batch."""

    vectors: dict[Modality, Array]  # modality -> [Q, Z] unit vectors
    classes: dict[Modality, Array]  # modality -> [Q, C] one-hot; zeros without a label or the modality
    own: Array  # [A] int32, where the anchors of this device are among the Q, or -1


class Outputs(PyTreeNode):
    """The forward pass for the loss terms; outputs that no active term or diagnostic needs are empty dicts."""

    logits: Array  # [R, L, O]
    codes: dict[Modality, Array]  # modality -> [R, L, D], the encoders' ξ, before context; input of the generators
    hidden: dict[Modality, Array]  # modality -> [R, L, D], the graph's output
    contrast: dict[Modality, Array] = field(default_factory=dict)  # modality -> [R, L, Z], unit vectors
    # (source, target) -> the generator of `target` applied to the code of `source`; [R, L, d_target] with feature
    # wiring, [R, L, D] with latent wiring
    generated: dict[tuple[Modality, Modality], Array] = field(default_factory=dict)
    unimodal: dict[Modality, Array] = field(default_factory=dict)  # modality -> [R, L, O], logits of one modality
    encoded: dict[Modality, Array] = field(default_factory=dict)  # WORDS -> [R, L, d_m], from the batch's tokens
    ratings: Array | None = None  # [R, L, K], predicted ratings of annotators; None without
    extra: dict[str, Any] = field(default_factory=dict)  # name -> output of another head (`nn.model.HEADS`)
    candidates: ContrastSet | None = None  # of `contrast`; set by the train step, which knows the other devices
    # (source, target) -> [R, L], logits of D_target for `generated`
    fake_logits: dict[tuple[Modality, Modality], Array] = field(default_factory=dict)
    attention: dict[Modality, Array] = field(default_factory=dict)  # modality -> [layers, N, W, H], weights
    # modality -> [layers, R, L], entropy of α averaged over heads, over that of uniform weights
    attention_entropy: dict[Modality, Array] = field(default_factory=dict)


class TrainState(PyTreeNode):
    """Everything that training changes, arrays only, plus the key that it never changes."""

    step: Array  # [] int32, updates made
    key: Array  # PRNG key of the run; step t draws from fold_in(key, t), so resuming is exact
    params: Any  # parameters of encoders, generators, graphs, contrast heads and classifier
    average: Any  # exponential moving average of `params`, or {} where none is kept
    discriminators: Any  # parameters of the discriminators
    optimizer: Any  # optax state of `params`
    discriminator_optimizer: Any  # optax state of `discriminators`
    fold: Any = field(default_factory=dict)  # [] int32, the fold that this model leaves out, or {}

    @property
    def weights(self) -> Any:
        """Return the parameters to evaluate and to keep: the average where there is one."""
        return self.average or self.params

"""The ways in which the seeds of a run share the hardware. Each seed computes what its run alone would compute.

    sequence   one after another; where there are several devices they share each batch
    threads    one after another on each core of a CPU
    vmap       all in one program on one device
    devices    spread over the devices, each seed on one of them, without communication

A checkpoint holds states as arrays with a leading axis of seeds, whatever the way: a run may resume in another one.

`python -m tools.bench --only=seeds` measures the ways that a machine offers. On a CPU one program of ten seeds took a
quarter longer than ten programs of one, in eleven times the memory (one busy core, commit 297538b); threads keep every
core busy. On an accelerator a model of this size leaves most of the device idle, which vmap fills (not yet measured).
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ariigcn_jax import parallel, rules
from ariigcn_jax.training import build
from ariigcn_jax.training.build import Experiment
from ariigcn_jax.types import Corpus, UserError

AUTO = "auto"
WAYS = ("threads", "vmap", "devices", "sequence")


class Seeds(abc.ABC):
    """The seeds of a run, trained in one way.

    Each way has its own form of the states and parameters of all seeds. What a way returns to the host is numpy with
    a leading axis S. States and parameters of K members a seed have an axis S K, seed after seed.
    """

    members = 1  # models of each seed

    def __init__(self, way: str, numbers: Sequence[int], experiment: Experiment):
        """Train the seeds `numbers` in one of WAYS; `experiment` has the functions of one model."""
        self.way, self.numbers, self.experiment = way, numbers, experiment

    @abc.abstractmethod
    def init(self) -> Any:
        """Return fresh states."""

    @abc.abstractmethod
    def place(self, arrays: Any) -> Any:
        """Bring states or parameters with a leading axis S into the form of this way."""

    @abc.abstractmethod
    def host(self, trees: Any) -> Any:
        """Return the inverse of `place`, in numpy."""

    @abc.abstractmethod
    def weights(self, states: Any) -> Any:
        """Return the parameters of states to evaluate and to keep."""

    @abc.abstractmethod
    def keep(self, better: np.ndarray, new: Any, old: Any) -> Any:
        """Return a copy of the parameters of `new` where `better` [S], else of `old`; training reuses buffers."""

    @abc.abstractmethod
    def train(self, states: Any) -> tuple[Any, dict[str, np.ndarray]]:
        """Train an epoch; return the next states and the logs, name → [S]. The given states are used up."""

    @abc.abstractmethod
    def evaluate(self, split: str, params: Any) -> dict[str, np.ndarray]:
        """Return "confusion" [S, C, C] and "probabilities" [S, rows, L, C]."""

    @abc.abstractmethod
    def diagnose(self, states: Any) -> dict[str, dict[str, np.ndarray]]:
        """Return the numbers of the failure signatures, [S] each; not for streamed data."""

    @abc.abstractmethod
    def compile(self, states: Any, splits: Sequence[str], diagnosis: bool) -> jax.stages.Compiled | None:
        """Compile an epoch, evaluations and the diagnosis; return the program of an epoch or of a part, or None."""


class Separate(Seeds):
    """Run one program per seed, on threads; a state is a list with one tree per seed.

    Compiled functions release Python's lock, so each thread keeps a core busy.
    """

    def __init__(self, way: str, numbers: Sequence[int], experiment: Experiment, threads: int = 1):
        super().__init__(way, numbers, experiment)
        self._threads = min(threads, len(numbers))
        self._diagnose: Callable[..., Any] = experiment.diagnose

    def init(self) -> list[Any]:
        return [self.experiment.init(seed) for seed in self.numbers]

    def place(self, arrays: Any) -> list[Any]:
        alone = [jax.tree.map(lambda x: jnp.array(x[s]), arrays) for s in range(len(self.numbers))]  # noqa: B023
        return [parallel.replicate(tree, self.experiment.num_devices) for tree in alone]

    def host(self, trees: list[Any]) -> Any:
        return _stacked([jax.tree.map(_on_host, self._one(tree)) for tree in trees])

    def weights(self, states: list[Any]) -> list[Any]:
        return [state.weights for state in states]

    def keep(self, better: np.ndarray, new: list[Any], old: list[Any]) -> list[Any]:
        return [jax.tree.map(jnp.copy, n) if wins else o for wins, n, o in zip(better, new, old, strict=True)]

    def train(self, states: list[Any]) -> tuple[list[Any], dict[str, np.ndarray]]:
        (epoch, _), data = self.experiment.training(states[0]), self.experiment.data["train"]
        done = self._each(lambda state: epoch(state, data), states)
        return [state for state, _ in done], _stacked([logs for _, logs in done])

    def evaluate(self, split: str, params: list[Any]) -> dict[str, np.ndarray]:
        evaluation, data = self.experiment.evaluation(split, params[0]), self.experiment.data[split]
        return _stacked(self._each(lambda p: evaluation(p, data), params))

    def diagnose(self, states: list[Any]) -> dict[str, dict[str, np.ndarray]]:
        rows = self._one(self.experiment.data["train"].rows)
        return _stacked(self._each(lambda state: self._diagnose(self._one(state), rows), states))

    def compile(self, states: list[Any], splits: Sequence[str], diagnosis: bool) -> jax.stages.Compiled | None:
        _, part = self.experiment.training(states[0])
        for split in splits:
            self.experiment.evaluation(split, self.weights(states)[0])
        if diagnosis:
            like = self._one(states[0]), self._one(self.experiment.data["train"].rows)
            self._diagnose = self.experiment.diagnose.lower(*like).compile()
        return next(iter(part.programs.values()), None)

    def _one(self, tree: Any) -> Any:
        return parallel.unreplicate(tree, self.experiment.num_devices)

    def _each(self, function: Callable[[Any], Any], trees: list[Any]) -> list[Any]:
        """Call a compiled function for every seed and wait for the results."""

        def call(tree: Any) -> Any:
            return jax.block_until_ready(function(tree))

        if self._threads == 1:
            return [call(tree) for tree in trees]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(call, trees))


class Together(Seeds):
    """Seeds in one program: arrays have a leading axis [S, ...], or [devices, S', ...] where several devices share S.

    Where the devices do not divide the seeds, copies of the last seed fill the idle places. A device computes its seeds
    at once, or in as many parts as its memory needs; one of several CPU devices one after another, which is faster.
    """

    def __init__(self, way: str, numbers: Sequence[int], experiment: Experiment, num_devices: int = 1):
        """Spread the seeds over `num_devices` devices; `experiment` is for one of them."""
        super().__init__(way, numbers, experiment)
        self._rows = {split: parallel.replicate(feed.rows, num_devices) for split, feed in experiment.data.items()}
        self._devices = num_devices
        self._each = -(-len(numbers) // num_devices)
        self._at_once = 1 if num_devices > 1 and jax.default_backend() == "cpu" else self._each
        self._programs: dict[str, jax.stages.Compiled] = {}

        def keep(better: jax.Array, new: Any, old: Any) -> Any:
            return jax.tree.map(functools.partial(jnp.where, better), new, old)

        self._kept = parallel.over_devices(jax.vmap(keep), num_devices)

    def init(self) -> Any:
        states = [self.experiment.init(seed) for seed in self.numbers]
        return self._spread(jax.tree.map(lambda *x: jnp.stack(x), *states))

    def place(self, arrays: Any) -> Any:
        return self._spread(jax.tree.map(jnp.array, arrays))

    def host(self, trees: Any) -> Any:
        return jax.tree.map(self._gather, trees)

    def weights(self, states: Any) -> Any:
        return states.weights

    def keep(self, better: np.ndarray, new: Any, old: Any) -> Any:
        return self._kept(self._spread(jnp.asarray(better)), new, old)

    def train(self, states: Any) -> tuple[Any, dict[str, np.ndarray]]:
        states, logs = self._call("epoch", "train", self.experiment.epoch, states)
        return states, self.host(logs)

    def evaluate(self, split: str, params: Any) -> dict[str, np.ndarray]:
        return self.host(self._call(f"evaluate {split}", split, self.experiment.evaluate[split], params))

    def diagnose(self, states: Any) -> dict[str, dict[str, np.ndarray]]:
        return self.host(self._call("diagnose", "train", self.experiment.diagnose, states))

    def compile(self, states: Any, splits: Sequence[str], diagnosis: bool) -> jax.stages.Compiled | None:
        epoch = self._program("epoch", "train", self.experiment.epoch, states)
        while self._at_once > 1 and not parallel.fits(epoch):
            self._at_once = -(-self._at_once // 2)
            self._programs.clear()
            epoch = self._program("epoch", "train", self.experiment.epoch, states)
        for split in splits:
            self._program(f"evaluate {split}", split, self.experiment.evaluate[split], self.weights(states))
        if diagnosis:
            self._program("diagnose", "train", self.experiment.diagnose, states)
        return epoch

    def _call(self, name: str, split: str, function: Callable[..., Any], trees: Any) -> Any:
        return jax.block_until_ready(self._program(name, split, function, trees)(trees, self._rows[split]))

    def _program(self, name: str, split: str, function: Callable[..., Any], trees: Any) -> jax.stages.Compiled:
        """Return a function of (a seed's tree, rows) for all seeds, compiled once."""
        if name not in self._programs:
            donate = (0,) if name == "epoch" else ()
            mapped = parallel.over_devices(self._of_a_device(function), self._devices, donate)
            self._programs[name] = mapped.lower(trees, self._rows[split]).compile()
        return self._programs[name]

    def _of_a_device(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Map a function of a seed's tree and the rows over the seeds of one device."""
        if self._at_once == self._each:
            return jax.vmap(function, in_axes=(0, None))
        at_once = self._at_once if self._at_once > 1 else None
        return lambda trees, rows: jax.lax.map(lambda tree: function(tree, rows), trees, batch_size=at_once)

    def _spread(self, tree: Any) -> Any:
        """Bring [S, ...] into the form of this way, on the devices."""
        if self._devices == 1:
            return tree
        place = np.minimum(np.arange(self._devices * self._each), len(self.numbers) - 1).reshape(self._devices, -1)
        return parallel.put([jax.tree.map(lambda x: x[mine], tree) for mine in place], self._devices)  # noqa: B023

    def _gather(self, x: jax.Array) -> np.ndarray:
        array = _on_host(x)
        return array if self._devices == 1 else array.reshape(-1, *array.shape[2:])[: len(self.numbers)]


class Members(Seeds):
    """Seeds of K models each: their answers, logs and failure signatures are means over the members.

    Under cross-validation a validation utterance gets the answer of the member that left its fold out.
    """

    def __init__(self, inner: Seeds, numbers: Sequence[int], fold: np.ndarray | None = None):
        """Average the models of `inner`, K for each of `numbers`; `fold` [U] is `Corpus.fold`."""
        super().__init__(inner.way, numbers, inner.experiment)
        self._inner = inner
        self.members = len(inner.numbers) // len(numbers)
        # [rows, L] of the validation split, the member that answers
        self._answering = None if fold is None else np.maximum(fold[self.experiment.index["valid"].utterance[:-1]], 0)

    def init(self) -> Any:
        return self._inner.init()

    def place(self, arrays: Any) -> Any:
        return self._inner.place(arrays)

    def host(self, trees: Any) -> Any:
        return self._inner.host(trees)

    def weights(self, states: Any) -> Any:
        return self._inner.weights(states)

    def keep(self, better: np.ndarray, new: Any, old: Any) -> Any:
        return self._inner.keep(np.repeat(better, self.members), new, old)

    def train(self, states: Any) -> tuple[Any, dict[str, np.ndarray]]:
        states, logs = self._inner.train(states)
        return states, jax.tree.map(self._mean, logs)

    def evaluate(self, split: str, params: Any) -> dict[str, np.ndarray]:
        found = self._apart(self._inner.evaluate(split, params)["probabilities"])
        if split == "valid" and self._answering is not None:
            answers = np.take_along_axis(found, self._answering[None, None, ..., None], axis=1)[:, 0]
        else:
            answers = found.mean(axis=1)
        confusion = np.stack([self.experiment.count(split, answer) for answer in answers])
        return {"confusion": confusion, "probabilities": answers}

    def diagnose(self, states: Any) -> dict[str, dict[str, np.ndarray]]:
        return jax.tree.map(self._mean, self._inner.diagnose(states))

    def compile(self, states: Any, splits: Sequence[str], diagnosis: bool) -> jax.stages.Compiled | None:
        return self._inner.compile(states, splits, diagnosis)

    def _mean(self, x: np.ndarray) -> np.ndarray:
        """Average members: [S * K, ...] → [S, ...]."""
        return self._apart(x).mean(axis=1)

    def _apart(self, x: np.ndarray) -> np.ndarray:
        """Split members from seeds: [S * K, ...] → [S, K, ...]."""
        return x.reshape(len(self.numbers), self.members, *x.shape[1:])


def _stacked(trees: Sequence[Any]) -> Any:
    """Stack trees of arrays along a new leading axis."""
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def _on_host(x: jax.Array) -> np.ndarray:
    """Return a copy, because training reuses buffers; of a key its data."""
    return np.array(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def make(config: Any, corpus: Corpus) -> Seeds:
    """Build the seeds of a config (`options.base.get_config`) on a standardised corpus.

    Raises:
      UserError: an option that cannot be built, or a way that this machine or this run does not offer.
    """
    check(config)
    numbers = range(config.seed, config.seed + config.num_seeds)
    if config.members == 1:
        return _make(config, corpus, numbers)
    first = config.seed * config.members
    return Members(_make(config, corpus, range(first, first + config.num_seeds * config.members)), numbers, corpus.fold)


def _make(config: Any, corpus: Corpus, numbers: Sequence[int]) -> Seeds:
    """Build seeds of one model each."""
    devices = parallel.device_count(config.num_devices)
    way = choose(config.seeds_by, len(numbers), devices)
    experiment = build.make(config, corpus, 1 if way == "devices" else devices)
    if experiment.streamed and way != "sequence":
        way = choose(config.seeds_by, len(numbers), devices, streamed=True)
        experiment = experiment if experiment.num_devices == devices else build.make(config, corpus, devices)
    if way in ("vmap", "devices"):
        return Together(way, numbers, experiment, min(devices, len(numbers)))
    return Separate(way, numbers, experiment, threads=parallel.cores() if way == "threads" else 1)


def check(config: Any) -> None:
    """Check the way that a config asks for.

    Raises:
      UserError: there is no such way, or a run in one process cannot take it here.
    """
    rules.check(config, {"seeds_by": rules.one_of(AUTO, *WAYS)})
    if not config.distributed.coordinator:
        choose(config.seeds_by, config.num_seeds * config.members, parallel.device_count(config.num_devices))


def choose(asked: str, num_seeds: int, num_devices: int, *, streamed: bool = False) -> str:
    """Choose the way to train seeds: the one asked for, or with AUTO the one that should be fastest (see the module).

    `num_devices` are local devices that may be used; `streamed` is whether rows are read in parts.

    Raises:
      UserError: the way is not possible here; says why.
    """
    if asked != AUTO:
        why = _obstacle(asked, num_devices, streamed)
        if why:
            raise UserError(f"seeds_by={asked} is not possible here: {why}. seeds_by={AUTO} takes what is.")
        return asked
    if num_seeds == 1 or streamed or parallel.processes() > 1:  # so that no more than one seed's parts are in memory
        return "sequence"
    if num_devices > 1:
        return "devices" if num_seeds >= num_devices else "sequence"
    return "threads" if jax.default_backend() == "cpu" else "vmap"


def possible(num_devices: int) -> list[str]:
    """Return the ways that so many local devices offer, for data that they hold as a whole."""
    return [way for way in WAYS if not _obstacle(way, num_devices, streamed=False)]


def _obstacle(way: str, num_devices: int, streamed: bool) -> str:
    """Say why a way is not possible; "" where it is."""
    if way == "sequence":
        return ""
    if parallel.processes() > 1:
        return "several processes share each batch, seed after seed"
    if way == "devices" and num_devices == 1:
        return "num_devices=1; set num_devices=0 for all devices"
    if way != "devices" and num_devices > 1:
        return f"it uses one device, and num_devices={num_devices}; set num_devices=1"
    return "data.device_megabytes lets each seed read the rows as it needs them" if streamed else ""

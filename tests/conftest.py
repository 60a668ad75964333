"""What several test modules share."""

import importlib.metadata
import os

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

# Most of the tests' time is compiling, a third of which these emitters take. The compiler reads this when it is first
# used, in processes that a test starts as well. Another version may not know the name, and would end at once.
GIVEN, EMITTERS = os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters"
if EMITTERS not in GIVEN and importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] = f"{GIVEN} {EMITTERS}=false".strip()
LONGEST = ("parallel", "build", "feed", "step", "terms", "attention", "model", "runner", "bench", "tasks", "losses")


def pytest_collection_modifyitems(items):
    """The files that take longest first, so that no core is left with one of them while the others have ended."""
    place = {f"{name}_test": k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="module")
def quick_compilation(tmp_path_factory):
    """Little optimisation, and what one test has compiled the next one reads from disk.

    Without the reset JAX would stay with the first folder that it used in this process, which may be the user's own.
    """
    names = (
        "jax_disable_most_optimizations",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )

    def choose(*values):
        for name, value in zip(names, values, strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()

    choose(True, str(tmp_path_factory.getbasetemp() / "compiled"), 0)
    yield
    choose(False, None, 1)

"""What several test modules share."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compilation(tmp_path_factory):
    """Little optimisation, and what one test has compiled the next one reads from disk."""
    names = (
        "jax_disable_most_optimizations",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )

    def choose(*values):
        for name, value in zip(names, values, strict=True):
            jax.config.update(name, value)

    choose(True, str(tmp_path_factory.getbasetemp() / "compiled"), 0)
    yield
    choose(False, None, 1)

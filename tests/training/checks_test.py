"""Options that cannot be built are named, with what they must be, before anything is built."""

import pytest

from ariigcn_jax.objective import terms as objective
from ariigcn_jax.training import checks
from ariigcn_jax.types import Description, UserError
from tests.support.training import tiny


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_epochs": 0}, "num_epochs=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_seeds": 0}, "num_seeds=0"),
        ({"seed": -1}, "seed=-1"),
        ({"optimizer.schedule": "linear"}, "optimizer.schedule='linear' must be one of cosine, constant"),
        ({"eval.select": "f1"}, r"eval\.select='f1' is no metric"),
        ({"eval.epoch": "first"}, r"eval\.epoch='first' must be one of best, last"),
        ({"checkpoint.keep": 0}, r"checkpoint\.keep=0 must be at least 1"),
        ({f"losses.{slot}.weight": 0.0 for slot in objective.TERMS}, "Every loss has the weight 0"),
        ({"optimizer.lr": 0.0}, r"optimizer.lr=0\.0 must be a positive number"),
        ({"optimizer.lr": float("nan")}, "optimizer.lr=nan"),
        ({"discriminator.lr": float("inf")}, "discriminator.lr=inf"),
        ({"discriminator.game": "sum"}, "discriminator.game='sum' must be one of adversarial, summed"),
        ({"discriminator.lr": 0.02}, "discriminator.lr=0.02 exceeds optimizer.lr=0.01"),
        ({"model.context": "lstm"}, "model.context='lstm'.*gru"),
        ({"model.graph.heads": 3}, "model.hidden=8.*model.graph.heads=3"),
        ({"model.dropout": 1.0}, "model.dropout=1.0"),
        ({"model.graph.past": -2}, "model.graph.past=-2"),
        ({"model.graph.layers": -1}, "model.graph.layers=-1"),
        ({"losses.iccl.fn": "supervised_ncee"}, "losses.iccl.fn.*Did you mean 'supervised_nce'"),
        ({"losses.imcl.weight": -0.1}, "losses.imcl.weight=-0.1"),
    ],
)
def test_options_that_cannot_be_built_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        checks.check_options(tiny(changes), Description((("text", 5), ("audio", 3)), outputs=3, classes=3))

"""Learn UR-FUNNY: whether a punchline is humorous. The sentences before it are its context.

python -m tools.features manifest --release urfunny urfunny2 --out punchlines.csv
python -m tools.features extract --manifest punchlines.csv --out urfunny/ --audio eGeMAPSv02
python -m experiments.run --config=experiments/urfunny.py --config.data.path=urfunny/dialogues.npz
python -m experiments.run --config=experiments/urfunny.py:generated

UR-FUNNY V2 comes as videos and pickles of words. Any other file will do in which the punchline alone has a label and
the sentences before it, of the same dialogue_id, have none.
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(names: str = "") -> ConfigDict:
    """Return the UR-FUNNY experiment."""
    config = base.get_config()
    config.experiment = "urfunny"
    config.num_epochs = 20
    config.batch_size = 32
    config.data.name = "urfunny"
    config.eval.select = "accuracy"  # as this corpus's papers report; its classes are balanced
    generated = ConfigDict(dict(seed=0, dialogues=240, utterances=(2, 6), speakers=1, classes=2, last_only=True))
    generated.update(label_names=("not_humorous", "humorous"), imbalance=0.0, separation=1.0)
    generated.update(inertia=1.0, contagion=0.0)  # the context is of the punchline's class, so that it matters
    return base.finish(config, names, generated={"data.generate": generated})

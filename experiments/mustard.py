"""Learn MUStARD: whether an utterance of a sitcom is sarcastic. The turns before it are its context.

python -m experiments.run --config=experiments/mustard.py --config.data.path=mustard/dialogues.npz
python -m experiments.run --config=experiments/mustard.py:generated

MUStARD comes as videos and sarcasm_data.json. Write a table with a row for each context sentence, without a label, and
behind them one for the utterance, with its label, all of the same dialogue_id; `python -m tools.features extract
--manifest TABLE.csv` (tools/README.md) makes dialogues.npz of it.
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(names: str = "") -> ConfigDict:
    """Return the MUStARD experiment."""
    config = base.get_config()
    config.experiment = "mustard"
    config.num_epochs = 20
    config.batch_size = 32
    config.data.name = "mustard"
    generated = ConfigDict(dict(seed=0, dialogues=240, utterances=(2, 8), speakers=3, classes=2, last_only=True))
    generated.update(label_names=("literal", "sarcastic"), imbalance=0.0, separation=1.0)
    generated.update(inertia=0.5, contagion=0.5)  # a new speaker takes over the emotion, so that the context matters
    return base.finish(config, names, generated={"data.generate": generated})

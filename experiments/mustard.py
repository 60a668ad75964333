"""MUStARD: whether an utterance of a sitcom is sarcastic. The turns before it, of several speakers, are its context.

python -m experiments.run --config=experiments/mustard.py --config.data.path=mustard/dialogues.npz
python -m experiments.run --config=experiments/mustard.py:generated
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(names: str = "") -> ConfigDict:
    """The MUStARD experiment."""
    config = base.get_config()
    config.experiment = "mustard"
    config.num_epochs = 20
    config.batch_size = 32
    config.data.name = "mustard"
    config.data.wanted = (
        "MUStARD comes as videos and sarcasm_data.json. Write a table with a row for each context sentence, without a "
        "label, and behind them one for the utterance, with its label, all of the same dialogue_id; then `python -m "
        "tools.features extract --manifest TABLE.csv` (tools/README.md: tools.features) makes dialogues.npz, to be "
        "given by --config.data.path. On generated conversations: --config=experiments/mustard.py:generated"
    )
    return base.finish(
        config,
        names,
        seed=0,
        dialogues=240,
        utterances=(2, 8),
        speakers=3,
        classes=2,
        inertia=0.5,
        contagion=0.5,  # one who has not spoken yet takes over what was said, so the context is worth hearing
        imbalance=0.0,
        separation=1.0,
        label_names=("literal", "sarcastic"),
        last_only=True,
    )

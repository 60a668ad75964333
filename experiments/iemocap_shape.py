"""Learn generated conversations of IEMOCAP's shape, to measure speed without the corpus.

The numbers of dialogues, utterances, emotions and modalities and the widths are IEMOCAP's. The scores are not.

python -m experiments.run --config=experiments/iemocap_shape.py
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(ablations: str = "") -> ConfigDict:
    """Return the experiment."""
    config = base.get_config()
    config.experiment = "iemocap_shape"
    config.num_epochs = 30
    config.batch_size = 8
    config.data.name = "iemocap_shape"
    config.data.generate = ConfigDict(dict(seed=0, dialogues=151, utterances=(20, 78), classes=6))  # 49 ± 17 utterances
    config.data.generate.update(valid=12 / 151, test=31 / 151)
    config.data.generate.widths = ConfigDict(dict(text=384, audio=94, visual=22))
    return base.finish(config, ablations)

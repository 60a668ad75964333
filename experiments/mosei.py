"""Learn CMU-MOSEI: sentiment in [-3, 3] of the utterances of a video, from MMSA's pickle or any file of its fields.

python -m experiments.run --config=experiments/mosei.py --config.data.path=MOSEI/Processed/aligned_50.pkl
python -m experiments.run --config=experiments/mosei.py:generated

CMU-MOSEI may not be redistributed. MMSA's pickle is {train, valid, test} -> {text, audio, vision, regression_labels,
…}; any other file will do with numbers in [-3, 3] in the field that --config.data.label names. `:task_classification`
behind the file's name learns classes instead, with --config.data.label=label (three signs) or =binary (two). CMU-MOSI's
pickle of the same layout is read as well.

On the generated conversations MAE 1.101, correlation 0.681, accuracy of 7 levels 27.5 (seed 0, commit b35980b), which
is no result for the corpus.
"""

from ml_collections import ConfigDict

from ariigcn_jax.options import ablations
from experiments import base


def get_config(names: str = "") -> ConfigDict:
    """Return the MOSEI experiment."""
    config = base.get_config()
    config.update_from_flattened_dict(ablations.options("task_regression"))
    config.experiment = "mosei"
    config.num_epochs = 20
    config.batch_size = 32
    config.data.name = "mosei"
    config.data.label = "sentiment_score"
    generated = ConfigDict(dict(seed=0, dialogues=150, utterances=(2, 14), speakers=1, classes=7, imbalance=0.0))
    generated.widths = dict(text=48, audio=37, vision=18)
    return base.finish(config, names, generated={"data.generate": generated})

"""CMU-MOSI, negative or positive, one video a monologue.

python -m experiments.run --config=experiments/mosi.py --config.num_seeds=10

Test accuracy 78.35 ± 0.31; 10 seeds of ten models, 216 s on two shared CPU cores, commit d2e8ceb. Of one model
78.12 ± 0.54, of the paper's parts alone 77.98 ± 0.41.
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(ablations: str = "") -> ConfigDict:
    """The MOSI experiment."""
    config = base.get_config()
    config.experiment = "mosi"
    config.batch_size = 8
    config.data.name = "mosi"
    config.eval.select = "accuracy"
    # The published text features know the labels of train, and so of any validation split out of it, where they say the
    # label of 98 %. Made as unsure as on test (data.leaky), they can be learnt from and validated on (README has how).
    config.data.leaky = ("text_cnn=0.4",)
    # The audio says nothing of people who are not in train (validation), and the video's features know its labels in
    # more directions than can be made unsure. --config.data.only="()" takes them in.
    config.data.only = ("text",)
    config.data.cross_validation = True
    config.num_epochs = 12
    config.eval.epoch = "last"
    config.members = 10
    config.model.context = "speaker"
    config.model.input_dropout = 0.1
    config.model.dropout = 0.5
    return base.finish(config, ablations)

"""CMU-MOSI, negative or positive, one video a monologue: text alone.

python -m experiments.run --config=experiments/mosi.py --config.num_seeds=10

Test accuracy 78.27 ± 0.27, validation 78.04 ± 0.39; 10 seeds of ten models, 74 s on two CPU cores, commit b5ddc0a. Of
one model 78.01 ± 0.44. With the last four layers of MiniLM beside the published text features (text_layers behind this
file; README) 80.77 ± 0.30; 10 seeds, 956 s beside other work, commit 944ff36; with MiniLM's sentence embeddings 79.93 ±
0.30.
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
    # The published text and video features know the labels of train, and so of any validation split out of it, where
    # text alone says the label of 98 %. Made as unsure as on test (data.leaky), text can be learnt from and validated
    # on: validation and test accuracy are then close (README has how the share was found).
    config.data.leaky = ("text_cnn=0.4", "visual_3dcnn=0")
    # Audio says nothing of people who are not in train (validation accuracy 78.0 with it, 78.0 without it), and the
    # video knows the labels in more ways than are made unsure (validation 78.9 with it, which flatters).
    # --config.data.only="()" --config.model.modality_dropout=0.2 takes them in.
    config.data.only = ("text_cnn",)
    config.data.cross_validation = True
    config.num_epochs = 12
    config.eval.epoch = "last"
    config.members = 10
    config.model.context = "speaker"
    config.model.input_dropout = 0.1
    config.model.dropout = 0.5
    layered = {
        "data.modalities": ("text_layers", "text_cnn"),
        "data.only": (),
        "data.leaky": ("text_cnn=0.4",),
        "model.modality_dropout": 0.2,
    }
    return base.finish(config, ablations, text_layers=base.text_layers("mosi", layered))

"""Learns the seven emotions of MELD.

--config.data.label=sentiment takes its three sentiments instead.

Test weighted F1 58.07 ± 0.42 (emotions) from frozen MiniLM text alone; 10 seeds, 134 s on two shared CPU cores, commit
13a3f23. 66.67 ± 0.28 (sentiments); 10 seeds, commit 931d901. Of the paper's parts alone 57.58 ± 0.57 (emotions).
With the last four layers of MiniLM (text_layers behind this file) 61.18 ± 0.67 and 68.46 ± 0.44; 10 seeds, 199
s and 241 s, commit 944ff36.

python -m experiments.run --config=experiments/meld.py
"""

from ml_collections import ConfigDict

from experiments import base


def get_config(ablations: str = "") -> ConfigDict:
    """Return the MELD experiment."""
    config = base.get_config()
    config.experiment = "meld"
    config.num_epochs = 20
    config.batch_size = 64
    config.data.name = "meld"
    config.model.input_dropout = 0.2
    config.optimizer.schedule = "constant"
    config.optimizer.average = 0.95
    config.optimizer.weight_decay = 1.0
    return base.finish(config, ablations, text_layers=base.text_layers("meld", {"data.modalities": ("text_layers",)}))

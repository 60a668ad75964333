"""Hold every default, once; those of losses are in ariigcn_jax/objective/terms.py, beside their functions.

An experiment's file changes what it needs; the command line changes the rest.

--config.losses.iccl.weight=0       removes a term, and its compute
--config.losses.imcl.fn=margin      swaps one
--config=FILE:no_tgan+no_imcl       takes parts out by name (ablations.py)
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ariigcn_jax.objective import terms
from ariigcn_jax.options import ablations


def get_config() -> ConfigDict:
    """Return all options, each with its unit and legal values."""
    config = ConfigDict()
    config.experiment = "base"  # name in logs and of the work directory
    config.seed = 0  # >= 0: of first parameters, order of rows and dropout; a run has seeds seed … seed + num_seeds - 1
    config.num_seeds = 1  # >= 1
    config.members = 1  # K >= 1: models of a seed, whose answers are averaged; seed s averages the models of
    # seeds s K … s K + K - 1, each without its fold under cross_validation
    config.seeds_by = "auto"  # how seeds share the hardware: auto | threads | vmap | devices | sequence (seeds.py)
    config.num_epochs = 50  # >= 1
    config.batch_size = 16  # >= 1: dialogues per step, on average
    config.num_devices = 1  # local devices that share the seeds or each batch; 0 for all
    config.distributed = ConfigDict()  # several processes that share a batch; each takes num_devices devices of its own
    config.distributed.coordinator = ""  # host:port of process 0; "auto" asks the cluster; "" for one process
    config.distributed.processes = 1  # >= 1: number of processes
    config.distributed.process = 0  # number of this process, in [0, processes)
    config.distributed.patience = 10  # seconds without a sign of life after which a process counts as lost

    config.data = ConfigDict()
    config.data.name = ""  # file data/<name>.npz, or in $ARIIGCN_DATA
    config.data.path = ""  # a file, instead of looking for the name
    config.data.modalities = ()  # names of the fields to use; () for all that look like features
    config.data.speaker_normalised = ()  # beginnings of names: append a copy standardised within dialogue and speaker
    config.data.dialogue_normalised = ()  # beginnings of names: append a copy standardised within the dialogue
    config.data.ranked = ()  # beginnings of names: features, but not copies, become ranks among those of train
    # sound that is made of recordings where there are no audio features, as by --audio of ariigcn features: eGeMAPSv02
    # (openSMILE) | facebook/wav2vec2-base | … with options behind a comma; "" for none
    config.data.sound = ""
    config.data.only = ()  # beginnings of names: keep those of the modalities alone; () for all
    config.data.task = "classification"  # classification | regression | multilabel: what the label is (tasks.py)
    config.data.label = "label"  # field of the classes, scores or labels
    config.data.ratings = ()  # fields of annotators' ratings (valence, arousal, …) to predict beside the label
    config.data.relabel = ""  # NAME=NEW,NAME=: classes with one new name are merged, those without one lose their label
    config.data.split = ""  # test split: FIELD=PATTERN | fold1of5[:FIELD] | session1 (data/splits.py); "": the file's
    config.data.without = ""  # dialogues that are left out of the corpus, written as data.split is; "": none
    config.data.generate = ConfigDict()  # keywords of ariigcn_jax.data.generate: generated conversations, no file
    # slots of a row, 0 for no limit; a longer dialogue is cut with overlap, if windowed and without model.context
    config.data.longest_row = 1024
    config.data.device_megabytes = 0.0  # MB of rows on a device at once; what exceeds it is streamed; 0 for no limit
    config.data.valid_fraction = 0.1  # of train dialogues, in (0, 1), where no validation split is named
    # each of the members leaves out another fold of train and validation, and alone is validated on it
    config.data.cross_validation = False

    config.model = ConfigDict()
    config.model.hidden = 128  # >= 1: D, width of the hidden space
    config.model.precision = "float32"  # float32 | bfloat16, of matrix products alone; bfloat16 is slow on a CPU
    config.model.dropout = 0.3  # [0, 1), in steps of 1/256
    config.model.input_dropout = 0.0  # [0, 1), on the features
    config.model.modality_dropout = 0.0  # [0, 1): rate at which an utterance loses a modality in training
    config.model.dialogue_dropout = 0.0  # [0, 1): rate at which a whole dialogue loses one
    config.model.context = "none"  # none | gru | attention | speaker: context encoder behind each encoder
    config.model.speakers = 10  # rows of the speaker embedding; further speakers share the last; 0 for none
    config.model.contrast_width = 32  # >= 1: Z, width of the contrast space
    config.model.contrast_candidates = 4096  # most nodes that anchors are compared with, a sample; 0 for all
    config.model.graph = ConfigDict()
    config.model.graph.layers = 2  # >= 0
    config.model.graph.heads = 4  # >= 1: H, a divisor of hidden
    config.model.graph.past = 10  # utterances before, for each node; -1 for the whole dialogue
    config.model.graph.future = 10  # utterances after; -1 for the whole dialogue
    config.model.graph.score = "additive"  # additive | dot | uniform
    config.model.graph.relation_values = False  # True: W_r for each relation; False: one W
    config.model.graph.speaker_relations = True  # False: all utterances count as one speaker's
    config.model.graph.kernel = "band"  # band | edges (the reference)
    config.model.graph.block = 16  # slots of a block of the band kernel; 0 for whole rows
    config.model.gan = ConfigDict()
    config.model.gan.wiring = "feature"  # feature | latent: what the discriminators see as real, features or codes
    config.model.gan.generator_hidden = 64  # >= 1
    config.model.gan.discriminator_hidden = 64  # >= 1
    config.model.text = ConfigDict()  # the modality "words": transcripts through a text encoder (nn/text_encoder.py)
    config.model.text.encoder = ""  # folder or hub name of a BERT-class encoder; "": no words
    config.model.text.train = "frozen"  # frozen | last_K: the last K layers are trained along | full
    config.model.text.train_table = False  # True: "full" trains the word table, too
    # hidden states whose vectors are joined: 0, the embeddings, to the encoder's depth; or back from -1, the last
    config.model.text.layers = (-1,)
    # over an utterance's tokens: auto, as the encoder's folder says | mean | cls | max
    config.model.text.pooling = "auto"
    config.model.text.max_tokens = 128  # of an utterance's text, which is cut behind it
    config.model.text.turns = 0  # >= 0: turns before (where the graph looks ahead, also after) in an utterance's text
    config.model.text.dropout = 0.1  # [0, 1), in the layers that are trained
    config.model.text.precision = "bfloat16"  # bfloat16 | float32, of the trained layers' products with weights
    config.model.text.remat = False  # True: less memory in training, for about a third more work

    # slot -> fn, weight (0 removes it), hyper-parameters; defaults, units and legal values: TERMS in objective/terms.py
    # slots: emotion, unimodal (each modality alone), ratings (of data.ratings), adversarial (of the GAN), iccl, imcl
    config.losses = ConfigDict({name: dict(slot.defaults) for name, slot in terms.TERMS.items()})

    config.optimizer = ConfigDict()  # AdamW of encoders, generators, graphs, heads, classifier
    config.optimizer.lr = 1e-3  # peak, > 0
    config.optimizer.schedule = "cosine"  # cosine (to 0 over num_epochs) | constant
    config.optimizer.warmup_epochs = 2.0  # linear, >= 0
    config.optimizer.weight_decay = 1e-2  # >= 0, on what has two dimensions or more
    config.optimizer.average = 0.0  # decay of the moving average that is evaluated, [0, 1); 0 for none
    config.optimizer.clip = 1.0  # largest gradient norm, 0 for none
    config.optimizer.accumulate = 1  # >= 1: steps whose gradients are averaged for an update
    config.optimizer.words = ConfigDict()  # of the text encoder
    config.optimizer.words.lr = 5e-5  # peak, > 0, of its last layer
    config.optimizer.words.decay = 0.9  # (0, 1]: rate of a layer over that of the layer above it
    config.optimizer.words.warmup_epochs = 0.5  # linear, >= 0
    config.optimizer.words.weight_decay = 1e-2  # >= 0
    config.discriminator = ConfigDict()  # Adam of the discriminators, whose rate follows optimizer.schedule
    config.discriminator.lr = 2e-4  # peak, > 0, and not above optimizer.lr
    config.discriminator.b1 = 0.5  # [0, 1)
    config.discriminator.game = "adversarial"  # adversarial | summed (as in the journal code: not adversarial)

    config.eval = ConfigDict()
    config.eval.select = "weighted_f1"  # weighted_f1 | accuracy | unweighted_accuracy | macro_f1, on validation; other
    # tasks have others: mae | correlation | accuracy_7 | …, micro_f1 | macro_f1 | … (tasks.py)
    config.eval.epoch = "best"  # best (on validation, by select) | last, where a validation split misleads
    config.eval.test = True  # False leaves the test split unread, as a search for options has to
    config.eval.report_best_test = False  # also report the best test epoch, for comparison with papers that choose so

    config.diagnostics = ConfigDict()
    config.diagnostics.every = 1  # epochs between two diagnoses of the failure signatures; 0 for none

    config.debug = ConfigDict()
    config.debug.nans = False  # where training diverges, also name the operation that gave the first NaN or infinity

    config.checkpoint = ConfigDict()
    config.checkpoint.every_seconds = 20.0  # seconds between two, >= 0; a longer epoch is saved before the next begins
    config.checkpoint.keep = 2  # newest ones kept, >= 1
    return config


MINILM = "sentence-transformers/all-MiniLM-L6-v2"
LAST_LAYERS = (-1, -2, -3, -4)  # joined; 61.2 on MELD, where the sentence embedding has 58.1 (RESULTS.md)


def words(*modalities: str, frozen: Mapping[str, Any] = {}, trained: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Return the names `words` and `frozen_words` of an experiment: transcripts through a text encoder.

    Args:
      *modalities: those that are learnt from; none for words, where there are no text features, and all features.
      frozen: dotted key -> value, of `frozen_words` alone.
      trained: the same, of `words` alone.
    """
    both: dict[str, Any] = {"data.only": (), "model.text.encoder": MINILM, "model.text.layers": LAST_LAYERS}
    if modalities:
        both["data.modalities"] = modalities
    return {
        "words": both | {"model.text.train": "last_3", "optimizer.schedule": "cosine"} | dict(trained),
        "frozen_words": both | dict(frozen),
    }


def finish(config: ConfigDict, names: str, **variants: Mapping[str, Any]) -> ConfigDict:
    """Return the config, locked, with the names that stand behind the experiment's file, joined by `+`.

    They are of ablations.py or of `variants`, which this experiment alone has: name -> dotted key -> value.
    """
    chosen = list(dict.fromkeys(names.split("+")))
    for name in [name for name in chosen if name in variants]:
        chosen.remove(name)
        config.experiment += f":{name}"
        config.update_from_flattened_dict(variants[name])
    config.lock()
    ablations.apply(config, "+".join(chosen))
    return config

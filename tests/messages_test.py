"""A user's mistakes: one message each, through the command line itself, and nothing half-made is left."""

import json
import re
import runpy
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from tests.support import runs

ROOT = Path(__file__).resolve().parents[1]
SYNTHETIC = f"--config={ROOT / 'experiments' / 'synthetic.py'}"
OWN = f"--config={ROOT / 'experiments' / 'own.py'}"
PATH = f"{OWN} --config.data.path="


def npz(path, **changes):
    """Write six dialogues of two utterances; a field that is None is left out."""
    random = np.random.default_rng(0)
    fields = {
        "dialogue_id": np.repeat([f"d{k}" for k in range(6)], 2),
        "split": np.repeat(["train", "train", "train", "valid", "test", "test"], 2),
        "label": np.tile([0, 1], 6),
        "label_names": np.array(["calm", "angry"]),
        "text": random.normal(size=(12, 3)).astype(np.float32),
        "audio": random.normal(size=(12, 2)).astype(np.float32),
    }
    np.savez(path, **{name: x for name, x in (fields | changes).items() if x is not None})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder of users' files."""
    folder = tmp_path_factory.mktemp("messages")
    npz(folder / "good.npz")
    npz(folder / "wide.npz", text=np.ones((12, 5), np.float32) * np.arange(12)[:, None])
    npz(folder / "smell.npz", text=None, audio=None, smell=np.random.default_rng(1).normal(size=(12, 4)))
    npz(folder / "unlabelled.npz", label=np.full(12, -1))
    npz(folder / "no_label.npz", label=None)
    npz(folder / "label_7.npz", label=np.full(12, 7))
    npz(folder / "one_class.npz", label=np.zeros(12, int), label_names=np.array(["calm"]))
    npz(folder / "no_train.npz", split=np.repeat(["valid", "test"], 6))
    npz(folder / "no_valid_label.npz", label=np.where(np.repeat([0, 0, 0, 1, 0, 0], 2), -1, np.tile([0, 1], 6)))
    npz(folder / "split_name.npz", split=np.repeat("training-ish", 12))
    npz(folder / "short.npz", label=np.array([0, 1]))
    npz(folder / "all_nan.npz", text=np.full((12, 3), np.nan), audio=np.full((12, 2), np.inf))
    npz(folder / "objects.npz", text=np.array([None] * 12, object))
    (folder / "empty.npz").write_bytes(b"")
    (folder / "words.npz").write_text("hello")
    (folder / "corpus.txt").write_text("hello")
    (folder / "empty_folder").mkdir()
    (folder / "half.csv").write_bytes("dialogue_id,label,text\nd,0,1\n".encode("utf-16")[:-1])
    (folder / "broken.json").write_text('{"dialogue_id": [')
    (folder / "broken.jsonl").write_text('{"speaker": "A", "features": {"text": [1, 2\n')
    (folder / "no_turn.jsonl").write_text("")
    (folder / "narrow.jsonl").write_text('{"speaker": "A", "features": {"text": [1.0, 2.0]}}\n')
    (folder / "nan.jsonl").write_text('{"speaker": "A", "features": {"text": [1.0, "x", 2.0]}}\n')
    (folder / "smell.jsonl").write_text('{"speaker": "A", "features": {"smell": [1.0, 2.0]}}\n')
    (folder / "good.jsonl").write_text('{"speaker": "A", "features": {"text": [1.0, 2.0, 3.0]}}\n')
    (folder / "file").write_text("x")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("x")
    (folder / "nothing.py").write_text("")
    (folder / "syntax.py").write_text("def get_config(:\n")
    (folder / "imports.py").write_text("import no_such_module\n")
    (folder / "manifest.csv").write_text("dialogue_id,speaker\n")
    runs.make(folder / "run")
    runs.make(folder / "damaged")
    (folder / "damaged" / "config.json").write_text("{")
    runs.make(folder / "other_version")
    about = json.loads((folder / "other_version" / "corpus.json").read_text()) | {"format": 99, "version": "9.9"}
    (folder / "other_version" / "corpus.json").write_text(json.dumps(about))
    runs.make(folder / "reshaped")
    config = json.loads((folder / "reshaped" / "config.json").read_text())
    config["model"]["hidden"] = 8
    (folder / "reshaped" / "config.json").write_text(json.dumps(config))
    return folder


def run(module, arguments, place, monkeypatch, capsys, trains=False):
    """Return status and standard error of `python -m module arguments` in the folder, in this process."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("ARIIGCN_DATA", raising=False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    if not trains:
        monkeypatch.setattr("ariigcn_jax.runs.runner.run", lambda *_: sys.exit("it would have trained"))
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.delitem(sys.modules, "config_config", raising=False)  # the file of --config that an earlier test read
    known = set(flags.FLAGS)
    try:
        with warnings.catch_warnings(), pytest.raises(SystemExit) as end:
            warnings.simplefilter("ignore")  # of runpy, that the module is there already
            runpy.run_module(module, run_name="__main__")
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    return end.value.code, capsys.readouterr().err


WRONG = [
    # experiments.run: the configuration
    ("experiments.run", "", "--config is missing"),
    ("experiments.run", "--config=nowhere.py", "nowhere.py: there is no such file"),
    ("experiments.run", "--config nowhere.py", "nowhere.py: there is no such file"),
    ("experiments.run", "--config=empty_folder", "empty_folder"),
    ("experiments.run", "--config=corpus.txt", "corpus.txt"),
    ("experiments.run", "--config=nothing.py", "nothing.py: .*no function get_config"),
    ("experiments.run", "--config=syntax.py", "syntax.py: .*SyntaxError"),
    ("experiments.run", "--config=imports.py", "imports.py: .*no_such_module"),
    ("experiments.run", f"{SYNTHETIC}:no_tgann", "Did you mean no_tgan"),
    ("experiments.run", f"{SYNTHETIC} --config.data.ranked=('text',)", "data.ranked: for files alone"),
    ("experiments.run", f"{SYNTHETIC} seed=3", "'seed=3'.*begin with --"),
    ("experiments.run", f"{SYNTHETIC} --workdri=x", "workdir"),
    ("experiments.run", f"{SYNTHETIC} --config.seed=3 --config.num_epoch=3", "as --config.num_epoch: Did you mean"),
    ("experiments.run", f"{SYNTHETIC} --config.losses.icl.weight=0", 'losses.icl.weight: Did you mean "i[cm]cl"'),
    ("experiments.run", f"{SYNTHETIC} --config.num_epochs=two", "num_epochs='two'.*whole number"),
    ("experiments.run", f"{SYNTHETIC} --config.num_epochs=2.5", "num_epochs='2.5'.*whole number"),
    ("experiments.run", f"{SYNTHETIC} --config.optimizer.lr=fast", "optimizer.lr='fast'.*number"),
    ("experiments.run", f"{SYNTHETIC} --config.eval.test=perhaps", "eval.test='perhaps'.*true or false"),
    ("experiments.run", f"{SYNTHETIC} --config.data.modalities=text", "data.modalities.*generated"),
    ("experiments.run", f"{SYNTHETIC} --config.data.ratings=valence", "data.ratings.*generated"),
    ("experiments.run", f"{SYNTHETIC} --config.losses=3", "losses"),
    ("experiments.run", f"{SYNTHETIC} --config.num_epochs=0", "num_epochs=0 must be at least 1"),
    ("experiments.run", f"{SYNTHETIC} --config.batch_size=-4", "batch_size=-4 must be at least 1"),
    ("experiments.run", f"{SYNTHETIC} --config.seed=-1", "seed=-1 must be at least 0"),
    ("experiments.run", f"{SYNTHETIC} --config.num_seeds=0", "num_seeds=0 must be at least 1"),
    ("experiments.run", f"{SYNTHETIC} --config.members=0", "members=0 must be at least 1"),
    ("experiments.run", f"{SYNTHETIC} --config.data.cross_validation=true", "two members at least.*members=5"),
    (
        "experiments.run",
        f"{SYNTHETIC} --config.data.cross_validation=true --config.members=500",
        "labelled dialogue.*fewer than members=500",
    ),
    ("experiments.run", f"{SYNTHETIC} --config.num_devices=-1", "num_devices=-1"),
    ("experiments.run", f"{SYNTHETIC} --config.num_devices=99", "num_devices=99"),
    ("experiments.run", f"{SYNTHETIC} --config.optimizer.lr=nan", "optimizer.lr=nan must be a positive number"),
    ("experiments.run", f"{SYNTHETIC} --config.optimizer.weight_decay=-1", "optimizer.weight_decay=-1"),
    ("experiments.run", f"{SYNTHETIC} --config.model.hidden=0", "model.hidden=0"),
    ("experiments.run", f"{SYNTHETIC} --config.model.graph.heads=3", "model.graph.heads=3"),
    ("experiments.run", f"{SYNTHETIC} --config.model.dropout=1.5", "model.dropout=1.5"),
    ("experiments.run", f"{SYNTHETIC} --config.model.gan.generator_hidden=0", "model.gan.generator_hidden=0"),
    ("experiments.run", f"{SYNTHETIC} --config.model.contrast_width=0", "model.contrast_width=0 must be at least 1"),
    ("experiments.run", f"{SYNTHETIC} --config.model.graph.past=-2", "model.graph.past=-2"),
    ("experiments.run", f"{SYNTHETIC} --config.discriminator.b1=2", "discriminator.b1=2"),
    ("experiments.run", f"{SYNTHETIC} --config.losses.emotion.fn=cross_entrpy", "Did you mean 'cross_entropy'"),
    ("experiments.run", f"{SYNTHETIC} --config.losses.iccl.weight=-1", "losses.iccl.weight=-1"),
    ("experiments.run", f"{SYNTHETIC} --config.losses.iccl.margin=0.1", "losses.iccl.margin has no effect"),
    ("experiments.run", f"{SYNTHETIC} --config.eval.select=f1", "eval.select='f1'"),
    ("experiments.run", f"{SYNTHETIC} --config.data.task=sorting", "data.task='sorting'"),
    ("experiments.run", f"{SYNTHETIC} --config.seeds_by=magic", "seeds_by='magic'"),
    ("experiments.run", f"{SYNTHETIC} --workdir=file", "file is a file"),
    ("experiments.run", f"{SYNTHETIC} --workdir=full", "thesis.tex"),
    ("experiments.run", f"{SYNTHETIC} --workdir=run", "other options(.|\\n)*model.hidden: 4 →"),
    ("experiments.run", f"{SYNTHETIC} --workdir=damaged", "damaged/config.json"),
    # experiments.run: the corpus
    ("experiments.run", OWN, "--config.data.path=PATH"),
    ("experiments.run", f"{PATH}nowhere.npz", "nowhere.npz"),
    ("experiments.run", f"{PATH}empty.npz", "empty.npz.*empty"),
    ("experiments.run", f"{PATH}words.npz", "words.npz"),
    ("experiments.run", f"{PATH}corpus.txt", "corpus.txt"),
    ("experiments.run", f"{PATH}empty_folder", "empty_folder"),
    ("experiments.run", f"{PATH}broken.json", "broken.json"),
    ("experiments.run", f"{PATH}unlabelled.npz", "label"),
    ("experiments.run", f"{PATH}no_label.npz", "label"),
    ("experiments.run", f"{PATH}label_7.npz", "label.*7"),
    ("experiments.run", f"{PATH}one_class.npz", "only the class 'calm'"),
    ("experiments.run", f"{PATH}no_train.npz", "train"),
    ("experiments.run", f"{PATH}no_valid_label.npz", "no labelled utterance in its validation split"),
    ("experiments.run", f"{PATH}split_name.npz", "training-ish"),
    ("experiments.run", f"{PATH}short.npz", "label"),
    ("experiments.run", f"{PATH}all_nan.npz", "no features in its train split"),
    ("experiments.run", f"{PATH}objects.npz", "text.*pickle"),
    ("experiments.run", f"{PATH}good.npz --config.data.modalities=('smell',)", "smell.*audio"),
    ("experiments.run", f"{PATH}good.npz --config.data.only=('smell',)", "smell.*audio"),
    (
        "experiments.run",
        f"{PATH}good.npz --config.data.ranked=('smell',)",
        "data.ranked names 'smell', but no modality",
    ),
    (
        "experiments.folds",
        f"{PATH}good.npz --config.data.ranked=('smell',) --splits=2folds",
        "data.ranked names 'smell', but no modality",
    ),
    ("experiments.run", f"{PATH}good.npz --config.data.dialogue_normalised=(1,)", "1 is no beginning of a modality"),
    ("experiments.ablate", f"{PATH}good.npz --config.data.ranked=('',) --ablations=no_tgan", "'' is no beginning of"),
    ("experiments.run", f"{PATH}good.npz --config.data.label=mood", "mood"),
    ("experiments.run", f"{PATH}good.npz --config.data.valid_fraction=2", "valid_fraction=2"),
    ("experiments.run", f"{PATH}good.npz --config.data.task=multilabel", "multilabel"),
    # the other commands that train
    ("experiments.ablate", SYNTHETIC, "--ablations is missing"),
    ("experiments.ablate", f"{SYNTHETIC} --ablations=no_icll", "Did you mean no_i"),
    ("experiments.ablate", f"{SYNTHETIC} --ablations=no_iccl,no_iccl", "no_iccl.*twice"),
    ("experiments.ablate", f"{SYNTHETIC} --ablations=no_iccl --seeds=0", "seeds"),
    ("experiments.ablate", f"{SYNTHETIC} --ablations=no_iccl --seeds=two", "seeds"),
    ("experiments.sweep", SYNTHETIC, "--sweep"),
    ("experiments.sweep", f"{SYNTHETIC} --sweep=margn", "Did you mean margin"),
    ("experiments.sweep", f"{SYNTHETIC} --grid model.hiden=4,8", "model.hiden.*[Dd]id you mean.*hidden"),
    ("experiments.sweep", f"{SYNTHETIC} --grid model.hidden", "KEY=VALUES"),
    ("experiments.sweep", f"{SYNTHETIC} --grid model.hidden=4,x", "model.hidden"),
    ("experiments.sweep", f"{SYNTHETIC} --random optimizer.lr=log:1:x", "optimizer.lr"),
    ("experiments.controlled", "--studies=iccl_seperation", "iccl_separation"),
    ("experiments.run", "--reproduce=nowhere", "nowhere has no config.json"),
    ("experiments.run", "--reproduce=run", "run has no .*finished run"),
    ("experiments.run", f"{PATH}good.npz --config.data.split=x", "data.split=x: write what is held out"),
    ("experiments.run", f"{PATH}good.npz --config.data.split=speaker=Ann", "speaker"),
    ("experiments.run", f"{PATH}good.npz --config.data.relabel=x", "data.relabel=x: 'x' is not one class"),
    ("experiments.run", f"{PATH}good.npz --config.data.relabel=clam=calm", "no class 'clam'.*Did you mean calm"),
    ("experiments.run", f"{PATH}good.npz --config.data.ratings=('label_names',)", "label_names.*numbers"),
    ("experiments.folds", f"{PATH}good.npz --splits=", "splits"),
    ("experiments.folds", f"{PATH}good.npz --splits=9folds", "fewer than 9 folds"),
    ("experiments.ablate", f"{PATH}good.npz --ablations=no_ratings", "no_ratings changes nothing"),
    ("tools.robustness", "nowhere", "nowhere"),
    ("tools.robustness", "run --draws 0", "draws"),
    ("experiments.controlled", "--studies=iccl_separation --seeds=0", "seeds"),
    ("tools.bench", "--only=speed", "--only.*speed"),
    # what reads a run
    ("tools.predict", "--run nowhere good.jsonl", "nowhere"),
    ("tools.predict", "--run full good.jsonl", "full: is not the folder of a run"),
    ("tools.predict", "--run damaged good.jsonl", "damaged"),
    ("tools.predict", "--run other_version good.jsonl", "version"),
    (
        "tools.predict",
        "--run reshaped good.jsonl",
        r"bias for one is \(8,\), and the network takes \(16,\)",
    ),
    ("tools.predict", "--run run nowhere.jsonl", "nowhere.jsonl"),
    ("tools.predict", "--run run empty_folder", "empty_folder"),
    ("tools.predict", "--run run broken.jsonl", "broken.jsonl.*1"),
    ("tools.predict", "--run run no_turn.jsonl", "no_turn.jsonl"),
    ("tools.predict", "--run run narrow.jsonl", "text.*3.*2|text.*2.*3"),
    ("tools.predict", "--run run nan.jsonl", "text"),
    ("tools.predict", "--run run smell.jsonl", "smell.*text"),
    ("tools.predict", "--run run wide.npz", "text.*5"),
    ("tools.predict", "--run run smell.npz", "smell.*text"),
    ("tools.predict", "--run run good.jsonl --seed 5", "seeds 0, not 5"),
    ("tools.predict", "--run run good.jsonl --seed five", "five"),
    ("tools.predict", "--run run good.jsonl --dialogue x", "no dialogue 'x'"),
    ("tools.predict", "--run run good.jsonl --format xml", "xml"),
    ("tools.export", "--run full --out exported", "full"),
    ("tools.export", "--run run --out full", "full"),
    ("tools.latency", "--run full", "full"),
    ("tools.latency", "--run run --repeats 0", "repeats"),
    ("tools.report", "full", "full"),
    ("tools.report", "file", "file"),
    ("tools.align", "full", "full"),
    ("tools.align", "nowhere", "nowhere"),
    # what reads a corpus
    ("tools.prepare", "inspect nowhere.npz", "nowhere.npz"),
    ("tools.prepare", "validate words.npz", "words.npz"),
    ("tools.prepare", "inspect good.npz --valid-fraction lots", "lots"),
    ("tools.prepare", "inspect good.npz --valid-fraction=-1", "valid_fraction=-1"),
    ("tools.prepare", "convert good.npz full", "full: something else"),
    ("tools.prepare", "convert good.npz made --label-names=calm", "2 different names"),
    ("tools.prepare", "mend good.npz", "mend"),
    ("tools.features", "extract --manifest nowhere.csv --out features.npz --text x", "nowhere.csv"),
    ("tools.features", "extract --manifest half.csv --out features.npz --text x", "half.csv: cannot be read as text"),
    ("tools.features", "extract --manifest manifest.csv --out features.npz --text x", "manifest.csv"),
    ("tools.features", "manifest --release iemocap nowhere --out m.csv", "nowhere"),
]


def contents(place):
    """Return the paths of a folder, and when files were written."""
    paths = [p for p in place.rglob("*") if p.name != ".lock" and "pycache" not in str(p)]
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in paths}


@pytest.mark.parametrize(("module", "arguments", "words"), WRONG, ids=[f"{m} {a}".split("/")[-1] for m, a, _ in WRONG])
def test_mistake_is_one_message(place, monkeypatch, capsys, module, arguments, words):
    before = contents(place)
    status, error = run(module, arguments.split(), place, monkeypatch, capsys)
    assert status in (1, 2)
    assert "Traceback" not in error and "error" in error.splitlines()[-1] + error.splitlines()[0]
    assert re.search(words, error), error
    assert contents(place) == before, "something was changed or left behind"


@pytest.mark.parametrize(
    ("module", "arguments", "package", "extra"),
    [
        ("tools.export", "--run run --out exported", "safetensors", "export"),
        ("tools.report", "run", "plotly", "report"),
        ("tools.report", "run", "jinja2", "report"),
        ("tools.predict", "--run run good.jsonl --html page.html", "jinja2", "report"),
        ("tools.predict", "--run run good.jsonl --html page.html", "jinja2", "report"),
        ("tools.align", "run", "sklearn", "report"),
        ("experiments.controlled", "--studies=iccl_separation", "sklearn", "report"),
    ],
)
def test_missing_extra_is_named(place, monkeypatch, capsys, module, arguments, package, extra):
    monkeypatch.setitem(sys.modules, package, None)  # to Python it is not there
    status, error = run(module, arguments.split(), place, monkeypatch, capsys)
    assert status == 1 and "Traceback" not in error
    assert package.replace("sklearn", "scikit-learn") in error and extra in error

"""Models that read words: whole conversations, streams and exports say what the run said; damage has one message."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import ariigcn_jax
from ariigcn_jax import cli
from ariigcn_jax.commands import predict
from ariigcn_jax.commands.align import align
from ariigcn_jax.commands.finished import as_read, by_vectors, models
from ariigcn_jax.commands.robustness import measure
from ariigcn_jax.data import tokens as tokenizing
from ariigcn_jax.inference import export, standalone
from ariigcn_jax.runs import session
from ariigcn_jax.types import UserError
from tests.support import runs, spoken
from tests.support.encoders import WORDS, tiny_encoder

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A run whose vectors are of a frozen encoder that reads a turn before and one after."""
    return spoken.train(tmp_path_factory.mktemp("frozen"), {"model.text.turns": 1})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two seeds whose two members, generators among them, each trained the last layer of an encoder."""
    options = {"model.text.train": "last_1", "members": 2, "num_seeds": 2, "losses.adversarial.weight": 0.1}
    return spoken.train(tmp_path_factory.mktemp("trained"), options)


@pytest.fixture(params=["frozen", "trained"])
def run(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def conversation(length=12, seed=0, silent=(3,)):
    """Utterances of which some have sound too, and some no words."""
    random = np.random.default_rng(seed)
    said = [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(length)]
    made = [{"speaker": "Ann" if random.random() < 0.6 else "Bob", "text": text} for text in said]
    made[0]["features"] = {"audio": [3.0, 2.0]}
    for turn in silent:
        made[turn]["text"] = None
    return made


def spread(one, other):
    return np.abs(np.asarray(one) - np.asarray(other)).max()


def written(run, seed, names):
    """Utterance -> the probabilities in the run's predictions."""
    with (run / "predictions" / f"seed_{seed}.csv").open() as file:
        return {row["utterance_id"]: [float(row[f"p_{name}"]) for name in names] for row in csv.DictReader(file)}


def test_a_table_of_words_is_answered_as_by_the_run(run):
    for model in models(run):
        prediction = model(predict.read(str(run.parent / "table.csv"), model))
        got = dict(zip(prediction.corpus.utterance_ids, prediction.probabilities, strict=True))
        expected = written(run, model.seed, model.label_names)
        assert max(spread(got[u], x) for u, x in expected.items()) < 2e-6
        assert spread(*list(expected.values())[:2]) > 1e-3
        assert np.ptp([prediction.contribution["words"]]) > 1e-3


def test_members_take_the_vectors_of_their_own_encoders(trained):
    model = ariigcn_jax.load(trained)
    assert model.widths == {"words": 32, "audio": 2}
    vectors = model.prepare(predict.read(str(trained.parent / "table.csv"), model)).features["words"]
    assert spread(vectors[:, :16], vectors[:, 16:]) > 1e-2
    first, second = ariigcn_jax.load(trained, seed=0).words, ariigcn_jax.load(trained, seed=1).words
    assert first.params[0]["words"]["embedding"] is first.params[1]["words"]["embedding"]
    assert not np.array_equal(*(w.params[0]["layer_1"]["contract"]["kernel"] for w in (first, second)))


def test_words_are_read_from_dictionaries_and_lines(run, tmp_path, capsys):
    model, said = ariigcn_jax.load(run), conversation()
    whole = model(said)
    assert [u.missing for u in whole][:4] == [(), ("audio",), ("audio",), ("words", "audio")]
    named = [{("transcript" if k == "text" else k): v for k, v in u.items()} for u in said]
    assert spread(model(named).probabilities, whole.probabilities) == 0
    file = tmp_path / "c.jsonl"
    file.write_text("".join(json.dumps({k: v for k, v in u.items() if v is not None}) + "\n" for u in said[:3]))
    assert spread(model(predict.read(str(file), model)).probabilities, model(said[:3]).probabilities) == 0
    assert cli.main(["predict", "--run", str(run), str(file), "--jsonl", "-"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["emotion"] for line in lines] == model(said[:3]).emotions
    alone = [{"speaker": "Ann", "features": {"audio": [1.0, 2.0]}}]  # without any words
    assert model(alone)[0].missing == ("words",)


def test_a_stream_says_what_the_whole_says(run):
    model, dialogues = (
        ariigcn_jax.load(run),
        {d: conversation(n, n, (n // 2,)) for d, n in (("a", 15), ("b", 1), ("c", 4))},
    )
    stream = model.stream(explain=True)
    graph, around = 1, model.config.model.text.turns  # the graph looks one utterance ahead
    assert (stream.delay, stream.length) == (graph + around, 4)
    got = []
    for turn in range(15):
        now = [said[turn] | {"dialogue_id": d} for d, said in dialogues.items() if turn < len(said)]
        answers = stream.push_all(now)
        assert all(answer.turn == turn - stream.delay for answer in answers)
        got += answers
        for d in [d for d, said in dialogues.items() if turn == len(said) - 1]:
            got += stream.finish(d)
    assert stream.dialogue_ids == ()
    expected = [record for d, said in dialogues.items() for record in model([u | {"dialogue_id": d} for u in said])]
    for one, other in zip(sorted(got, key=lambda r: (r.dialogue_id, r.turn)), expected, strict=True):
        assert (one.utterance_id, one.missing, one.speaker) == (other.utterance_id, other.missing, other.speaker)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.contribution == pytest.approx(other.contribution, abs=1e-5)


ANSWER = """
import json, sys
sys.path.insert(0, ".")
sys.modules.update({name: None for name in ("ariigcn_jax", "flax", "jraph", "optax", "orbax", "transformers")})
from emotions import load
print(json.dumps(load(".")(json.load(sys.stdin))))
"""


def test_the_export_answers_from_words_alone(run, tmp_path):
    model, said = ariigcn_jax.load(run), conversation(20)
    folder = export.write(model, tmp_path / "out", platforms=("cpu",))
    expected = model(said).probabilities
    done = subprocess.run(
        [sys.executable, "-I", "-c", ANSWER], cwd=folder, input=json.dumps(said), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert spread([list(one["probabilities"].values()) for one in json.loads(done.stdout)], expected) < 1e-5
    (folder / "model.stablehlo").unlink()
    again = standalone.load(export.refresh(folder))
    assert spread([list(one["probabilities"].values()) for one in again(said)], expected) < 1e-5
    card = (folder / "README.md").read_text()
    assert '"text": "Oh no!", "features": {"audio": [0.0] * 2}' in card
    assert f"`encoder` (checksum {model.words.encoder.pretrained.digest})" in card
    assert ("was not trained" if run.parent.name.startswith("frozen") else "each of the 2 networks") in card
    assert "their licence holds" in card


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("turns", [(0, 0), (2, 0), (2, 2)])
def test_exported_tokens_are_those_of_training(tmp_path, pooling, turns):
    tokenizer = tokenizing.tokenizer(tiny_encoder(tmp_path / "e") / "tokenizer.json")
    said = [*conversation(9, silent=(2, 3)), {"text": " ".join(WORDS[:40])}, {"speaker": 7, "text": "no"}]
    options = dict(limit=20, pooling=pooling, turns=turns)
    texts, names = [u["text"] or "" for u in said], [str(u.get("speaker", "")) for u in said]
    expected, _ = tokenizing.tokens(tokenizer, texts, speakers=names, **options)
    got = standalone.tokens(options, tokenizer, said, 12)
    for u, start in enumerate(expected.start[:-1]):
        size, end = expected.lengths[u], expected.start[u + 1]
        assert got["ids"][0, u, :size].tolist() == expected.ids[start:end].tolist()
        assert got["pooled"][0, u, :size].tolist() == expected.pooled[start:end].tolist()
        assert (got["ids"][0, u, size:] == -1).all() and not got["pooled"][0, u, size:].any()


def test_tools_read_the_run_s_own_corpus(run):
    of_seeds = models(run)
    corpus = as_read(of_seeds[0], "test")
    groups = by_vectors(of_seeds, corpus)
    assert len(groups) == len(of_seeds)
    results = json.loads((run / "results.json").read_text())["test"]["accuracy"]["per_seed"]
    content = measure(run, "test", 1)
    whole = content["rows"][0]
    assert whole["condition"] == "0% missing"
    assert whole["scores"]["accuracy"]["per_seed"] == pytest.approx(results)
    without = next(row for row in content["rows"] if row["condition"] == "only audio")
    silent = dataclasses.replace(corpus, transcript=np.full(len(corpus), ""))
    assert np.isfinite(without["scores"]["accuracy"]["per_seed"]).all()
    assert not of_seeds[0].prepare(silent).present["words"].any()
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: report)")
    stages = {row["stage"] for row in align(run, "train")["rows"]}
    assert stages == {"code", "hidden", *(["generated"] if len(of_seeds) > 1 else [])}
    table = run.parent / "table.csv"
    text = table.read_text()
    try:
        table.write_text(text.replace('happy"', 'glad"', 1))
        with pytest.raises(UserError, match=r"has changed since it was trained on \(features of words"):
            as_read(of_seeds[0], "test")
    finally:
        table.write_text(text)


def test_utterances_that_cannot_be_read_are_refused(frozen, tmp_path):
    model = ariigcn_jax.load(frozen)
    for wrong, message in (
        ({"text": "no", "transcript": "yes"}, "`text` and `transcript` are two names of the same, and differ"),
        ({"speaker": "Ann"}, r"must be an object with one list of numbers a modality \(or `text`"),
        ({"text": ["no"]}, "`text` is list; it must be text"),
    ):
        with pytest.raises(UserError, match=message):
            model([wrong])
        with pytest.raises(UserError, match=message):
            model.stream().push(wrong)
    with pytest.raises(UserError, match="no utterance has features of any modality or words"):
        model([{"text": ""}])
    other = runs.load(tmp_path / "run")
    for use in (lambda said: other(said), lambda said: other.stream().push_all(said)):
        with pytest.raises(UserError, match="has words but no `features`, and no text encoder reads them here"):
            use([{"speaker": "Ann", "text": "oh no"}])
    assert other([{"text": "oh no", "features": {"text": [1, 2, 3]}}])[0].missing == ("audio",)


def test_damaged_folders_have_one_message(copy):
    shutil.move(copy / "text_encoder", copy / "away")
    with pytest.raises(UserError, match="the folder text_encoder, with the text encoder, is missing"):
        ariigcn_jax.load(copy)
    tiny_encoder(copy / "text_encoder", seed=1)
    with pytest.raises(UserError, match=r"text_encoder: is damaged, or not the text encoder .* its checksum differs"):
        ariigcn_jax.load(copy)
    shutil.rmtree(copy / "text_encoder")
    shutil.move(copy / "away", copy / "text_encoder")
    ariigcn_jax.load(copy)
    (copy / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"text_encoder: has no model.safetensors"):
        ariigcn_jax.load(copy)


def test_a_run_goes_on_with_its_own_copy_of_the_encoder(copy, tmp_path):
    config = json.loads((copy / "config.json").read_text())
    options = spoken.options(tmp_path, {"model.text.train": config["model"]["text"]["train"]})
    shutil.rmtree(tmp_path / "encoder")
    with pytest.raises(UserError, match="encoder"):
        session.load(options)
    assert session.load(options, run=copy).encoder[0] == copy / "text_encoder"
    with open(copy / "text_encoder" / "model.safetensors", "ab") as weights:
        weights.write(b"0")
    with pytest.raises(UserError, match="encoder"):
        session.load(options, run=copy)


def test_parameters_of_another_encoder_are_refused(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["model"]["text"]["train"] = "last_2"
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"text_encoder/layer_0/.* for one is not there, and the network takes"):
        ariigcn_jax.load(copy)

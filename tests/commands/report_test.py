"""The page: it holds what the runs hold, escapes every string, needs no network, and says what is missing."""

import html.parser
import json
import re
import shutil
import subprocess
import types

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report is an extra: pip install 'ariigcn-jax[report]'")
pytest.importorskip("plotly", reason="the report is an extra: pip install 'ariigcn-jax[report]'")

from plotly.offline import get_plotlyjs

from ariigcn_jax import cli
from ariigcn_jax.commands.report import charts, dialogue, page
from ariigcn_jax.commands.report.runs import read
from ariigcn_jax.objective import tasks
from ariigcn_jax.options import base
from ariigcn_jax.runs import results
from ariigcn_jax.runs.results import MEAN
from ariigcn_jax.training import diagnostics
from ariigcn_jax.types import UserError
from tests.support import builders

EVIL = "</script><img src=x onerror=alert(1)>&'\""
NAMES = ("calm", EVIL, "%{x}")


def scores(seed, count=12):
    confusion = np.random.default_rng(seed).integers(0, 5, (3, 3)) + count * np.eye(3, dtype=int)
    numbers = dict.fromkeys(tasks.get("classification").metrics, 0.5 + 0.01 * seed)
    numbers |= dict(class_accuracy=np.full(3, 0.4), class_f1=np.array([0.3, 0.45, 0.6]) + 0.01 * seed)
    return numbers | dict(support=confusion.sum(axis=1), confusion=confusion)


def make_run(folder, seeds=(0, 1), epochs=7, finished=True, aligned=True, **options):
    """A work directory as a run leaves it, without a checkpoint."""
    folder.mkdir(parents=True)
    config = base.get_config()
    config.num_seeds = len(seeds)
    config.update_from_flattened_dict(options)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "environment.json").write_text(json.dumps({"git": {"commit": "0123456789abcdef"}, "date": "2030-01-01"}))
    measures = {
        "self_weight": {f"{EVIL}/0": [0.95] * len(seeds)},
        "gradient_share": {"emotion": [0.9] * len(seeds), "iccl": [0.1] * len(seeds)},
    }
    rows = [
        {
            "epoch": k,
            "train": {"total": [2.0 / k] * len(seeds), "iccl": [1.0] * len(seeds), "gradient_norm": [1.0] * len(seeds)},
            "valid": {"weighted_f1": [0.1 * k] * len(seeds)},
            "diagnostics": measures,
        }
        for k in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"epoch": 99, "tr')
    if finished:
        about = dict(experiment="tiny", task="classification", label_names=NAMES, seeds=list(seeds), members=1)
        about |= dict(cross_validation=False, select="weighted_f1", epoch="best", selected_epochs=[3] * len(seeds))
        per_seed = [scores(s) for s in seeds]
        content = results.results(about, per_seed, per_seed, {"total": 1.0})
        bins = dict(count=[0, 24], confidence=[None, 0.75], accuracy=[None, 0.625])
        content["reliability"] = {"test": {"before": bins, "after": bins}}
        error = {"per_seed": [0.125] * len(seeds)}
        content["calibration_error"] = {"test": {"before": error, "after": error}}
        (folder / "results.json").write_text(json.dumps(content))
    if aligned:
        pair = dict(stage="code", first="text", second=EVIL, utterances=9, p=[0.01, 0.02])
        pair |= {name: [0.5, 0.7] for name in ("mmd2", "coral", "a_distance", "frechet", "accuracy")}
        maps = dict(point=[[0, 1], [1, 0], [2, 2]], modality=[0, 1, 1], label=[0, 1, -1])
        content = dict(run="x", split="test", modalities=["text", EVIL], label_names=NAMES, seeds=[0, 1])
        content |= dict(rows=[pair], projections={"code": maps})
        (folder / "alignment.json").write_text(json.dumps(content))
    return folder


def make_page(folder, *arguments):
    """Text of the page that the command writes, and its exit status."""
    output = folder / "out" / "page.html"
    status = cli.main(["report", *map(str, arguments), "--count=0", f"--output={output}"])
    return output.read_text() if output.exists() else "", status


class Reader(html.parser.HTMLParser):
    """Tags, addresses in attributes, and what a reader sees outside scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.words, self._inside = [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = tag
        self.addresses += [v for k, v in attrs if k in ("src", "href") and not v.startswith("#")]
        assert not [k for k, _ in attrs if k.startswith("on")]

    def handle_data(self, data):
        if self._inside not in ("script", "style") and data.strip():
            self.words += data

    def handle_endtag(self, tag):
        self._inside = None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of two runs, as text and as read by a browser's rules."""
    folder = tmp_path_factory.mktemp("report")
    first = make_run(folder / "full")
    second = make_run(folder / EVIL.replace("/", "_"), aligned=False, **{"losses.iccl.weight": 0.0})
    text, status = make_page(folder, first, second)
    assert status == 0
    return text, Reader(text)


def test_every_section_is_there(written):
    text, _ = written
    for anchor in (
        "summary",
        "configuration",
        "results",
        "classes",
        "confusion",
        "calibration",
        "curves",
        "failures",
        "alignment",
    ):
        assert f'id="{anchor}"' in text and f'href="#{anchor}"' in text


def test_strings_of_data_are_text(written):
    text, reader = written
    assert "img" not in reader.tags and "onerror=alert" in reader.words
    data = text.replace(get_plotlyjs(), "")
    assert "<img" not in data and EVIL not in data
    # inside charts too, where < would be read as HTML once more: there it is escaped twice over
    assert "\\u003cimg" not in data and "&lt;img" in data


def test_strings_of_a_figure_are_escaped_once_and_may_have_several_lines():
    figure = charts.chart(EVIL).add_scatter(x=[EVIL], y=[1], hovertext=["one\ntwo <b>"])
    figure.layout.updatemenus = [dict(buttons=[dict(label="<i>")])]
    text = re.sub(r"\\u003[ce]|\\u002f", lambda found: json.loads(f'"{found[0]}"'), page.html(figure))
    assert "one<br>two &lt;b&gt;" in text and '"&lt;i&gt;"' in text
    assert text.count("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&amp;'\\\"") == 2
    assert "&amp;lt;" not in text and EVIL not in text


def test_page_asks_for_nothing_from_outside(written):
    text, reader = written
    assert reader.addresses == []
    assert "Content-Security-Policy" in text and "default-src 'none'" in text
    assert re.findall(r"<(?:link|iframe|object|embed|script[^>]*src)", text.replace(get_plotlyjs(), "")) == []


def test_configuration_shows_what_differs_and_only_that(written):
    _, reader = written
    words = reader.words[reader.words.index("Options in which the runs differ") :]
    assert "losses.iccl.weight0.10.0" in words and "0123456789" in reader.words
    assert "model.hidden" not in words


def test_scores_have_student_intervals(written):
    _, reader = written
    # 0.50 and 0.51: their mean ± 12.706 · 0.00707 / √2, in %
    assert "50.50 ± 6.35" in reader.words


def test_permutation_tests_are_listed(written):
    assert f"pairfullcode: text – {EVIL}0.010 to 0.020" in written[1].words


def test_summary_comes_first(written):
    text, reader = written
    summary = reader.words[: reader.words.index("In %, epoch chosen on validation")]
    assert text.index('id="summary"') < text.index('id="results"') < text.index('id="configuration"')
    # of the classes the third is the best; F1 is 0.60 + 0.01 · seed, of two seeds
    assert "50.50 ± 6.35 weighted F1, test, 2 seeds" in summary
    assert "%{x} 60.5calm 30.512.50 ± 0.00 %1" in summary  # the best class, the weakest, calibration, warnings


def test_sections_without_content_are_left_out(tmp_path):
    alone = make_run(tmp_path / "alone", seeds=(0,), finished=False, aligned=False, epochs=1)
    text, _ = make_page(tmp_path, alone)
    assert re.findall(r'<h2 id="(\w+)"', text) == ["summary", "failures", "configuration"]
    assert "under way, 1 epoch done" in Reader(text).words
    one = make_run(tmp_path / "one", seeds=(0,), aligned=False, epochs=1)
    text, _ = make_page(tmp_path, one)
    assert re.findall(r'<h2 id="(\w+)"', text)[:4] == ["summary", "results", "classes", "confusion"]
    assert "chart" not in text[text.index('id="results"') : text.index('id="classes"')]  # a single dot says nothing


def test_legends_are_beside_charts_and_name_the_traces_that_a_click_hides():
    figure = charts.chart("")
    assert page.html(figure) == ""  # no empty chart
    charts._band(figure, [1, 2], np.array([[0.1, 0.2], [0.3, 0.4]]), EVIL, "#0072b2")
    assert "<button" not in page.html(figure)  # a single name needs no legend
    charts._band(figure, [1, 2], np.array([[0.1], [0.3]]), "plain", "#d55e00")
    figure.add_scatter(x=[None], y=[None], mode="markers", name="explains", marker=dict(color="#009e73"))
    text = str(page.html(figure))
    assert re.findall(r'data-traces="(.*?)"( disabled)?>', text) == [("[0, 1]", ""), ("[2]", ""), ("[3]", " disabled")]
    assert EVIL not in text and "border-top: 3px solid #d55e00" in text and "background: #009e73" in text
    assert '"showlegend":false' in re.sub(r"\s", "", text[text.rindex('"xaxis"') :])


def test_warnings_are_those_of_the_log(written):
    _, reader = written
    assert f"From epoch {diagnostics.PATIENCE}: attention stays with the utterance itself" in reader.words


def test_what_is_missing_is_said(written, tmp_path):
    assert "python -m tools.align" in written[1].words
    alone = make_run(tmp_path / "alone", finished=False, aligned=False, epochs=2)
    text, status = make_page(tmp_path, alone)
    words = Reader(text).words
    assert status == 0
    assert "under way, 2 epochs done" in words and "No run is finished yet" in words
    assert "All are the defaults" not in words and "num_seeds12" in words  # a single run: against the defaults
    assert "No signature lasted" in words


@pytest.mark.slow
def test_browser_draws_every_chart_without_complaint(written, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    text, _ = written
    (tmp_path / "page.html").write_text(text)
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'browser'}"]
    done = subprocess.run([*command, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=300)
    charts = text.count('class="plotly-graph-div"')
    assert charts == 16
    assert len(re.findall(r'class="plot-container', done.stdout)) == charts
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


def test_curves_over_a_swept_margin_are_drawn_for_each_emotion(tmp_path):
    block = dict(mean=0.5, std=0.01, per_seed=[0.5, 0.51])
    by_class = dict(mean=[0.1, 0.2, 0.3], std=[0] * 3, per_seed=[[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]])
    rows = [
        dict(values={"losses.iccl.margin": v}, selected=v == 0.5, valid=dict(weighted_f1=block, class_f1=by_class))
        for v in (0.5, 0.1)
    ]
    folder = tmp_path / "sweep"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "results.json").write_text(json.dumps({"label_names": NAMES}))
    content = dict(split="valid", select="weighted_f1", seeds=[0, 1], rows=rows)
    (folder / "sweep.json").write_text(json.dumps(content))
    text, status = make_page(tmp_path, folder)
    assert status == 0
    assert "F1 of calm" in text
    assert "losses.iccl.margin = 0.5 has the best validation weighted F1 of 2 settings." in Reader(text).words
    _, (study,) = read([folder])
    assert text.count('class="plotly-graph-div"') == 1 + len(NAMES) == 1 + len(study.label_names)


@pytest.mark.parametrize(
    ("select", "difference"), [("weighted_f1", "−1.20−2.00 to +0.40"), ("mae", "−0.012−0.020 to +0.004")]
)
def test_ablations_are_listed_with_their_intervals(tmp_path, select, difference):
    full = dict(ablation="full", split="test", score=select, mean=0.6, std=0.1, per_seed=[0.55, 0.65])
    less = full | dict(ablation="no_tgan", difference=-0.012, low=-0.02, high=0.004, p=0.031, corrected=0.062)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "ablations.json").write_text(json.dumps(dict(seeds=[0, 1], select=select, rows=[full, less])))
    text, status = make_page(tmp_path, folder)
    words = Reader(text).words
    assert status == 0 and "no_tgan" in words
    assert "set: of 1 ablations these clearly differ from the full model" in words and words.count(": none.") == 1
    assert f"{difference}0.0310.062" in words


def test_folds_are_listed_with_their_mean_and_their_classes(tmp_path):
    def scores(fold, count, **per_seed):
        return [
            dict(fold=fold, score=k.replace("_of_", " of "), utterances=count, per_seed=v) for k, v in per_seed.items()
        ]

    rows = scores("session1", 4, accuracy=[0.5, 0.6], weighted_f1=[0.4, 0.5], f1_of_joy=[0.1, 0.3])
    rows += scores(EVIL, 1008, accuracy=[0.7, 0.7], weighted_f1=[0.8, 0.9], f1_of_joy=[0.5, 0.7])
    rows += scores(MEAN, 1012, accuracy=[0.6, 0.65], weighted_f1=[0.6, 0.7], f1_of_joy=[0.3, 0.5])
    folder = tmp_path / "held out"
    folder.mkdir()
    (folder / "folds.json").write_text(json.dumps(dict(seeds=[0, 1], select="weighted_f1", rows=rows)))
    text, status = make_page(tmp_path, folder)
    words = Reader(text).words
    assert status == 0 and "held out" in words and 'id="folds"' in text
    assert f"test weighted F1 of 2 folds is between 45.00 (session1) and 85.00 ({EVIL})." in words
    # the chosen metric first; 12.706 · 0.0707 / √2 is half an interval of 0.4 and 0.5
    assert "test splitutterancesweighted F1accuracy" in words
    assert "session1445.00 ± 63.5355.00 ± 63.53" in words
    assert f"{EVIL}1,00885.00 ± 63.5370.00 ± 0.00" in words
    assert "test splitutterancesF1 of joysession1420.00 ± " in words
    assert f"{MEAN}1,01265.00 ± 63.53" in words


def test_damaged_log_is_refused(tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    (folder / "metrics.jsonl").write_text("{oops}\n")
    assert make_page(tmp_path, folder) == ("", 1)
    assert "metrics.jsonl: damaged" in capsys.readouterr().err


# --- Conversations ----------------------------------------------------------------------------------------------------


def conversation(**changes):
    weights = np.zeros((4, 4))
    weights[3] = [0.7, 0.1, 0.1, 0.1]
    weights[:3, :3] = 1 / 3
    fields = dict(
        name=EVIL,
        speaker=["Ann", "Ben", "Ann", EVIL],
        utterance=[f"u{k}" for k in range(4)],
        transcript=["so", "what", "then", f"secret {EVIL}"],
        label=np.array([0, 1, -1, 2]),
        probability=np.eye(3)[[0, 0, 1, 2]] * 0.8 + 0.2 / 3,
        label_names=NAMES,
        attention={("text", 0): weights, ("audio", 0): weights.T},
    )
    return dialogue.Conversation(**fields | changes)


def test_windows_of_weights_become_square_matrices():
    options = types.SimpleNamespace(graph=types.SimpleNamespace(past=1, future=2))
    model = types.SimpleNamespace(model=types.SimpleNamespace(options=options), modalities=("audio", "text"))
    weights = np.random.default_rng(0).uniform(size=(2, 8, 4, 3))  # layers, slots, window, heads
    found = dialogue._square(types.SimpleNamespace(attention={"text": weights}), model, count=5, length=8)
    assert list(found) == [("text", 0), ("text", 1)]
    for layer in range(2):
        for receiver, sender in np.ndindex(5, 5):
            slot = sender - receiver + 1
            expected = weights[layer, receiver, slot].mean() if 0 <= slot < 4 else 0
            assert found["text", layer][receiver, sender] == pytest.approx(expected)


def test_lines_are_the_strong_edges_from_sender_to_receiver():
    figure = dialogue.draw(conversation(), False)
    lines = [t for t in figure.data if t.mode == "lines" and t.visible]
    (edge,) = [t for t in lines if t.x]
    # 0.7 of a quarter each is the only weight above 1.25 × uniform: from turn 1, Ann's lane, to turn 4, the third lane
    assert (edge.x[0], edge.x[-2], edge.y[0], edge.y[-2]) == pytest.approx((1, 4, 0, 2))
    assert edge.x.count(None) == 1
    assert len(figure.layout.updatemenus[0].buttons) == 2


def test_discs_are_predicted_and_rings_true():
    figure = dialogue.draw(conversation(), False)
    ring, _, disc = [t for t in figure.data if t.mode == "markers" and t.hovertext]
    assert list(disc.marker.color) == [charts.colour(k) for k in (0, 0, 1, 2)]
    assert [ring.marker.color[k] for k in (0, 1, 3)] == [charts.colour(k) for k in (0, 1, 2)]
    assert ring.marker.color[2] not in charts.COLOURS
    assert list(disc.y) == [0, 1, 0, 2] and list(disc.x) == [1, 2, 3, 4]
    assert "predicted: calm (87%)" in disc.hovertext[0] and "true: unlabelled" in disc.hovertext[2]


def test_transcripts_come_only_when_asked_for_and_escaped():
    silent, loud = (page.html(dialogue.draw(conversation(), t)) for t in (False, True))
    assert "secret" not in silent and "secret" in loud
    for text in (silent, loud):
        assert EVIL not in text and "\\u003cimg" not in text


def test_conversations_are_chosen_by_name_or_by_their_emotions():
    corpus = builders.corpus([3, 6, 60], classes=4, seed=2)
    emotions = [len(set(corpus.label[corpus.dialogue == d])) for d in range(3)]
    best = int(emotions[1] > emotions[0])
    assert dialogue.choose(corpus, [], 1) == [best]
    assert dialogue.choose(corpus, ["dialogue 2", "dialogue 0"], 1) == [2, 0]
    with pytest.raises(UserError, match=r"no dialogue 'x'.*dialogue 0, dialogue 1"):
        dialogue.choose(corpus, ["x"], 1)

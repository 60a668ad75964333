"""The page of a conversation in a browser: what it shows, what a click does, and that strings from data stay such."""

import dataclasses
import json
import re
import shutil

import pytest

from ariigcn_jax.commands import conversation_page
from tests.support import runs

pytest.importorskip("jinja2", reason="jinja2 is not installed (extra: report)")
pytest.importorskip("plotly", reason="plotly is not installed (extra: report)")
pytestmark = pytest.mark.usefixtures("quick_compilation")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SAID = "xyzzy was said"
EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


@pytest.fixture(scope="module")
def prediction(tmp_path_factory):
    model = runs.load(tmp_path_factory.mktemp("run") / "a")
    evil = {"transcript": f"{SAID} {EVIL}", "label": "class 1"}
    first = [{**u, **evil, "speaker": EVIL} for u in runs.conversation(6, missing=0, dialogue_id="first")]
    second = [{**u, "features": {"text": u["features"]["text"]}} for u in runs.conversation(4, missing=0)]
    third = runs.conversation(70, dialogue_id="long")
    return model([*first, *({**u, "dialogue_id": EVIL} for u in second), *third])


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL).group(1))


def test_data_on_the_page_is_the_prediction(prediction):
    page = conversation_page.html(prediction, "a model", transcripts=True)
    data = data_of(page)
    assert [d["id"] for d in data["dialogues"]] == ["first", EVIL, "long"]
    utterances = [u for d in data["dialogues"] for u in d["utterances"]]
    for utterance, record in zip(utterances, prediction, strict=True):
        assert data["emotions"][utterance["emotion"]] == record.emotion
        assert utterance["p"] == pytest.approx(list(record.probabilities.values()), abs=1e-4)
        assert utterance["attended"] == [[a.turn, pytest.approx(a.weight, abs=1e-4)] for a in record.attended]
    text = data["dialogues"][0]["utterances"][2]["attention"][0]
    weights = dict(zip(range(0, 4), prediction.attention["text"][2], strict=True))  # turns 0 to 3
    assert dict(map(tuple, text)) == {t: pytest.approx(w, abs=1e-4) for t, w in weights.items() if t != 2 and w > 0.005}


def test_no_transcript_without_the_flag_and_nothing_from_elsewhere(prediction):
    page = conversation_page.html(prediction, "a model")
    assert SAID not in page
    assert SAID in conversation_page.html(prediction, "a model", transcripts=True)
    assert "default-src 'none'" in page
    assert not re.search(r"\b(src|href|url)\s*[=(]", conversation_page.TEMPLATE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_clicks(prediction, browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(conversation_page.html(prediction, f"a model {EVIL}", transcripts=True), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    dots = page.locator("#chart .scatterlayer .trace").first.locator(".points path")
    dots.first.wait_for()
    assert dots.count() == 6

    def centre(turn):
        box = dots.nth(turn).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    lines, box = page.locator("#chart .shapelayer path"), page.locator("#utterance")
    page.mouse.move(*centre(3))
    page.wait_for_function("document.querySelector('#utterance h2')")
    record = prediction[3]
    assert record.emotion in box.locator("h2").inner_text()
    hovered = lines.count()
    assert hovered > 1
    page.mouse.click(*centre(3))  # keeps it
    page.mouse.move(*centre(0))
    page.wait_for_timeout(200)
    assert box.locator("h2").inner_text().startswith("3. ")
    assert EVIL in box.locator("blockquote").inner_text()
    page.locator("#modality0").uncheck()
    page.wait_for_function(f"document.querySelectorAll('#chart .shapelayer path').length < {hovered}")
    page.keyboard.press("ArrowRight")
    assert box.locator("h2").inner_text().startswith("4. ")
    page.keyboard.press("Escape")
    assert box.inner_text() == "Point at an utterance."
    page.locator("#dialogue").select_option("1")
    page.wait_for_function(
        "document.querySelectorAll('#chart .scatterlayer .trace:first-child .points path').length == 4"
    )
    assert not page.locator("#truth").is_visible()  # no label is known in this one
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    assert "audio: missing here" in box.inner_text()
    assert not page.locator("#more").is_visible()  # all of it is in view; of a long one, keys bring the rest there
    page.set_viewport_size({"width": 500, "height": 1000})
    page.locator("#dialogue").select_option("2")
    assert page.locator("#more").is_visible()
    assert page.evaluate("chart.layout.xaxis.range[1]") < 40
    page.locator("h1").click()
    for _ in range(45):
        page.keyboard.press("ArrowRight")
    low, high = page.evaluate("chart.layout.xaxis.range")
    assert 40 < high < 70 and low < 44 < high
    assert page.evaluate("window.hacked") is None
    assert errors == []
    assert requests == [file.as_uri()]


def test_unlabelled_and_without_graph_layers(tmp_path, browser):
    prediction = runs.load(tmp_path / "a", {"model.graph.layers": 0})(runs.conversation(3))
    assert dataclasses.asdict(prediction[0])["attended"] == ()
    file = tmp_path / "page.html"
    file.write_text(conversation_page.html(prediction, "a model"), encoding="utf-8")
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    page.locator("#chart .points path").first.wait_for()
    assert not page.locator("#modalities").is_visible()
    assert errors == []

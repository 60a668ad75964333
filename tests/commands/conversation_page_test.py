"""The page of a conversation: what it shows, with and without JavaScript, and that strings from data stay text."""

import base64
import dataclasses
import html.parser
import io
import itertools
import re
import shutil
import wave

import numpy as np
import pytest

from ariigcn_jax.commands import conversation_page
from ariigcn_jax.commands.conversation_page import Sound, colours, ink, listed, marks, percent, points, spans
from ariigcn_jax.inference.prediction import Prediction
from ariigcn_jax.types import UNLABELED, Clip, UserError
from tests.support import builders

pytest.importorskip("jinja2", reason="jinja2 is not installed (extra: report)")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SAID = "xyzzy was said"
EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\""
NAMES = ("joy", "sadness", "surprise")
SURE, CLOSE, UNSURE = [0.8, 0.15, 0.05], [0.3, 0.18, 0.52], [0.2, 0.45, 0.35]


def predicted(probabilities, lengths=None, speakers=None, said=None, names=NAMES, **changes):
    """A prediction of an utterance for each row; each utterance attended to the one before with weight 0.25."""
    lengths = lengths or [len(probabilities)]
    corpus = dataclasses.replace(
        builders.corpus(lengths, classes=len(names)),
        label=np.full(len(probabilities), UNLABELED, np.int32),
        label_names=names,
        speaker_names=np.array(speakers or ["Ann", "Bob"] * len(probabilities))[: len(probabilities)],
        transcript=None if said is None else np.array(said),
        **changes,
    )
    before = np.arange(len(corpus)) > np.searchsorted(corpus.dialogue, corpus.dialogue)
    attention = np.stack([0.25 * before, 1 - 0.25 * before], axis=1)
    contribution = {"text": np.full(len(corpus), 0.31), "audio": np.full(len(corpus), -0.07)}
    return Prediction(corpus, np.array(probabilities), contribution, {"text": attention, "audio": attention}, past=1)


class Element(html.parser.HTMLParser):
    """Reads a page: (tag, attributes, words inside it) of every element."""

    EMPTY = ("meta", "br", "img", "input")

    def __init__(self, page):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(page)
        assert [tag for tag, *_ in self._open] == []  # every element is closed, in order

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), ""]
        assert len(dict(attrs)) == len(attrs)
        self.elements.append(element)
        if tag not in self.EMPTY:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def all(self, tag, kind=""):
        """Words of the elements of a tag, and a class if given, with blanks between."""
        chosen = [e for e in self.elements if e[0] == tag and kind in ["", *e[1].get("class", "").split()]]
        return [" ".join(words.split()) for _, _, words in chosen]


def read(prediction, **options):
    return Element(conversation_page.html(prediction, "a model", **options))


def test_lines_say_who_spoke_what_was_felt_and_how_sure():
    lines = read(predicted([SURE, CLOSE, UNSURE], said=["Hi!", "Oh?", ""]), transcripts=True).all("summary")
    assert lines == [
        "1 A Ann Hi! J joy 80 %",
        "2 B Bob Oh? Su surprise 52 %",  # the second is 22 points below, which is not close
        "3 A Ann no words ? unsure sadness 45 %, or surprise 35 %",
    ]
    (line,) = read(predicted([[0.5, 0.35, 0.15]])).all("summary")
    assert line == "1 A Ann J joy 50 % or sadness 35 %"  # at half it is not unsure, but the second is close


def test_one_class_and_one_turn():
    page = read(predicted([[1.0]], names=("joy",)))
    assert page.all("summary") == ["1 A Ann J joy 100 %"]
    assert page.all("figure") == []  # a course needs two turns
    assert page.all("p")[0] == "1 turn of 1 speaker. Found: joy."


def test_reasons_are_beside_the_line():
    prediction = predicted([SURE, CLOSE, UNSURE], said=["Hi!", "Oh?", "Hm."])
    prediction.corpus.present["audio"][:] = [True, True, False]
    page = read(prediction, transcripts=True)
    assert len(page.all("details")) == 3
    probable, adds, listened = page.all("section")[-3:]
    assert probable == "How probable each emotion is sadness 45 % surprise 35 % joy 20 %"
    assert "text +31 audio missing here" in adds and "probability of sadness falls without it" in adds
    assert "2 Bob Oh? 25 %" in listened
    links = [attrs["href"] for tag, attrs, _ in page.elements if tag == "a"]
    places = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert {link.removeprefix("#") for link in links} <= set(places) and len(set(places)) == len(places)


def test_labels_of_the_file_are_compared():
    prediction = predicted([SURE, CLOSE, UNSURE])
    prediction.corpus.label[:2] = [0, 1]
    right, wrong, unknown = read(prediction).all("summary")
    assert right.endswith("✓ as labelled") and wrong.endswith("✗ labelled sadness") and "labelled" not in unknown


def test_course_has_a_row_for_each_emotion_that_matters():
    page = read(predicted([SURE, SURE, SURE, UNSURE, SURE]))
    labels = {attrs["aria-label"] for tag, attrs, _ in page.elements if tag == "svg" and "aria-label" in attrs}
    assert labels == {
        "joy: most probable at turn 1 to 3, 5",
        "sadness: most probable at turn 4",
        "surprise: never the most probable",
    }
    assert page.all("span", "times") == ["4 ×", "1 ×", "0 ×"]
    paths = [attrs for tag, attrs, _ in page.elements if tag == "path"]
    assert paths[1]["d"].startswith("M0.06 1v-0.80h.88v0.80z") and paths[1]["d"].count("M") == 4  # of joy, where sure
    assert paths[2]["d"] == paths[4]["d"] == "" and paths[5]["d"].count("M") == 1  # sadness is found once, unsure
    assert "Always below 20 %: sadness and surprise." in read(predicted([SURE, SURE])).all("p")
    assert not read(predicted([SURE] * 9, speakers=[f"s{k}" for k in range(9)])).all("svg", "lane")  # too many rows


def test_several_dialogues_count_their_own_turns():
    page = read(predicted([SURE, CLOSE, SURE], lengths=[2, 1], speakers=["A", "B", "C"]))
    assert page.all("h2") == ["dialogue 0", "dialogue 1"] and page.all("nav") == ["dialogue 0 dialogue 1"]
    assert [line[:1] for line in page.all("summary")] == ["1", "2", "1"]


def test_page_reads_as_a_document():
    """A screen reader finds landmarks, headings and lists, and no picture without words."""
    page = read(predicted([SURE, CLOSE, UNSURE]))
    tags = [tag for tag, *_ in page.elements]
    assert [tags.count(tag) for tag in ("header", "main", "footer", "h1", "h2", "ol")] == [1] * 6
    for tag, attrs, _ in page.elements:
        assert tag != "svg" or "aria-label" in attrs or attrs["aria-hidden"] == "true"
        assert tag != "button" or "aria-label" in attrs or attrs["class"] == "every"
        assert "lang" in attrs or tag != "html"
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_strings_of_data_are_text():
    names = (EVIL, "{{ 7 * 7 }}", "%s")
    prediction = predicted([SURE, CLOSE, UNSURE], speakers=[EVIL] * 3, said=[EVIL] * 3, names=names, notes=(EVIL,))
    prediction = dataclasses.replace(prediction, corpus=dataclasses.replace(prediction.corpus, dialogue_ids=(EVIL,)))
    text = conversation_page.html(prediction, EVIL, transcripts=True, sound={0: Sound(EVIL), 1: Sound(EVIL)})
    page = Element(text)
    assert "img" not in [tag for tag, *_ in page.elements] and len(page.all("script")) == 1
    assert not [name for _, attrs, _ in page.elements for name in attrs if name.startswith("on")]
    assert EVIL in page.all("h2")[0] and page.all("span", "words")[0] == EVIL and "{{ 7 * 7 }}" in text


def test_no_transcript_without_the_flag_and_nothing_from_elsewhere():
    prediction = predicted([SURE, CLOSE], said=[SAID, ""])
    silent, loud = (conversation_page.html(prediction, "a model", transcripts=t) for t in (False, True))
    assert SAID not in silent and "left out of this page" in silent
    assert SAID in loud and "left out of this page" not in loud
    assert "default-src 'none'" in silent and "media-src" not in silent
    assert not re.search(r"\b(src|url)\s*[=(]", silent)


def test_a_long_page_is_light():
    said = ["a turn of a length that is usual in conversations, some seventy letters"] * 200
    page = conversation_page.html(
        predicted([[0.4, *[0.1] * 6]] * 200, said=said, names=tuple("abcdefg")), "", transcripts=True
    )
    assert len(page) < 1e6


def test_sound_of_a_turn():
    """A recording of several turns is there once, and that of a single turn beside its reasons."""
    sound = {0: ("call.wav", 0.5, 1.25), 1: Sound("call.wav", 61.0), 2: Sound("data:audio/wav;base64,AAAA")}
    page = read(predicted([SURE, SURE, CLOSE, UNSURE]), sound=sound)
    players = [attrs for tag, attrs, _ in page.elements if tag == "audio"]
    assert [p["src"] for p in players] == ["call.wav", "data:audio/wav;base64,AAAA"]
    assert all("controls" in p and p["preload"] == "none" for p in players)  # so they work without JavaScript
    buttons = [attrs for tag, attrs, _ in page.elements if tag == "button" and attrs["class"] == "play"]
    assert [(b["data-start"], b.get("data-end"), b.get("data-recording")) for b in buttons] == [
        ("0.5", "1.25", "0"),
        ("61.0", None, "0"),
        ("0", None, None),
    ]
    assert page.all("span", "clock") == ["0:00", "1:01"]
    (policy,) = [attrs["content"] for _, attrs, _ in page.elements if "Security" in attrs.get("http-equiv", "")]
    assert policy.endswith("media-src data: 'self'")


def test_models_without_classes_are_refused():
    with pytest.raises(UserError, match=r"shows classes.*data\.task=regression"):
        read(predicted([SURE], task="regression"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("neutral", "joy", "sadness", "surprise"), ["N", "J", "Sa", "Su"]),
        (("emotion_3", "emotion_12"), ["3", "12"]),
        (("anger", "angst", "x"), ["1", "2", "X"]),
        (("开心", "生气", " "), ["开", "生", "3"]),
    ],
)
def test_marks_differ(names, expected):
    assert marks(names) == expected


def test_colours_differ_and_are_those_that_people_expect():
    found = colours([*(f"class {k}" for k in range(30)), "Anger", "Neutral", "happiness"])
    assert len(set(found)) == 33 and all(re.fullmatch("#[0-9a-f]{6}", c) for c in found)
    assert found[30:] == ["#d55e00", "#8a919c", "#e69f00"]
    assert (ink("#000000"), ink("#ffffff"), ink("#f0d000"), ink("#0072b2")) == ("#fff", "#000", "#000", "#fff")


def test_numbers_in_words():
    assert spans([1, 3, 4, 5, 9]) == "1, 3 to 5, 9" and spans([]) == ""
    assert listed([]) == "" and listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c"
    assert (percent(0.314), points(0.314), points(-0.07)) == ("31\u00a0%", "+31", "−7")


# --- In a browser -----------------------------------------------------------------------------------------------------


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


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a prediction's page; errors and requests are looked at in the end."""
    errors, requests = [], []

    def show(prediction, javascript=True, width=1200, **options):
        file = tmp_path / "page.html"
        file.write_text(conversation_page.html(prediction, f"a model {EVIL}", **options), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, java_script_enabled=javascript)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        return page

    yield show
    assert errors == []
    assert [url for url in requests if not url.startswith(("data:", tmp_path.as_uri()))] == []


def until(page, condition):
    """Waits until JavaScript is true; playwright's own waiting is refused by the page's policy."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {condition}")


@pytest.mark.parametrize("javascript", [True, False])
def test_a_click_or_a_key_opens_the_reasons(opened, javascript):
    page = opened(predicted([SURE, CLOSE, UNSURE], said=[EVIL] * 3), javascript, transcripts=True)
    why, lines = page.locator(".why"), page.locator("summary")
    assert [why.nth(k).is_visible() for k in range(3)] == [False] * 3
    below = lines.nth(2).bounding_box()["y"]
    lines.nth(1).click()
    assert [why.nth(k).is_visible() for k in range(3)] == [False, True, False]
    box = why.nth(1).bounding_box()
    assert lines.nth(1).bounding_box()["y"] < box["y"]  # attached to its line, and the next one makes room
    assert lines.nth(2).bounding_box()["y"] >= max(below, box["y"] + box["height"])
    lines.nth(2).focus()
    page.keyboard.press("Enter")
    assert why.nth(2).is_visible()
    why.nth(2).locator("a").first.click()  # leads to the turn that was listened to
    assert page.url.endswith("#d1-2")
    assert page.locator("button:visible").count() == int(javascript)


def test_keys_and_links_with_javascript(opened):
    page = opened(predicted([SURE, CLOSE, UNSURE], said=[EVIL] * 3, speakers=[EVIL] * 3), transcripts=True)
    why = page.locator(".why")
    page.locator(".turns a").nth(2).click()  # in the course
    until(page, "document.activeElement.tagName == 'SUMMARY'")
    assert why.nth(2).is_visible()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    assert why.nth(1).is_visible()
    page.keyboard.press("Escape")
    assert not why.nth(1).is_visible()
    page.locator(".every").click()
    assert why.nth(0).is_visible() and why.nth(1).is_visible()
    page.locator(".every").click()
    assert page.locator(".why:visible").count() == 0
    assert page.evaluate("window.hacked") is None


def test_nothing_is_wider_than_a_phone(opened):
    said, speakers = ["w" * 300, EVIL, "ok"], ["A" * 99, EVIL, "x"]
    page = opened(predicted([SURE, CLOSE, UNSURE], said=said, speakers=speakers), width=400, transcripts=True)
    page.locator(".every").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    cut = "e => e.clientWidth && e.scrollWidth > e.clientWidth && getComputedStyle(e).textOverflow != 'ellipsis'"
    assert page.evaluate(f"[...document.querySelectorAll('li *')].filter({cut}).map(e => e.outerHTML)") == []


def test_turns_play_from_start_to_end(opened, tmp_path):
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(bytes([128] * 16000))
    (tmp_path / "call.wav").write_bytes(content.getvalue())
    embedded = "data:audio/wav;base64," + base64.b64encode(content.getvalue()).decode()
    sound = {0: Sound("call.wav", 0.5, 0.8), 1: Sound("call.wav", 1.0), 2: Sound(embedded)}
    page = opened(predicted([SURE, CLOSE, UNSURE]), sound=sound)
    play = page.locator(".play")
    play.nth(0).click()
    until(page, "!document.querySelector('audio').paused")
    assert page.evaluate("document.querySelector('audio').currentTime") >= 0.5
    assert page.locator(".playing").count() == 1 and play.nth(0).inner_text() == "■"
    until(page, "document.querySelector('audio').paused")
    assert 0.8 <= page.evaluate("document.querySelector('audio').currentTime") < 1.5
    assert page.locator(".playing").count() == 0
    play.nth(1).click()
    play.nth(2).click()  # the other one stops
    until(page, "document.querySelectorAll('audio')[1].currentTime > 0")
    assert page.evaluate("document.querySelector('audio').paused")
    play.nth(2).click()
    assert page.evaluate("[...document.querySelectorAll('audio')].every(sound => sound.paused)")


def test_recordings_are_linked_from_the_page_or_within_it(tmp_path):
    (tmp_path / "a call.wav").write_bytes(b"RIFF")
    call = str(tmp_path / "a call.wav")
    clips = np.empty(4, object)
    clips[:] = [Clip(call, 1.0, 2.0), None, Clip(str(tmp_path / "gone.wav")), Clip("", 0.0, 1.0)]
    corpus = dataclasses.replace(builders.corpus([4]), clips=clips)
    linked = conversation_page.sound_of(corpus, tmp_path / "pages" / "page.html", embedded=False)
    assert linked == {0: ("../a%20call.wav", 1.0, 2.0)}
    embedded = conversation_page.sound_of(corpus, tmp_path / "page.html", embedded=True)
    assert [*embedded] == [0] and embedded[0].source.endswith(";base64," + base64.b64encode(b"RIFF").decode())
    assert not conversation_page.sound_of(builders.corpus([2]), "page.html", embedded=False)

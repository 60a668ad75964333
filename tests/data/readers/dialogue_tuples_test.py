"""What is particular to the tuples of dictionaries: names of classes, splits, gaps, layers, and lists that disagree."""

import tracemalloc

import numpy as np
import pytest

from ariigcn_jax import data as corpus
from ariigcn_jax.data import labels
from ariigcn_jax.data.readers.dialogue_tuples import LAYOUTS
from ariigcn_jax.types import UNLABELED, UserError
from tests.support.layout_files import conversations, dump, rows, tuple_elements

IEMOCAP = "DialogueRNN, DialogueGCN, MMGCN, MM-DFN, COGMEN: IEMOCAP"
RICH = "M3NET, SDT, GraphSmile, AGF-IB: IEMOCAP"


def elements(layout=IEMOCAP, **options):
    """Role → element, to be changed."""
    return dict(zip(LAYOUTS[layout], tuple_elements(conversations(**options), layout, LAYOUTS[layout]), strict=True))


@pytest.fixture
def load(tmp_path):
    return lambda parts, **options: corpus.load(dump(tmp_path / "x.pkl", tuple(parts.values())), **options)


@pytest.fixture
def refused(load):
    def message(parts):
        with pytest.raises(UserError) as caught:
            load(parts)
        return str(caught.value)

    return message


def first(part):
    """The first dialogue and what it has."""
    return next(iter(part.items()))


def test_no_two_layouts_are_one():
    assert len(set(LAYOUTS.values())) == len(LAYOUTS)


@pytest.mark.parametrize(("classes", "names"), [(6, labels.IEMOCAP), (4, labels.IEMOCAP[:4])])
def test_names_of_iemocap_classes(load, classes, names):
    assert load(elements(classes=classes)).label_names == names


def test_names_of_meld_classes_and_sentiments(load):
    parts = elements("MMGCN, MM-DFN: MELD", classes=7)
    assert load(parts).label_names == labels.MELD
    read = load(elements("MMGCN, MM-DFN: MELD", classes=7), label="sentiment")
    assert read.label_names == labels.MELD_SENTIMENT
    emotions = load(elements("MMGCN, MM-DFN: MELD", classes=7)).label
    np.testing.assert_array_equal(read.label, emotions % 3)


def test_unknown_classes_are_numbered_and_said(load):
    parts = {role: {f"x{i}": v for i, v in enumerate(p.values())} if isinstance(p, dict) else p for role, p in
             elements(classes=5).items()}  # fmt: skip
    names = list(parts["label"])
    read = load(parts | {"train": names[:10], "test": names[10:]})
    assert read.label_names == ("0", "1", "2", "3", "4")
    assert "the file does not name its classes: they are called by their numbers" in read.notes


def test_single_layers_of_roberta(load):
    source = conversations()
    read = load(elements(RICH), modalities=("text_layer3", "audio"))
    assert read.widths == {"text_layer3": 6, "audio": 4}
    u = read.transcript.tolist().index(str(source.transcript[5]))
    np.testing.assert_allclose(read.features["text_layer3"][u], 3 * source.features["text"][5], rtol=1e-6)
    both = load(elements(RICH), modalities=("text", "text_layer1"))
    np.testing.assert_allclose(both.features["text"], 2.5 * both.features["text_layer1"], rtol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        list,
        np.array,
        lambda v: np.array(v, dtype=object),
        lambda v: [np.array([x]) for x in v],
        lambda v: [x.tolist() for x in v],
        lambda v: [np.stack([x - 1, x + 1]) for x in v],
    ],
)
def test_forms_of_vectors(load, form):  # fmt: skip
    plain = load(elements())
    parts = elements()
    parts["audio"] = {d: form(v) for d, v in parts["audio"].items()}
    np.testing.assert_allclose(load(parts).features["audio"], plain.features["audio"], rtol=1e-5, atol=1e-6)


def test_first_tenth_of_the_train_list_is_validation(load):
    parts = elements(dialogues=40, valid=0.0)
    read = load(parts)
    held = {read.dialogue_ids[d] for d in read.dialogue[read.split == "valid"]}
    assert held == set(parts["train"][: int(0.1 * len(parts["train"]))])
    assert any("the first ones of the file's train list, as published codes do" in note for note in read.notes)
    wider = load(parts, valid_fraction=0.5)
    assert {wider.dialogue_ids[d] for d in wider.dialogue[wider.split == "valid"]} == set(parts["train"][:16])


def in_sessions(parts):
    """Name the dialogues as IEMOCAP does: five sessions, the last of which is the test split."""
    names = [*parts["train"], *parts["test"]]
    sessions = np.append(np.arange(len(parts["train"])) % 4 + 1, np.full(len(parts["test"]), 5))
    new = {name: f"Ses0{session}F_{name}" for name, session in zip(names, sessions, strict=True)}
    return {
        role: {new[d]: v for d, v in part.items()} if isinstance(part, dict) else [new[d] for d in part]
        for role, part in parts.items()
    }


def test_train_list_of_iemocap_stays_and_says_what_it_means(load):
    parts = in_sessions(elements(dialogues=40, valid=0.0))
    read = load(parts)
    held = {read.dialogue_ids[d] for d in read.dialogue[read.split == "valid"]}
    assert held == set(parts["train"][: int(0.1 * len(parts["train"]))])
    note = next(note for note in read.notes if "as published codes do" in note)
    assert note.endswith(
        "; no `session` of the test split is in train, so scores on test may be lower than on validation"
    )


def test_set_of_iemocap_gives_a_session_to_validation(load):
    parts = in_sessions(elements(dialogues=40, valid=0.0))
    read = load(parts | {"train": set(parts["train"])})
    held = {read.dialogue_ids[d] for d in read.dialogue[read.split == "valid"]}
    assert len({name[:5] for name in held}) == 1 and len(held) == len(parts["train"]) // 4


def test_sets_have_no_order_so_a_hash_decides(load):
    parts = elements(dialogues=40)
    parts["train"], parts["test"] = set(parts["train"]), frozenset(parts["test"])
    read = load(parts)
    held = {read.dialogue_ids[d] for d in read.dialogue[read.split == "valid"]}
    assert held == corpus.carve(parts["train"], 0.1, "valid")
    assert list(read.dialogue_ids[:5]) == sorted(parts["train"])[:5]


def test_melds_own_validation(load):
    """1,152 train dialogues, the last 114 of which have 1,109 utterances, are MELD."""
    lengths = [1] * 1038 + [10] * 83 + [9] * 31 + [1] * 280
    assert sum(lengths[1038:1152]) == 1109

    def column(value):
        return {d: [value] * n for d, n in enumerate(lengths)}

    parts = dict(ids=column("u"), speaker=column([1, 0]), label=column(4), text=column([0.5, 1]))
    parts |= dict(audio=column([1.0, 2]), visual=column([1.0, 3]), words=column("w"))
    parts |= dict(train=list(range(1152)), test=list(range(1152, 1432)), sentiment=column(1))
    read = load(parts)
    assert {int(read.dialogue_ids[d]) for d in read.dialogue[read.split == "valid"]} == set(range(1038, 1152))
    assert any("MELD's own validation split" in note for note in read.notes)


def test_gaps(load):
    parts = elements()
    d, audio = first(parts["audio"])
    parts["audio"][d] = [None, np.full(4, np.nan), []][: len(audio)] + audio[3:]
    d2 = list(parts["visual"])[1]
    parts["visual"][d2] = [np.zeros(3) for _ in parts["visual"][d2]]
    read = load(parts)
    inside = rows(read, read.dialogue_ids.index(d))
    assert not read.present["audio"][inside[:3]].any() and read.present["audio"][inside[3:]].all()
    assert not read.present["visual"][rows(read, read.dialogue_ids.index(d2))].any()


def test_no_label(load):
    parts = elements()
    d, values = first(parts["label"])
    parts["label"][d] = [-1, None, *values[2:]]
    read = load(parts)
    assert read.label[rows(read, read.dialogue_ids.index(d))][:2].tolist() == [UNLABELED, UNLABELED]


def test_sentiment_scores_become_classes(load):
    parts = elements()
    parts["label"] = {d: [(-2.4, 0.0, 1.2)[u % 3] for u in range(len(v))] for d, v in parts["label"].items()}
    read = load(parts)
    assert read.label_names == labels.POLARITY
    assert read.label[rows(read, 0)].tolist()[:3] == [0, 1, 2]
    binary = load(parts, label="binary")
    assert binary.label[rows(binary, 0)].tolist()[:3] == [0, UNLABELED, 1]


def test_dialogues_that_are_left_out_are_said(load):
    parts = elements()
    parts["train"] = [*parts["train"][1:], "nobody"]
    notes = load(parts).notes
    assert any("1 dialogue of the train list, such as 'nobody', has no utterances" in n for n in notes)
    assert any("1 dialogue in none of the file's splits is left out" in n for n in notes)


def test_dialogue_in_train_and_test(refused):
    parts = elements()
    parts["test"].append(parts["train"][0])
    assert f"the dialogue {parts['train'][0]!r} is in both the train and the test list" in refused(parts)


def test_lists_of_different_lengths(refused):
    parts = elements()
    d, values = first(parts["speaker"])
    values.pop()
    message = refused(parts)
    assert f"the dialogue {d!r} has {len(values)} in speaker, {len(values) + 1} in label" in message


def test_vectors_of_different_widths(refused):
    parts = elements()
    d = parts["train"][3]
    parts["text"][d] = [np.ones(7) for _ in parts["text"][d]]
    assert f"text: the dialogue {d!r} has 7 features where those before it have 6" in refused(parts)
    d = parts["train"][0]
    parts["text"][d] = [np.ones(5), *[np.ones(7) for _ in parts["text"][d][1:]]]
    assert f"text: the dialogue {d!r} has 7 features where those before it have 5" in refused(parts)


def test_one_wide_vector_does_not_fill_the_memory(refused):
    parts = elements()
    parts["text"] = {d: [None] * len(v) for d, v in parts["text"].items()}
    parts["text"][parts["train"][0]][0] = np.ones(3_000_000, np.float16)
    tracemalloc.start()
    try:
        assert "repeated over and over" in refused(parts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30e6  # of which the vector takes 6 MB, and writing it as much


def test_a_layer_that_is_missing_is_no_part_of_the_mean(load):
    plain, parts = load(elements(RICH)), elements(RICH)
    d = parts["train"][0]
    for role in ("text_layer1", "text_layer4"):  # 1 and 4 times the text, which have the mean of all four
        parts[role][d] = [None, *parts[role][d][1:]]
    np.testing.assert_allclose(load(parts).features["text"], plain.features["text"], rtol=1e-5)


@pytest.mark.parametrize("value", ["words", {"a": 1}, [["a"]], 3])
def test_what_is_no_vector(refused, value):
    parts = elements()
    d, audio = list(parts["audio"].items())[2]
    audio[0] = value
    assert f"audio: the dialogue {d!r}" in refused(parts)

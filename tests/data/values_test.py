"""Single values of other people's files: text, vectors, numbers of classes."""

import numpy as np
import pytest

from ariigcn_jax.data import values
from ariigcn_jax.types import UserError


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("größer", "größer"),
        ("größer".encode().decode("latin-1"), "größer"),  # Python 2's UTF-8, read as Latin-1
        (b"abc", "abc"),
        (["two", "words"], "two words"),
        (np.array(["two", "words"]), "two words"),
        (None, ""),
        (3, "3"),
        (np.float32(1.5), "1.5"),
        ("lone \ud800 half", "lone ? half"),
        (float("nan"), ""),
        (np.float64("nan"), ""),
        ("None", "None"),
    ],
)
def test_text(value, words):
    assert values.text(value) == words


@pytest.mark.parametrize(
    ("taken", "written"),
    [
        ("caf\x85 it\x92s \x93so\x94", "caf… it’s “so”"),  # Windows-1252, read as Latin-1
        ("it\x92s größer", "it’s größer"),
        ("grÃ¶ÃŸer", "größer"),  # UTF-8, read as Windows-1252
        ("itâ€™s â€œsoâ€\x9d", "it’s “so”"),
        ("ðŸ˜€ Ã€", "😀 À"),
        ("Ã©tÃ©", "été"),  # UTF-8, read as Latin-1
        ("é… “so” É” Ñ…", "é… “so” É” Ñ…"),  # as it is
        ("SÃO, NÃO: Â, â€", "SÃO, NÃO: Â, â€"),
        ("你好，张三", "你好，张三"),
        ("a\u2028b\x0bc", "a\u2028b\x0bc"),
    ],
)
def test_signs_of_other_encodings(taken, written):
    assert values.mended(taken) == values.text(taken) == values.mended(written) == written


@pytest.mark.parametrize("value", [{"a": 1}, [1, 2], object(), np.ones((2, 2))])
def test_what_is_no_text(value):
    with pytest.raises(values.ShapeError, match="is no text"):
        values.text(value)


@pytest.mark.parametrize(
    ("value", "vector"),
    [
        ([1, 2.5], [1, 2.5]),
        ((1, 2), [1, 2]),
        (np.array([1, 2], np.float16), [1, 2]),
        ([[1, 2], [3, 4]], [2, 3]),
        ([np.array([1, 2]), [3, 6]], [2, 4]),
        (np.array([[1.0, 2], [3, 4]]), [2, 3]),
        (np.array([[1, 2]]), [1, 2]),
        (np.array([1, 2], dtype=object), [1, 2]),
    ],
)
def test_vector(value, vector):
    np.testing.assert_allclose(values.vector(value), vector)


@pytest.mark.parametrize("value", [None, [], (), np.zeros(0), np.zeros((0, 3))])
def test_nothing_is_missing(value):
    assert values.vector(value) is None


def nested(depth):
    value = [1.0, 2.0]
    for _ in range(depth):
        value = [value, value]  # 2^depth numbers, if one follows them all
    return value


@pytest.mark.parametrize(
    "value", ["1 2", {"a": 1}, 3, [[1], [1, 2]], [["a"]], np.ones((2, 2, 2)), [10**400], nested(60), np.array(["a"])]
)
def test_what_is_no_vector(value):
    with pytest.raises(values.ShapeError):
        values.vector(value)


def test_rows_of_different_widths():
    rows = values.Rows(3, "x.csv: `text`", 100)
    rows.put(0, [1, 2], "row 0")
    rows.put(1, None, "row 1")
    with pytest.raises(UserError, match=r"x\.csv: `text`: row 2 has 3 features where those before it have 2"):
        rows.put(2, [1, 2, 3], "row 2")
    np.testing.assert_array_equal(rows.array(), [[1, 2], [np.nan] * 2, [np.nan] * 2])
    assert values.Rows(3, "x", 100).array() is None


def test_rows_that_would_fill_the_memory():
    with pytest.raises(UserError, match=r"would take 4\.0 GB"):
        values.Rows(10**5, "x", 1000).put(0, np.ones(10_000), "row 0")
    with pytest.raises(UserError, match=r"x: claims 1,000,000 utterances, in a file of 0\.0 MB"):
        values.Rows(10**6, "x", 1000)


def test_class_numbers():
    given = [3, 2.0, None, [4], np.int64(1), [0, 0, 1], np.array([1.0, 0]), float("nan"), -1]
    np.testing.assert_array_equal(values.class_numbers(given, "x"), [3, 2, np.nan, 4, 1, 2, 0, np.nan, -1])
    for wrong in ("a", [1, 2], {}, 10**400):
        with pytest.raises(UserError, match=r"^x: "):
            values.class_numbers([wrong], "x")


@pytest.mark.parametrize(
    ("value", "words"),
    [([1] * 5, "list of 5"), (np.ones((2, 3)), "float64 array [2, 3]"), ("x" * 99, f"text {'x' * 30!r}"), (1, "int")],
)
def test_kind(value, words):
    assert values.kind(value) == words

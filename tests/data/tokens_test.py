"""Transcripts as tokens: what is cut, which turns are joined, and which tokens make an utterance's vector."""

import dataclasses

import numpy as np
import pytest
from tokenizers import normalizers

from ariigcn_jax.data import tokens as tokenizing
from ariigcn_jax.features.words import WordEncoder, attach
from ariigcn_jax.options import base
from ariigcn_jax.types import WORDS, UserError
from tests.support import builders
from tests.support.encoders import tiny_encoder

SAID = ["I see", "oh no !", "", "we go home", "good night", "yes"]
WHO = ["Ann", "Bob", "Bob", "Ann", "Bob", "Ann"]
TWO_DIALOGUES = np.array([0, 0, 0, 0, 1, 1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("tokens") / "encoder")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return tokenizing.tokenizer(folder / "tokenizer.json")


def read(tokenizer, words, pooled=False):
    """The text of each utterance's tokens, or of those that are pooled."""
    kept = words.pooled if pooled else np.ones(len(words.ids), bool)
    spans = [slice(a, b) for a, b in zip(words.start, words.start[1:], strict=False)]
    return [" ".join(map(tokenizer.id_to_token, words.ids[s][kept[s]])) for s in spans]


def joined(tokenizer, turns, limit=64, **options):
    words, cut = tokenizing.tokens(
        tokenizer, SAID, limit=limit, speakers=WHO, dialogue=TWO_DIALOGUES, turns=turns, **options
    )
    assert not cut.any()
    return words


def test_each_utterance_stands_between_its_marks(tokenizer):
    words, cut = tokenizing.tokens(tokenizer, ["I see", "no"], limit=8, speakers=["Ann", "Bob"], first_position=2)
    assert read(tokenizer, words) == ["[CLS] i see [SEP]", "[CLS] no [SEP]"]
    assert (words.start.tolist(), words.first_position, cut.tolist()) == ([0, 4, 7], 2, [0, 0])
    assert words.ids.dtype == np.int32 and words.pooled.all()


def test_what_is_longer_than_the_limit_is_cut_at_its_end_and_counted(tokenizer):
    said = ["we go home", "we go home now yes well", "no"]
    words, cut = tokenizing.tokens(tokenizer, said, limit=5)
    assert read(tokenizer, words) == ["[CLS] we go home [SEP]", "[CLS] we go home [SEP]", "[CLS] no [SEP]"]
    assert cut.tolist() == [0, 3, 0]


@pytest.mark.parametrize("turns", [(0, 0), (2, 2)])
def test_a_missing_transcript_gives_no_tokens(tokenizer, turns):
    said = ["yes", "", " \t", "no"]
    words, _ = tokenizing.tokens(tokenizer, said, limit=32, speakers=["Ann"] * 4, turns=turns)
    assert words.lengths[1:3].tolist() == [0, 0] and words.lengths[[0, 3]].all()


def test_no_texts_give_no_tokens(tokenizer):
    words, cut = tokenizing.tokens(tokenizer, [], limit=8)
    assert (len(words.ids), words.start.tolist(), words.pooled.dtype, len(cut)) == (0, [0], bool, 0)


def test_turns_before_are_in_time_order_with_their_speakers(tokenizer):
    made = read(tokenizer, joined(tokenizer, (3, 0)))
    assert made[0] == "[CLS] ann : i see [SEP]"
    assert made[1] == "[CLS] ann : i see [SEP] bob : oh no ! [SEP]"
    assert made[3] == "[CLS] ann : i see [SEP] bob : oh no ! [SEP] ann : we go home [SEP]"


def test_a_turn_without_words_counts_as_a_turn(tokenizer):
    assert read(tokenizer, joined(tokenizer, (1, 0)))[3] == "[CLS] ann : we go home [SEP]"


def test_turns_of_other_dialogues_are_not_joined(tokenizer):
    made = read(tokenizer, joined(tokenizer, (5, 5)))
    assert made[4] == made[5] == "[CLS] bob : good night [SEP] ann : yes [SEP]"


def test_later_turns_are_joined_where_they_may_be(tokenizer, folder):
    assert read(tokenizer, joined(tokenizer, (1, 1)))[0] == "[CLS] ann : i see [SEP] bob : oh no ! [SEP]"
    assert read(tokenizer, joined(tokenizer, (1, 0)))[0] == "[CLS] ann : i see [SEP]"
    encoder = encoder_of(folder, turns=2)
    assert (encoder.turns(later=True), encoder.turns(later=False)) == ((2, 2), (2, 0))


def test_turns_are_joined_whole_or_not_at_all(tokenizer):
    """The nearest come first, and behind one that does not fit there is no further one."""
    whole = "[CLS] ann : i see [SEP] bob : oh no ! [SEP] ann : we go home [SEP]"
    length = len(whole.split())
    assert read(tokenizer, joined(tokenizer, (3, 0), length))[3] == whole
    assert (
        read(tokenizer, joined(tokenizer, (3, 0), length - 1))[3] == "[CLS] bob : oh no ! [SEP] ann : we go home [SEP]"
    )
    assert read(tokenizer, joined(tokenizer, (3, 0), 12))[3] == "[CLS] ann : we go home [SEP]"


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_only_the_own_turn_is_pooled(tokenizer, pooling):
    made = read(tokenizer, joined(tokenizer, (3, 2), pooling=pooling), pooled=True)
    assert made == ["ann : i see", "bob : oh no !", "", "ann : we go home", "bob : good night", "ann : yes"]


@pytest.mark.parametrize("turns", [(0, 0), (3, 2)])
def test_the_first_mark_alone_is_pooled_by_cls(tokenizer, turns):
    words = joined(tokenizer, turns, pooling="cls")
    assert read(tokenizer, words, pooled=True) == ["[CLS]" if text else "" for text in SAID]
    assert words.pooled[words.start[:-1]][words.lengths > 0].all()


def test_a_tokenizer_that_cuts_or_pads_by_itself_does_neither(tokenizer, folder, tmp_path):
    """As sentence-transformers saves it."""
    made = tokenizing.tokenizer(folder / "tokenizer.json")
    made.enable_truncation(3)
    made.enable_padding(length=16)
    made.save(str(tmp_path / "tokenizer.json"))
    said = [*SAID, "we go home now yes well"]
    words, _ = tokenizing.tokens(tokenizing.tokenizer(tmp_path / "tokenizer.json"), said, limit=16)
    np.testing.assert_array_equal(words.ids, tokenizing.tokens(tokenizer, said, limit=16)[0].ids)


@pytest.mark.parametrize("content", [None, "", "{", '{"version": "1.0"}', "\udcff"])
def test_a_broken_tokenizer_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"tokenizer\.json: cannot be read \(.+\)\. Copy the encoder's folder again"):
        tokenizing.tokenizer(path)


# --- Of a corpus ------------------------------------------------------------------------------------------------------


def encoder_of(folder, **changes):
    options = base.get_config().model.text
    options.update({"encoder": str(folder), "max_tokens": 32, **changes})
    return WordEncoder.of(options)


def conversation(said, **fields):
    made = builders.corpus([len(said)])
    return dataclasses.replace(made, transcript=np.array(said), **fields)


def test_speakers_without_names_have_no_tag(folder):
    """As those of a conversation that says of nobody who speaks."""
    said = conversation(["yes", "no"], speaker=np.array([0, 1], np.int32))
    encoder = encoder_of(folder, turns=1)
    words, _ = encoder.tokens(said, later=False)
    assert read(encoder.tokenizer, words)[1] == "[CLS] yes [SEP] no [SEP]"
    named = dataclasses.replace(said, speaker_names=np.array(["Ann", ""]))
    words, _ = encoder.tokens(named, later=False)
    assert read(encoder.tokenizer, words)[1] == "[CLS] ann : yes [SEP] no [SEP]"


@pytest.mark.parametrize("turns", [0, 2])
def test_a_note_counts_the_transcripts_that_are_cut(folder, turns):
    """Not those that just fit, and not those whose text the turns around them fill."""
    said = conversation(["we go home", "no", "we go home now yes well", "no", "no"], speaker_names=np.array([""] * 5))
    encoder = encoder_of(folder, max_tokens=5, turns=turns)
    _, notes = encoder.tokens(said, later=True)
    assert notes == ["1 transcripts are longer than model.text.max_tokens=5: 3 tokens at their ends are cut off"]
    assert encoder_of(folder, max_tokens=8).tokens(said, later=True)[1] == []


def test_what_becomes_no_token_is_missing(tmp_path):
    """As signs that have no width, which BERT's tokenizer drops."""
    folder = tiny_encoder(tmp_path)
    made = tokenizing.tokenizer(folder / "tokenizer.json")
    made.normalizer = normalizers.Replace("\u200b", "")
    made.save(str(folder / "tokenizer.json"))
    said = conversation(["yes", "\u200b", "no"])
    said = dataclasses.replace(said, features={WORDS: np.zeros((3, 0))}, present={WORDS: np.ones(3, bool)})
    found = attach(said, encoder_of(folder).options, later=False)
    assert found.present[WORDS].tolist() == [True, False, True]


def test_a_tokenizer_of_another_network_is_named(folder):
    encoder = encoder_of(folder)
    few = dataclasses.replace(encoder.pretrained.architecture, vocabulary=6)
    other = dataclasses.replace(encoder, pretrained=dataclasses.replace(encoder.pretrained, architecture=few))
    with pytest.raises(UserError, match="word table has 6 rows"):
        other.tokens(conversation(["yes", "no"]), later=False)

"""Encoders are written MODEL[,OPTION=VALUE]… on the command line."""

import pytest

from ariigcn_jax.features.audio import OpenSmile, SpeechModel, from_option
from ariigcn_jax.features.encoder import parse
from ariigcn_jax.features.text import TextEncoder
from ariigcn_jax.features.visual import VisualEncoder
from ariigcn_jax.types import UserError


def test_options_are_read():
    encoder = parse("org/Some-Model.v2,pooling=cls,layers=-1/-4,combine=concat,max_tokens=64", TextEncoder)
    assert encoder == TextEncoder("org/Some-Model.v2", "", 2048, "cls", (-1, -4), "concat", "auto", 64)
    assert encoder.field == "text_some_model_v2"
    assert parse("m/,name=text", TextEncoder).field == "text"
    assert parse("x,fps=0.5,faces=none", VisualEncoder).fps == 0.5


@pytest.mark.parametrize(
    ("specification", "kind", "field"),
    [
        ("egemapsv02", OpenSmile, "audio_egemapsv02"),
        ("ComParE_2016,rate=8000", OpenSmile, "audio_compare_2016"),
        ("sets/My Set.conf", OpenSmile, "audio_my_set"),
        ("facebook/wav2vec2-base", SpeechModel, "audio_wav2vec2_base"),
    ],
)
def test_audio_encoders_are_told_apart(specification, kind, field):
    encoder = from_option(specification)
    assert (type(encoder), encoder.field) == (kind, field)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("m,pool=cls", "unrecognised option 'pool=cls'.*pooling"),
        ("m,cls", "unrecognised option 'cls'"),
        ("m,pooling=sum", "pooling cannot be 'sum'. It is one of auto, mean, cls, max"),
        ("m,pooling=last", "pooling cannot be 'last'. It is one of auto, mean, cls, max"),
        ("m,layers=-1;2", "layers cannot be '-1;2'. Write whole numbers"),
        ("m,batch=-2", "batch cannot be '-2'"),
        (",pooling=cls", "names no model"),
    ],
)
def test_wrong_options_are_named(specification, message):
    with pytest.raises(UserError, match=message):
        parse(specification, TextEncoder)


def test_what_shapes_vectors_is_in_the_options_and_what_does_not_is_not():
    assert parse("m,name=text_x,batch=3", TextEncoder).options() == TextEncoder("m").options()
    assert parse("m,max_tokens=3", TextEncoder).options() != TextEncoder("m").options()

"""Visual features are those of the largest face in frames of the clip."""

import numpy as np
import pytest

from ariigcn_jax.features.manifest import Clip
from ariigcn_jax.features.media import MediaError
from ariigcn_jax.features.visual import VisualEncoder, _detector
from ariigcn_jax.types import UserError
from tests.support.media import face, image_model, write_video

pytest.importorskip("cv2", reason="the extra `visual` is not installed")
pytest.importorskip("av", reason="the extra `visual` is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(image_model(tmp_path_factory.mktemp("model")))


def test_a_face_is_found_where_it_is():
    detect = _detector("haar")
    assert detect(np.full((240, 320, 3), 100, np.uint8)) == []
    for centre in (110, 210):
        [(left, top, width, height)] = detect(face(centre))
        assert abs(left + width / 2 - centre) < 10
        assert abs(top + height / 2 - 120) < 20


def test_the_largest_face_is_cropped_with_a_margin():
    picture = np.arange(100 * 200, dtype=np.int64).reshape(100, 200, 1).repeat(3, axis=2)
    encoder = VisualEncoder("m", margin=0.5)
    crop = encoder._crop(picture, lambda _: [(10, 10, 8, 8), (180, 40, 20, 20)])
    np.testing.assert_array_equal(crop, picture[30:70, 170:200])
    assert encoder._crop(picture, lambda _: []) is None
    assert VisualEncoder("m", no_face="frame")._crop(picture, lambda _: []) is picture


def states(model, picture):
    """[T, D] of one picture, by the library alone; pixels to [-1, 1]."""
    import torch
    import transformers

    network = transformers.AutoModel.from_pretrained(model, add_pooling_layer=False).eval()
    pixels = torch.tensor(picture.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        return network(pixel_values=pixels).last_hidden_state[0].numpy()


def test_frames_are_encoded_and_pooled(model, tmp_path):
    pictures = [np.full((32, 32, 3), value, np.uint8) for value in [60] * 10 + [200] * 10]
    path = str(write_video(tmp_path / "v.avi", pictures, 10))
    dark, bright = (states(model, np.full((32, 32, 3), value, np.uint8)) for value in (60, 200))
    [vector] = VisualEncoder(model, faces="none", fps=1).load(1, "cpu")([Clip(path)])
    np.testing.assert_allclose(vector, (dark[0] + bright[0]) / 2, atol=0.03)  # the video's coding is not exact
    encoder = VisualEncoder(model, faces="none", fps=1, tokens="mean", pooling="mean_std")
    [vector] = encoder.load(1, "cpu")([Clip(path)])
    means = np.stack([dark.mean(0), bright.mean(0)])
    np.testing.assert_allclose(vector, np.concatenate([means.mean(0), means.std(0)]), atol=0.03)
    assert np.abs(dark[0] - bright[0]).max() > 0.3


def test_only_frames_with_a_face_count(model, tmp_path):
    blank = np.full((240, 320, 3), 48, np.uint8)
    mixed = str(write_video(tmp_path / "mixed.mp4", [face()] * 10 + [blank] * 10, 10))
    alone = str(write_video(tmp_path / "alone.mp4", [face()] * 10, 10))
    encode = VisualEncoder(model, fps=1).load(1, "cpu")
    a, b = encode([Clip(mixed), Clip(alone)])
    np.testing.assert_allclose(a, b, atol=0.02)
    with pytest.raises(MediaError, match="no face in any of 1 frames"):
        encode([Clip(mixed, 1.1, 2.0)])


def test_a_convolutional_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    path = tmp_path / "model"
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}'
    )
    video = str(write_video(tmp_path / "v.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 10, 10))
    [vector] = VisualEncoder(str(path), faces="none").load(1, "cpu")([Clip(video)])
    assert vector.shape == (12,)


def test_a_detector_that_is_none(model, tmp_path):
    with pytest.raises(UserError, match="neither haar, none, nor a YuNet file"):
        VisualEncoder(model, faces="dlib").identity()
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="cannot read it as a YuNet detector"):
        VisualEncoder(model, faces=str(tmp_path / "x.onnx")).load(1, "cpu")

"""Folders in the shape of the published raw releases become manifests in the field's protocol."""

import json
import pickle

import numpy as np
import pytest

from ariigcn_jax import cli
from ariigcn_jax.features import manifest
from ariigcn_jax.features.manifest import Clip
from tests.support.media import write_csv


def run(*arguments):
    return cli.main(["features", *map(str, arguments)])


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def read(release, root, *options):
    """The manifest that the command writes next to the release."""
    out = root.parent / "dialogues.csv"
    assert run("manifest", "--release", release, str(root), "--out", str(out), *options) == 0
    return manifest.read(out)


def lists(found, *names):
    return [found.fields[name].tolist() for name in names]


@pytest.fixture
def iemocap(tmp_path):
    root = tmp_path / "IEMOCAP_full_release"
    dialog = root / "Session1/dialog"
    write(
        dialog / "EmoEvaluation/Ses01F_impro01.txt",
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.0000, 3.0000]\n"
        "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
        "[7.5712 - 10.4750]\tSes01F_impro01_M000\txxx\t[2.5000, 3.0000, 2.5000]\n"
        "[10.0100 - 11.3925]\tSes01F_impro01_F001\tfru\t[1.5000, 4.0000, 2.5000]\n",
    )
    # The transcription is not in the order of times, and has a turn that nobody annotated.
    write(
        dialog / "transcriptions/Ses01F_impro01.txt",
        "Ses01F_impro01_F001 [010.0100-011.3925]: Yeah.\n"
        "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse\u2028me.\n"
        "Ses01F_impro01_MXX0 [008.3000-008.4000]: Mm.\n"
        "Ses01F_impro01_M000 [007.5712-010.4750]: Do you have your forms?\n"
        "F: Hm.\n",
    )
    write(dialog / "transcriptions/._Ses01F_impro01.txt", "\0\1Mac")
    touch(
        root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
        dialog / "wav/Ses01F_impro01.wav",
        dialog / "avi/DivX/Ses01F_impro01.avi",
    )
    write(root / "Session5/dialog/transcriptions/Ses05M_script01_1.txt", "Ses05M_script01_1_F000 [1.00-2.00]: No!\n")
    write(
        root / "Session5/dialog/EmoEvaluation/Ses05M_script01_1.txt",
        "[1.0000 - 2.0000]\tSes05M_script01_1_F000\tang\t[1.0000, 4.0000, 4.0000]\n",
    )
    return root


def test_iemocap(iemocap, capsys):
    found = read("iemocap", iemocap)
    assert lists(found, "utterance_id", "dialogue_id", "speaker", "actor", "label", "split") == [
        ["Ses01F_impro01_F001", "Ses01F_impro01_F000", "Ses05M_script01_1_F000"],
        ["Ses01F_impro01", "Ses01F_impro01", "Ses05M_script01_1"],
        ["F", "F", "F"],
        ["Ses01F", "Ses01F", "Ses05F"],
        [5, 2, 3],
        ["train", "train", "test"],
    ]
    assert found.fields["label_names"].tolist()[2:] == ["neutral", "angry", "4", "frustrated"]
    assert found.transcript == ("Yeah.", "Excuse\u2028me.", "No!")
    np.testing.assert_allclose(found.fields["start_s"], [10.01, 6.2901, 1.0], rtol=1e-5)
    assert lists(found, "valence", "arousal", "dominance") == [[1.5, 2.5, 1.0], [4.0, 2.0, 4.0], [2.5, 3.0, 4.0]]
    folder = f"{iemocap.parent}/{iemocap.name}/Session1"
    sentence = f"{folder}/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    assert found.audio[1] == Clip(sentence, 0.0, None)
    assert found.audio[0] == Clip(f"{folder}/dialog/wav/Ses01F_impro01.wav", 10.01, 11.3925)
    scene = f"{folder}/dialog/avi/DivX/Ses01F_impro01.avi"
    assert found.video == (
        Clip(scene, 10.01, 11.3925, (0.0, 0.0, 0.5, 1.0)),
        Clip(scene, 6.2901, 8.2357, (0.0, 0.0, 0.5, 1.0)),
        None,
    )
    printed = capsys.readouterr().out
    assert "only 2 of 5 sessions" in printed
    assert "1 transcribed turns are not in EmoEvaluation" in printed
    assert "1 utterances without one of the labels are left out" in printed
    assert "1 of 3 utterances have no video file" in printed


def test_iemocap_with_context(iemocap):
    found = read("iemocap", iemocap, "--keep-unlabeled")
    assert lists(found, "utterance_id", "label") == [
        ["Ses01F_impro01_F001", "Ses01F_impro01_F000", "Ses01F_impro01_M000", "Ses05M_script01_1_F000"],
        [5, 2, -1, 3],
    ]
    assert found.video[2].region == (0.5, 0.0, 0.5, 1.0)  # the other actor's half


MELD_COLUMNS = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


def test_meld(tmp_path):
    root = tmp_path / "MELD.Raw"
    write(
        root / "train/train_sent_emo.csv",
        MELD_COLUMNS + '1,"Oh, that\u0092s it",Joey,joy,positive,10,0,8,21,"00:16:16,059","00:16:21,731"\n'
        "2,No!,Ross,anger,negative,2,1,8,21,x,y\n3,Hi,Ross,neutral,neutral,2,0,8,21,x,y\n",
    )
    write(root / "dev_sent_emo.csv", MELD_COLUMNS + "1,caf\xe9,Phoebe,disgust,negative,2,0,1,1,x,y\n", "cp1252")
    line = "1,So\u2028\u2029\x0b\x0c\x1c?,Rachel,surprise,positive,0,0,1,1,x,y\n"
    write(root / "test_sent_emo.csv", MELD_COLUMNS + line, "utf-16")
    touch(
        root / "train/train_splits/dia2_utt1.mp4",
        root / "train/train_splits/._dia2_utt0.mp4",
        root / "dev/dev_splits_complete/dia2_utt0.mp4",
        root / "test/output_repeated_splits_test/dia0_utt0.mp4",
        root / "test/output_repeated_splits_test/final_videos_testdia0_utt0.mp4",
    )
    found = read("meld", root)
    assert lists(found, "utterance_id", "dialogue_id", "turn", "speaker", "label", "sentiment", "split") == [
        ["train_dia2_utt0", "train_dia2_utt1", "train_dia10_utt0", "dev_dia2_utt0", "test_dia0_utt0"],
        ["train_2", "train_2", "train_10", "dev_2", "test_0"],
        [0, 1, 0, 0, 0],
        ["Ross", "Ross", "Joey", "Phoebe", "Rachel"],
        [0, 6, 4, 5, 1],
        [0, 2, 1, 2, 1],
        ["train", "train", "train", "valid", "test"],
    ]
    assert found.fields["sentiment_names"].tolist() == ["neutral", "positive", "negative"]
    assert found.transcript == ("Hi", "No!", "Oh, that’s it", "café", "So\u2028\u2029\x0b\x0c\x1c?")
    clips = [clip and clip.path.removeprefix(f"{tmp_path}/MELD.Raw/") for clip in found.video]
    assert clips == [
        None,
        "train/train_splits/dia2_utt1.mp4",
        None,
        "dev/dev_splits_complete/dia2_utt0.mp4",
        "test/output_repeated_splits_test/dia0_utt0.mp4",
    ]
    assert found.audio == found.video


@pytest.mark.parametrize("release", ["mosi", "mosei"])
def test_mosi_and_mosei_as_mmsa_lays_them_out(tmp_path, release):
    root = tmp_path / "MOSI"
    row = {"video_id": "v1", "clip_id": 10, "text": "BAD", "label": -1.8, "annotation": "Negative", "mode": "train"}
    write_csv(
        root / "label.csv",
        [
            row,
            row | {"clip_id": 2, "text": "GOOD", "label": 0.2},
            row | {"video_id": "03b", "clip_id": 1, "text": "SO", "label": 0.0, "mode": "test"},
        ],
    )
    touch(root / "Raw/v1/2.mp4")
    found = read(release, root)
    assert lists(found, "utterance_id", "dialogue_id", "label", "label_names", "split") == [
        ["03b$_$1", "v1$_$2", "v1$_$10"],
        ["03b", "v1", "v1"],
        [1, 2, 0],
        ["negative", "neutral", "positive"],
        ["test", "train", "train"],
    ]
    np.testing.assert_allclose(found.fields["sentiment"], [0.0, 0.2, -1.8], rtol=1e-6)
    assert found.video == (None, Clip(str(tmp_path / "MOSI/Raw/v1/2.mp4")), None)


@pytest.fixture
def mosi(tmp_path):
    root = tmp_path / "Raw"
    write(root / "Labels/OpinionLevelSentiment.csv", "0.5,2.25,vid_a,1,-2.4\n2.25,3,vid_a,2,0\n1,2,vid_b,1,1.2\n")
    write(root / "Transcript/Segmented/vid_a.annotprocessed", "1_DELIM_SO\u2028 SAD\n2_DELIM_OK_THEN\n")
    touch(
        root / "Video/Full/vid_a.mp4",
        root / "Video/Segmented/vid_a_1.mp4",
        root / "Audio/WAV_16000/Full/vid_a.wav",
    )
    return root


def test_mosi_as_published(mosi):
    found = read("mosi", mosi)
    assert lists(found, "utterance_id", "label") == [["vid_a_1", "vid_a_2", "vid_b_1"], [0, 1, 2]]
    assert found.transcript == ("SO\u2028 SAD", "OK_THEN", "")
    base = f"{mosi.parent}/Raw"
    assert found.video == (
        Clip(f"{base}/Video/Segmented/vid_a_1.mp4", 0.0, None),
        Clip(f"{base}/Video/Full/vid_a.mp4", 2.25, 3.0),
        None,
    )
    assert found.audio[0] == Clip(f"{base}/Audio/WAV_16000/Full/vid_a.wav", 0.5, 2.25)
    assert "split" not in found.fields


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("folds.py", "import os\nos.abort()\nstandard_train_fold=['vid_b']\nstandard_test_fold=['vid_a','x']\n"),
        ("folds.json", json.dumps({"train": ["vid_b"], "test": ["vid_a"]})),
    ],
)
def test_folds_of_mosi(mosi, tmp_path, name, content):
    write(tmp_path / name, content)
    found = read("mosi", mosi, "--folds", str(tmp_path / name))
    assert lists(found, "dialogue_id", "split") == [["vid_a", "vid_a", "vid_b"], ["test", "test", "train"]]


def test_mosei_as_published(tmp_path):
    h5py = pytest.importorskip("h5py", reason="the extra `releases` is not installed")
    root = tmp_path / "Raw"
    write(
        root / "Transcript/Segmented/Combined/vid.txt",
        "vid___0___0.0___3.5___Well ___ yes\x0bso\nvid___2___7.1___9.0___No\nvid___1___3.5___7.1___Hm\n",
    )
    touch(root / "Videos/Full/Combined/vid.mp4", root / "Audio/Full/WAV_16000/vid.wav")
    with h5py.File(root / "CMU_MOSEI_Labels.csd", "w") as file:
        group = file.create_group("All Labels/data/vid")
        group["intervals"] = np.array([[7.099, 9.0], [0.0, 3.5]])
        group["features"] = np.array([[-1.0, 0, 2, 1, 0, 0, 0], [0.5, 1, 0, 0, 0, 0, 3]])
    found = read("mosei", root, "--keep-unlabeled")
    assert lists(found, "utterance_id", "label") == [["vid_0", "vid_1", "vid_2"], [2, -1, 0]]
    assert found.transcript == ("Well ___ yes\x0bso", "Hm", "No")
    np.testing.assert_array_equal(found.fields["fear"], [3, np.nan, 0])
    assert found.video[2] == Clip(f"{tmp_path}/Raw/Videos/Full/Combined/vid.mp4", 7.1, 9.0)
    assert found.audio[2].path.endswith("WAV_16000/vid.wav")


def urfunny(root, **changed):
    content = {
        "language_sdk": {
            7: {
                "punchline_sentence": "and he left",
                "context_sentences": ["so I came", "and then"],
                "punchline_intervals": np.array([[65.0, 65.5], [65.5, 67.0]]),
                "context_intervals": [[[60.5, 61.0], [61.0, 62.5]], []],
            },
            8: {
                "punchline_sentence": ["thank", "you"],
                "context_sentences": [],
                "punchline_intervals": [[0.0, 1.5]],
                "context_intervals": [],
            },
            9: {},
        },
        "humor_label_sdk": {7: 1, 8: np.int64(0), 9: 1},
        "data_folds": {"train": [7], "dev": [8], "test": []},
    } | changed
    for name, value in content.items():
        root.mkdir(exist_ok=True)
        (root / f"{name}.pkl").write_bytes(pickle.dumps(value))
    touch(root / "urfunny2_videos/7.mp4")


def test_urfunny(tmp_path, capsys):
    pytest.importorskip("ariigcn_jax.data.readers.pickles", reason="the reader of pickles is not there")
    urfunny(tmp_path / "UR-FUNNY")
    found = read("urfunny", tmp_path / "UR-FUNNY")
    assert lists(found, "dialogue_id", "label", "label_names", "split") == [
        ["7", "7", "7", "8"],
        [-1, -1, 1, 0],
        ["not_humorous", "humorous"],
        ["train", "train", "train", "valid"],
    ]
    assert found.transcript == ("so I came", "and then", "and he left", "thank you")
    path = f"{tmp_path}/UR-FUNNY/urfunny2_videos/7.mp4"
    assert found.video == (Clip(path, 0.0, 2.0), None, Clip(path, 4.5, 6.5), None)
    assert "1 clips are in no fold" in capsys.readouterr().out


def test_urfunny_of_another_version(tmp_path, capsys):
    pytest.importorskip("ariigcn_jax.data.readers.pickles", reason="the reader of pickles is not there")
    urfunny(tmp_path / "UR-FUNNY", language_sdk={7: {"punchline_embedding_indexes": [1]}})
    arguments = ["manifest", "--release", "urfunny", str(tmp_path / "UR-FUNNY"), "--out", str(tmp_path / "m.csv")]
    assert run(*arguments) == 1
    assert "not those of UR-FUNNY V2 (KeyError: 'context_sentences')" in capsys.readouterr().err
    assert not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ("iemocap", "no Session1 … Session5"),
        ("meld", "no train_sent_emo.csv"),
        ("mosi", "neither label.csv nor Labels/OpinionLevelSentiment.csv"),
        ("mosei", "neither label.csv, nor CMU_MOSEI_Labels.csd"),
    ],
)
def test_another_folder_is_refused(tmp_path, capsys, release, message):
    assert run("manifest", "--release", release, str(tmp_path), "--out", str(tmp_path / "m.csv")) == 1
    assert message in capsys.readouterr().err


def test_refusals_of_the_command(tmp_path, iemocap, mosi, capsys):
    out = ["--out", str(tmp_path / "m.csv")]
    assert run("manifest", "--release", "iemocap", str(tmp_path / "gone"), *out) == 1
    assert "no such folder" in capsys.readouterr().err
    assert run("manifest", "--release", "iemocap", str(iemocap), "--folds", "x", *out) == 1
    assert "names its splits itself" in capsys.readouterr().err
    write(tmp_path / "folds.py", "standard_train_fold = make()\n")
    assert run("manifest", "--release", "mosi", str(mosi), "--folds", str(tmp_path / "folds.py"), *out) == 1
    assert "does not name splits" in capsys.readouterr().err
    write(mosi / "Labels/OpinionLevelSentiment.csv", "a,b,c\n")
    assert run("manifest", "--release", "mosi", str(mosi), *out) == 1
    assert "is not START,END,VIDEO,SEGMENT,SENTIMENT" in capsys.readouterr().err

"""Checkpoints: bits survive, old ones go, incomplete ones do not count, and what does not fit is named."""

import shutil
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ariigcn_jax.runs import checkpoint
from ariigcn_jax.runs.checkpoint import Checkpoints
from ariigcn_jax.types import TrainState, UserError

WIDTH = 3


def items(value=0.0, width=WIDTH, seeds=2):
    """What a run stores, for as many seeds, with numbers that follow from `value`."""
    random = np.random.default_rng(int(value * 10))
    kernel = random.normal(size=(seeds, width, 4)).astype(np.float32)
    params = {"dense": {"kernel": kernel, "bias": np.zeros((seeds, 4), np.float32)}}
    keys = np.stack([jax.random.key_data(jax.random.fold_in(jax.random.key(s), int(value))) for s in range(seeds)])
    last = TrainState(
        step=np.full(seeds, value, np.int32),
        key=keys,
        params=params,
        average={},
        discriminators={},
        optimizer=(np.full(seeds, value, np.int32), {"mu": params}),
        discriminator_optimizer=(),
    )
    best = {"params": params, "epoch": np.arange(seeds, dtype=np.int32), "score": np.full(seeds, value, np.float32)}
    return {"last": last, "best": best, "data": {"text/mean": np.array([np.pi, -0.0, 1e-40], np.float32)}}


def written(folder, epochs, keep=2):
    checkpoints = Checkpoints(folder, keep)
    for epoch in epochs:
        checkpoints.save(epoch, items(epoch))
    checkpoints.finish()
    return folder


def newest(folder):
    """Newest epoch and its content, read by a manager of its own."""
    checkpoints = Checkpoints(folder, 2)
    try:
        epoch = checkpoints.latest()
        return epoch, epoch is not None and checkpoints.restore(epoch, items())
    finally:
        checkpoints.finish()


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def test_empty_folder_has_none(tmp_path):
    assert newest(tmp_path) == (None, False)


def test_round_trip_keeps_every_bit_and_the_random_key(tmp_path):
    epoch, restored = newest(written(tmp_path, [3]))
    assert epoch == 3
    assert_same_bits(restored, items(3))
    key = jax.random.wrap_key_data(restored["last"].key[1])
    assert jax.random.bits(key) == jax.random.bits(jax.random.fold_in(jax.random.key(1), 3))


def test_what_is_saved_from_the_device_comes_back_too(tmp_path):
    checkpoints, given = Checkpoints(tmp_path, 1), jax.tree.map(jnp.asarray, items(1))
    checkpoints.save(1, given)
    checkpoints.finish()
    assert_same_bits(newest(tmp_path)[1], jax.tree.map(np.asarray, given))


def test_what_is_saved_may_change_at_once(tmp_path):
    """The next epoch overwrites arrays while they are being written."""
    checkpoints, given = Checkpoints(tmp_path, 1), items(4)
    checkpoints.save(4, given)
    for x in jax.tree.leaves(given):
        x[:] = 7
    checkpoints.finish()
    assert_same_bits(newest(tmp_path)[1], items(4))


def test_some_items_can_be_read_alone(tmp_path):
    written(tmp_path, [1])
    checkpoints = Checkpoints(tmp_path, 2)
    assert_same_bits(checkpoints.restore(1, {"data": items()["data"]}), {"data": items(1)["data"]})
    checkpoints.finish()


@pytest.mark.parametrize("keep", [1, 2])
def test_newest_ones_stay(tmp_path, keep):
    written(tmp_path, [1, 2, 5, 6], keep)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir())
    assert names == ["5", "6"][-keep:]
    assert newest(tmp_path)[0] == 6


def test_incomplete_checkpoint_does_not_count(tmp_path):
    folder = written(tmp_path, [1]) / "checkpoints"
    begun = folder / "2.orbax-checkpoint-tmp-1700000000000000"
    (begun / "last.orbax-checkpoint-tmp-1700000000000001").mkdir(parents=True)
    (begun / "last.orbax-checkpoint-tmp-1700000000000001" / "_METADATA").write_text("{")
    epoch, restored = newest(tmp_path)
    assert epoch == 1
    assert_same_bits(restored, items(1))
    for _ in range(100):  # it is removed in the background
        if not begun.exists():
            break
        time.sleep(0.1)
    assert not begun.exists()


@pytest.mark.parametrize("other", [{"width": WIDTH + 1}, {"width": WIDTH - 1}, {"seeds": 1}, {"seeds": 3}], ids=str)
def test_other_shapes_are_refused_by_name(tmp_path, other):
    written(tmp_path, [7])
    checkpoints = Checkpoints(tmp_path, 2)
    with pytest.raises(UserError, match=r"checkpoints/7: .*--workdir"):
        checkpoints.restore(7, items(**other))
    checkpoints.finish()


def test_other_structure_is_refused_by_name(tmp_path):
    written(tmp_path, [7])
    like = items()
    like["best"]["params"]["another"] = np.zeros(2)
    checkpoints = Checkpoints(tmp_path, 2)
    with pytest.raises(UserError, match="checkpoints/7: "):
        checkpoints.restore(7, like)
    checkpoints.finish()


# --- Damage -----------------------------------------------------------------------------------------------------------


def flip(file, offset):
    content = bytearray(file.read_bytes())
    content[offset] ^= 1 << (offset % 8)
    file.write_bytes(content)


DAMAGES = {
    "first bit": lambda file: flip(file, 0),
    "middle bit": lambda file: flip(file, file.stat().st_size // 2),
    "last bit": lambda file: flip(file, file.stat().st_size - 1),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A work directory with the checkpoints 6 and 7."""
    return written(tmp_path_factory.mktemp("pair"), [6, 7])


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_noticed(pair, tmp_path, damage):
    """Except to what orbax adds at the top, which no bit of the state depends on: see below."""
    newest = pair / "checkpoints" / "7"
    files = [p for p in newest.rglob("*") if p.is_file() and p.parent != newest]
    assert {p.relative_to(newest).parts[0] for p in files} == {"last", "best", "data"} and len(files) > 15
    assert checkpoint._damage(newest) is None
    for file in files:
        copy = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(newest, copy)
        DAMAGES[damage](copy / file.relative_to(newest))
        assert str(file.relative_to(newest)) in checkpoint._damage(copy)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "gone"])
def test_damage_to_the_checksums_is_noticed(pair, tmp_path, damage):
    shutil.copytree(pair / "checkpoints" / "7", tmp_path / "7")
    DAMAGES[damage](tmp_path / "7" / "SHA256SUMS")
    assert checkpoint._damage(tmp_path / "7")


@pytest.mark.parametrize("bit", range(8))
def test_damage_to_the_end_of_the_checksums_is_noticed(pair, tmp_path, bit):
    """A line's end may turn into another sort of white space."""
    shutil.copytree(pair / "checkpoints" / "7", tmp_path / "7")
    sums = tmp_path / "7" / "SHA256SUMS"
    content = sums.read_bytes()
    sums.write_bytes(content[:-1] + bytes([content[-1] ^ 1 << bit]))
    assert checkpoint._damage(tmp_path / "7")


def test_checksums_are_those_of_coreutils(pair):
    check = ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=pair / "checkpoints" / "7", check=False).returncode == 0


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "commit_success.txt"])
def test_no_bit_depends_on_what_orbax_adds(pair, tmp_path, name, damage):
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True)
    DAMAGES[damage](tmp_path / "checkpoints" / "7" / name)
    epoch, restored = newest(tmp_path)
    assert epoch == 7
    assert_same_bits(restored, items(7))


@pytest.mark.parametrize("damage", ["middle bit", "gone"])
def test_the_one_before_a_damaged_one_is_used(pair, tmp_path, capsys, damage):
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True)
    file = next((tmp_path / "checkpoints" / "7" / "last").rglob("manifest.ocdbt"))
    DAMAGES[damage](file)
    problem = "is missing" if damage == "gone" else "does not match its checksum"
    words = f"checkpoints/7: this checkpoint is damaged ({file.relative_to(tmp_path / 'checkpoints' / '7')} {problem}"
    best, _ = checkpoint.read_best(tmp_path)
    assert best["score"].tolist() == [6, 6]
    assert words in capsys.readouterr().err
    assert file.parent.exists()  # reading changes nothing
    checkpoints = Checkpoints(tmp_path, 2)
    assert checkpoints.latest() == 6
    assert words in capsys.readouterr().err
    assert_same_bits(checkpoints.restore(6, items()), items(6))
    checkpoints.save(7, items(7))
    checkpoints.finish()
    assert (tmp_path / "damaged_checkpoints" / "7" / "SHA256SUMS").exists()
    assert_same_bits(newest(tmp_path)[1], items(7))
    assert checkpoint.read_best(tmp_path)[0]["score"].tolist() == [7, 7]
    assert capsys.readouterr().err == ""


def test_none_intact_is_an_error_and_not_a_new_beginning(pair, tmp_path):
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True)
    for epoch in "67":
        DAMAGES["half"](tmp_path / "checkpoints" / epoch / "best" / "_METADATA")
    for read in (newest, newest, checkpoint.read_best):
        with pytest.raises(UserError, match=r"no checkpoint there is intact .*7: best/_METADATA.* 6: "):
            read(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    assert newest(tmp_path)[0] is None


def test_checkpoint_of_an_earlier_version_is_used_unchecked(pair, tmp_path, capsys):
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoints" / "7" / "SHA256SUMS").unlink()
    assert_same_bits(newest(tmp_path)[1], items(7))
    assert "checkpoints/7 has no SHA256SUMS; it is used without a check" in capsys.readouterr().out
    for file in (tmp_path / "checkpoints" / "7" / "best").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(UserError, match="checkpoints/7: "):
        newest(tmp_path)
    assert checkpoint.read_best(tmp_path)[0]["score"].tolist() == [6, 6]


# --- Saving -----------------------------------------------------------------------------------------------------------


def test_finish_waits_for_what_is_being_written(tmp_path):
    large = items() | {"data": {"text/mean": np.ones((3_000_000,), np.float32)}}
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(9, large)
    checkpoints.finish()
    assert (tmp_path / "checkpoints" / "9").is_dir()
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))


def test_full_disk_says_that_the_one_before_is_intact(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(1, items(1))

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: " + "x" * 300 + ": No space left on device [os_error_code='28']")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(UserError, match=r"checkpoints: .*No space left on device.*intact"):
        checkpoints.save(2, items(2))
    checkpoints.finish()
    assert newest(tmp_path)[0] == 1

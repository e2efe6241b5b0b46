"""Folders of the cache are what was written there, or are built again."""

import pytest

from strop.core import env
from strop.core.cache import cached_folder, is_cached, key_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STROP_CACHE", str(tmp_path))
    assert env.cache_folder() == tmp_path


@pytest.fixture
def folder():
    return cached_folder("model", {"of": 1}, build)


def build(path):
    path.mkdir()
    (path / "codes").write_bytes(b"codes")


def test_a_folder_is_built_once_for_a_key(folder):
    times = (folder / "codes").stat().st_mtime_ns
    assert cached_folder("model", {"of": 1}, build) == folder
    assert (folder / "codes").stat().st_mtime_ns == times
    assert key_of(folder) == {"of": 1}
    assert not is_cached("model", {"of": 2})


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone", "more"])
def test_a_damaged_folder_is_named_and_built_again(folder, harm, caplog):
    codes = folder / "codes"
    if harm == "gone":
        codes.unlink()
    elif harm == "more":
        (folder / "model.safetensors").write_bytes(b"")
    else:
        codes.write_bytes({"flipped": b"cod\x00s", "cut": b"co"}[harm])
    assert cached_folder("model", {"of": 1}, build) == folder
    assert "is not what was written there; it is built again" in caplog.text
    assert [path.name for path in folder.iterdir() if path.name != "cached.json"] == ["codes"]
    assert codes.read_bytes() == b"codes"


@pytest.mark.parametrize(
    "stamp", ["", "[]", "{", '{"key": {"of": 1}}', '{"key": {"of": 1}, "sha256": 5}']
)
def test_a_damaged_stamp_is_as_good_as_none(folder, stamp):
    (folder / "cached.json").write_text(stamp)
    assert not is_cached("model", {"of": 1})
    cached_folder("model", {"of": 1}, build)
    assert is_cached("model", {"of": 1})

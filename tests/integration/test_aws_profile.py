"""Keys that lie in a profile's file: reading and writing both find them, and the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.core.locations import parse_location
from cluster.run_errors import NotLanded, StoreFault
from cluster.runtime.storage import filesystems
from cluster.runtime.storage.aws_profile import profile_keys
from cluster.runtime.storage.object_store import ObjectStore
from tests.fakes.s3_server import ACCESS, BUCKET, S3, SECRET


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file with the right keys in profile `night` and wrong ones in the default, and no keys elsewhere."""
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id = NOBODY\naws_secret_access_key = wrong\n"
        f"[night]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n"
        "[role]\nrole_arn = arn:aws:iam::1:role/night\nsource_profile = night\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_PROFILE", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    filesystems._remote.cache_clear()
    yield path
    filesystems._remote.cache_clear()


def test_keys_of_the_named_profile_write_and_read(
    s3: S3, profiles: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "night")
    store = ObjectStore(parse_location(f"s3://{BUCKET}/{tmp_path.name}"), s3.options())
    store.write("name", b"content")
    with store.open_input("name") as file:
        assert file.read() == b"content"


def test_keys_of_the_default_profile_are_used_where_none_is_named(s3: S3, profiles: Path, tmp_path: Path) -> None:
    store = ObjectStore(parse_location(f"s3://{BUCKET}/{tmp_path.name}"), s3.options())
    with pytest.raises(NotLanded):
        store.write("name", b"content")
    with pytest.raises(OSError, match=r"403|ACCESS_DENIED|FORBIDDEN|INVALID_ACCESS_KEY_ID|Access"):
        filesystems.open_file(store.path("name"), s3.options())


def test_keys_that_were_replaced_are_read_again(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = profile_keys()
    assert keys is not None
    assert (keys()["access_key_id"], keys()["token"]) == ("NOBODY", None)
    profiles.write_text("[default]\naws_access_key_id=A\naws_secret_access_key=B\naws_session_token=C\n")
    assert (keys()["access_key_id"], keys()["secret_access_key"], keys()["token"]) == ("A", "B", "C")
    profiles.write_text("")
    with pytest.raises(PermissionError, match="no keys of profile 'default'"):
        keys()


def test_the_environment_comes_first_and_other_profiles_are_left_alone(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for profile in ("role", "none"):
        monkeypatch.setenv("AWS_PROFILE", profile)
        assert profile_keys() is None
    monkeypatch.setenv("AWS_PROFILE", "night")
    assert profile_keys() is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    assert profile_keys() is None
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    profiles.write_bytes(b"\xff[")
    assert profile_keys() is None


def test_keys_that_are_gone_when_they_are_wanted_are_a_fault(s3: S3, profiles: Path, tmp_path: Path) -> None:
    store = ObjectStore(parse_location(f"s3://{BUCKET}/{tmp_path.name}"), s3.options())
    profiles.write_text("")
    with pytest.raises(StoreFault, match=r"could not be written.*no keys of profile"):
        store.write("name", b"content")

"""URLs and options: what each scheme takes, what is refused, and how it reaches the libraries below."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.locations import (
    OPTIONS,
    SECRETS,
    Location,
    NotALocation,
    is_inside,
    normalized,
    options_for,
    parse_location,
    split_options,
)
from cluster.runtime.storage.object_store import connect
from cluster.runtime.storage.open_store import StoreSpec
from lstm_core.errors import UsageError

AZURE = "abfs://box@acme.dfs.core.windows.net/a/b"


@pytest.mark.parametrize(
    ("url", "place", "fs_path"),
    [
        ("s3://bucket/a/b/", Location("s3", "bucket", "a/b"), "bucket/a/b"),
        ("s3a://bucket", Location("s3", "bucket", ""), "bucket"),
        ("gcs://bucket/a=1/x%20y", Location("gs", "bucket", "a=1/x%20y"), "bucket/a=1/x%20y"),
        (AZURE, Location("abfs", "box@acme.dfs.core.windows.net", "a/b"), "box/a/b"),
        ("abfss://box/a", Location("abfs", "box", "a"), "box/a"),
        ("hdfs://node:8020/a/b", Location("hdfs", "node:8020", "a/b"), "/a/b"),
    ],
)
def test_a_url_is_taken_apart(url: str, place: Location, fs_path: str) -> None:
    assert parse_location(url) == place
    assert place.fs_path == fs_path
    assert parse_location(place.url) == place
    assert place.named(f"{fs_path}/file") == f"{place.url}/file"


def test_azure_s_long_form_names_its_account() -> None:
    assert (parse_location(AZURE).bucket, parse_location(AZURE).account) == ("box", "acme")
    assert parse_location("abfs://box/a").account is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://host/x", "starts with 'https'"),
        ("s3://", "must name a bucket"),
        ("s3://key:hush@bucket/x", "credentials"),
        ("abfs://box:hush@acme.dfs.core.windows.net/x", "credentials"),
        ("gs://bucket/a/../b", "no empty"),
        ("gs://bucket/a//b", "no empty"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secret(url: str, said: str) -> None:
    with pytest.raises(NotALocation, match=said) as refused:
        parse_location(url)
    assert "hush" not in str(refused.value)


def test_paths_and_file_urls_are_absolute() -> None:
    assert normalized("a/../b", "/data") == "/data/b"
    assert normalized("file:///x/y", "/data") == "/x/y"
    assert normalized("s3a://bucket/x/", "/data") == "s3://bucket/x"


def test_options_behind_a_url_are_those_of_storage() -> None:
    url, options = split_options("s3://b/x?endpoint_override=host:1&anonymous=true&request_timeout=2")
    assert (url, options) == ("s3://b/x", {"endpoint_override": "host:1", "anonymous": True, "request_timeout": 2.0})
    assert split_options("a/b?c=1") == ("a/b?c=1", {})
    assert StoreSpec.named("gs://b/x?scheme=http") == StoreSpec("gs://b/x", {"scheme": "http"})
    for name in SECRETS:
        with pytest.raises(UsageError, match="secrets come from the environment") as refused:
            StoreSpec.named(f"s3://b/x?{name}=hush")
        assert "hush" not in str(refused.value)


@given(st.sampled_from(sorted(OPTIONS)), st.sets(st.sampled_from([*OPTIONS["s3"], *OPTIONS["abfs"], "other"])))
def test_a_scheme_takes_its_own_options_only(scheme: str, names: set[str]) -> None:
    assert set(options_for(scheme, dict.fromkeys(names, "x"))) == names & set(OPTIONS[scheme])
    assert not set(SECRETS) & set(OPTIONS[scheme])


def test_inside_is_by_whole_parts() -> None:
    assert is_inside("s3://b/in/out", "s3://b/in")
    assert is_inside("s3://b/in", "s3://b/in")
    assert not is_inside("s3://b/input", "s3://b/in")


@pytest.mark.parametrize(
    ("url", "options", "config"),
    [
        (
            "s3://b/x",
            {"region": "eu-central-1", "anonymous": True},
            {"region": "eu-central-1", "skip_signature": "true"},
        ),
        ("s3://b/x", {"endpoint_override": "h:1", "scheme": "http"}, {"endpoint": "http://h:1"}),
        ("s3://b/x", {"endpoint_override": "h:1"}, {"endpoint": "https://h:1"}),
        ("s3://b/x", {"force_virtual_addressing": True}, {"virtual_hosted_style_request": "true"}),
        ("gs://b/x", {"endpoint_override": "h:1", "scheme": "http"}, {"base_url": "http://h:1"}),
        ("gs://b/x", {"anonymous": True}, {"skip_signature": "true"}),
        (AZURE, {}, {"account_name": "acme"}),
        ("abfs://box/x", {"account_name": "acme"}, {"account_name": "acme"}),
        (
            "abfs://box/x",
            {"account_name": "acme", "blob_storage_authority": "h:1", "blob_storage_scheme": "http"},
            {"endpoint": "http://h:1/acme"},
        ),
        (
            "abfs://box/x",
            {"account_name": "acme", "blob_storage_authority": ".blob.core.windows.net"},
            {"endpoint": "https://acme.blob.core.windows.net"},
        ),
    ],
)
def test_options_of_pyarrow_reach_the_writing_client(url: str, options: dict[str, Any], config: dict[str, Any]) -> None:
    client = connect(parse_location(url), options, repeats=0)
    assert {name: client.config.get(name) for name in config} == config
    assert client.prefix == parse_location(url).key
    assert client.retry_config is not None
    assert client.retry_config["max_retries"] == 0

"""An Iceberg table's properties are data: none of them runs anything, and none chooses who is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import load_file_io

from cluster.core.settings import InputSettings
from cluster.run_errors import InputRefused
from cluster.runtime.listing.file_listing import list_files
from tests.harness.commands import command
from tests.inputs.configs import IN_AND_OUT
from tests.inputs.series import make_series
from tests.models.keras_models import FIT, save


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    """The metadata file of a table with one file of rows."""
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/tables")
    catalog.create_namespace("n")
    rows = make_series((5, 7))
    table = catalog.create_table("n.t", rows.schema)
    table.append(rows)
    catalog.close()
    return Path(table.metadata_location.removeprefix("file://"))


def spoil(metadata: Path, **changes: object) -> None:
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), **changes}))


def listed(path: Path, **storage: str) -> list[str]:
    columns = {"entity": ("entity",), "time": ("time",), "features": (("rows", ("f0", "f1", "f2")),)}
    settings = InputSettings(path=(str(path),), storage=dict(storage), **columns)
    return list(list_files(settings))


@pytest.mark.parametrize("storage", ["", '[storage]\nregion = "eu"\n'])
def test_a_class_in_py_io_impl_is_not_imported(metadata: Path, tmp_path: Path, storage: str) -> None:
    """`py-io-impl = "subprocess.Popen"` would be given the other properties as the words of a command."""
    mark = tmp_path / "mark"
    properties = {"sh": "", "-c": "", f": > {mark}": "", "py-io-impl": "subprocess.Popen"}
    spoil(metadata, properties=properties)
    (tmp_path / "m.keras").write_bytes(save(FIT["lstm"]()))
    text = f'[model]\npath = "m.keras"\n{IN_AND_OUT}{storage}'.replace('"in"', json.dumps(str(metadata)))
    (tmp_path / "c.toml").write_text(text)
    assert command("plan", str(tmp_path / "c.toml")) == 0
    assert not mark.exists()
    process = load_file_io(properties)  # the library itself would have run it
    assert process.wait() == 0  # type: ignore[attr-defined]
    assert mark.exists()


@pytest.mark.parametrize("by_folder", [False, True])
@pytest.mark.parametrize("impl", ["antigravity.Fly", "tests.paths.ROOT", "os.system"])
def test_properties_that_name_code_change_nothing(metadata: Path, impl: str, by_folder: bool) -> None:
    path = metadata.parents[1] if by_folder else metadata
    before = listed(path)
    names = ("py-io-impl", "py-location-provider.impl", "py-catalog-impl", "s3.signer", "rest.signer")
    spoil(metadata, properties={**dict.fromkeys(names, impl), "s3.signer.uri": "http://127.0.0.1:9"})
    assert listed(path) == before


@contextmanager
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server that refuses whatever it is asked, and what it was asked."""
    seen: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


def test_endpoints_proxies_and_tokens_of_a_table_are_not_used(metadata: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's manifests are said to lie in S3, and its properties say where S3 is."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with asked() as (theirs, seen_there), asked() as (ours, seen_here):
        spoil(metadata, properties={"s3.endpoint": f"http://{theirs}", "s3.proxy-uri": f"http://{theirs}"})
        stored = json.loads(metadata.read_text())
        for snapshot in stored["snapshots"]:
            snapshot["manifest-list"] = "s3://bucket/list.avro"
        spoil(metadata, snapshots=stored["snapshots"])
        with pytest.raises(InputRefused):
            listed(metadata, endpoint_override=ours, scheme="http", region="us-east-1")
    assert seen_there == []
    assert seen_here  # the user's own endpoint


@pytest.mark.parametrize("place", ["hdfs://elsewhere:8020/list.avro", "abfs://c@elsewhere.dfs.core.windows.net/l.avro"])
def test_a_table_cannot_choose_a_host(metadata: Path, place: str) -> None:
    stored = json.loads(metadata.read_text())
    for snapshot in stored["snapshots"]:
        snapshot["manifest-list"] = place
    spoil(metadata, snapshots=stored["snapshots"])
    with pytest.raises(InputRefused, match="elsewhere"):
        listed(metadata)

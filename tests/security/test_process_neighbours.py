"""Another user of the machine cannot reach an embedded Ray: it has a folder and a token that are its user's alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import ray

from cluster.core.settings import ClusterSettings
from cluster.run_errors import ClusterRefused, RunFailed
from cluster.runtime.fleet import embedded_ray
from cluster.runtime.fleet.embedded_ray import TOKEN_VARIABLES, kept_to_itself
from cluster.runtime.fleet.ray_session import connected

ONE = ClusterSettings(replicas=1)


@contextmanager
def embedded() -> Iterator[Path]:
    """The folder around that of an embedded Ray that runs."""
    with connected(ONE):
        yield Path(ray._private.worker.global_worker.node.get_session_dir_path()).parents[1]


@ray.remote
def variable(name: str) -> str | None:
    return os.environ.get(name)


@pytest.mark.ray
def test_the_session_is_in_a_folder_that_only_its_user_may_enter_and_that_goes_with_it() -> None:
    with embedded() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.geteuid()
        lines = Path("/proc/net/unix").read_text().splitlines()
        sockets = [words[-1] for words in map(str.split, lines) if f"_{os.getpid()}/sockets/" in words[-1]]
        assert sockets
        assert [place for place in sockets if not place.startswith(f"{folder}/")] == []
    assert not folder.exists()


@pytest.mark.ray
def test_each_ray_has_a_token_of_its_own_that_is_in_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One after the other in one process; and the environment is as it was."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before, tokens = dict(os.environ), []
    for _ in range(2):
        with embedded() as folder:
            assert os.environ["RAY_AUTH_MODE"] == "token"
            tokens.append(os.environ["RAY_AUTH_TOKEN"])
            assert ray.get(variable.remote("RAY_AUTH_TOKEN")) == tokens[-1]
            written = [
                file for file in folder.rglob("*") if file.is_file() and tokens[-1].encode() in file.read_bytes()
            ]
            assert written == []
        assert {name: os.environ.get(name) for name in TOKEN_VARIABLES} == {n: before.get(n) for n in TOKEN_VARIABLES}
    assert tokens[0] != tokens[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_no_command_line_shows_the_token() -> None:
    """They are open to all users of a machine."""
    with connected(ONE):
        token = os.environ["RAY_AUTH_TOKEN"]
        lines = [command_line(process) for process in Path("/proc").glob("[0-9]*")]
        assert any("raylet" in line for line in lines)
        assert [line for line in lines if token in line] == []


def command_line(process: Path) -> str:
    """As everybody may read it; empty once the process has gone."""
    with suppress(OSError):
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def test_a_folder_for_sockets_that_there_is_nowhere_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_ray, "FOLDER_BYTES", 5)
    with pytest.raises(ClusterRefused, match=r"No folder for an embedded Ray's sockets: .*; set TMPDIR to a folder"):
        kept_to_itself().__enter__()


def test_a_ray_that_does_not_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("The current node timed out during startup.\nSee the logs.")

    monkeypatch.setattr(ray, "init", broken)
    with pytest.raises(RunFailed, match=r"^An embedded Ray does not start on this machine: The current node timed out"):
        connected(ONE).__enter__()

"""What an embedded Ray keeps to itself: a folder for its files, and a token for those that may speak to it.

Whoever reaches a Ray runs code in it, as the user that has started it. Ray's own token lies in the home folder,
readable by all, and its session folder is open to all, with its sockets and its log. What it decides: that an embedded
Ray has a new token, which stands in the environment of its processes alone, and a new folder, inside one that only its
user may enter; both go when it ends. So it needs no home, and leaves nothing in the folder for temporary files.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from cluster.run_errors import ClusterRefused
from cluster.runtime.fleet.ray_private import renew_token
from lstm_core.own_process import without_home

PREFIX = "slotcar-"
RAY = "r"
# A socket's path has at most 107 bytes, and Ray puts this behind the folder: the session, with the time and the number
# of the process, and the longest name in it.
FOLDER_BYTES = 107 - len(f"/{RAY}/session_2026-12-01_00-00-00_000000_4194304/sockets/plasma_store")
TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextmanager
def kept_to_itself() -> Iterator[str]:
    """Where an embedded Ray puts its files; while inside, the environment has its token. Raises `ClusterRefused`."""
    with ExitStack() as around:
        folder = _private_folder()
        around.callback(shutil.rmtree, folder, ignore_errors=True)  # Ray's processes may still write their last words
        session = os.path.join(folder, RAY)  # Ray opens the folder that it is given to all
        # Ray itself chooses the mode "token" for an embedded one where none is set, and tells its own parts.
        token = {**dict.fromkeys(TOKEN_VARIABLES), "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        around.callback(renew_token)  # as the environment is afterwards
        around.enter_context(_in_environment({**token, **without_home()}))
        renew_token()
        yield session


def _private_folder() -> str:
    """A new folder of mode 0700 whose path leaves room for the sockets in it."""
    places = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"]
    for place in dict.fromkeys(filter(None, places)):
        if len(os.fsencode(_folder_in(place))) > FOLDER_BYTES:
            continue
        try:
            return tempfile.mkdtemp(prefix=PREFIX, dir=place)
        except OSError:
            continue
    raise ClusterRefused(
        f"No folder for an embedded Ray's sockets: {places[0]} has too long a path for them or cannot be written, and "
        f"so it is with {', '.join(filter(None, places[1:]))}; set TMPDIR to a folder with a path of at most "
        f"{FOLDER_BYTES - len(_folder_in('/'))} bytes."
    )


def _folder_in(place: str) -> str:
    return os.path.join(os.path.abspath(place), f"{PREFIX}{'x' * 8}")  # tempfile's letters


@contextmanager
def _in_environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """While inside, the variables have these values, here and in processes that are started; None: there is none."""
    kept = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(kept)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

"""AWS keys from a profile's file, for the writing client: the reading one finds them there by itself.

obstore looks into the environment and asks for the machine's role; AWS's own library, which pyarrow stands on, looks
into `~/.aws/credentials` between the two. So does this. A file may be written anew while a run goes on, by whatever
hands out keys for some hours, so what was read is good for `FRESH_S` only. Profiles that name another source of keys
(a role, a process, a single sign-on) are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from configparser import Error, RawConfigParser
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from obstore.store import S3Credential

FRESH_S = 300


class _Keys(TypedDict):
    access_key_id: str
    secret_access_key: str
    token: str | None


def profile_keys() -> Callable[[], S3Credential] | None:
    """What gives the profile's keys whenever it is asked; None where the environment has some or no profile does."""
    if "AWS_ACCESS_KEY_ID" in os.environ or _read() is None:
        return None
    return _fresh


def _fresh() -> S3Credential:
    found = _read()
    if found is None:
        raise PermissionError(f"{_file()} has no keys of profile {_profile()!r} any more")
    return {**found, "expires_at": datetime.now(UTC) + timedelta(seconds=FRESH_S)}


def _read() -> _Keys | None:
    profiles = RawConfigParser()
    try:
        profiles.read(_file(), encoding="utf-8")
        mine = profiles[_profile()]
        key, secret = mine["aws_access_key_id"], mine["aws_secret_access_key"]
    except (Error, KeyError, OSError, UnicodeDecodeError):
        return None
    return {"access_key_id": key, "secret_access_key": secret, "token": mine.get("aws_session_token")}


def _file() -> Path:
    spelt = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    return Path(os.path.expanduser(spelt))  # unlike pathlib's own, it asks for no home where there is none


def _profile() -> str:
    """The profile's name, as AWS's library finds it."""
    return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE") or "default"

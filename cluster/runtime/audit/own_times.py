"""Which rows a run was asked for: `since` and `until` as the audit understands them.

What it decides: a bound without a zone is meant in the zone of the column, as a clock on the wall has it. It shares
nothing with the code by which a run leaves rows out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa

from cluster.core.settings import InputSettings
from cluster.runtime.audit.own_values import Moments
from lstm_core.array_types import Bools

_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d{2})?", re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def asked_for(moments: Moments, kind: pa.DataType, settings: InputSettings) -> Bools:
    """Which rows (row,) lie in since..until, by their first time column, whose type is `kind`."""
    asked = np.ones(len(moments), np.bool_)
    if settings.since is not None:
        asked &= ~_before(moments, settings.since, kind)
    if settings.until is not None:
        asked &= _before(moments, settings.until, kind)
    return asked


def _before(moments: Moments, bound: str, kind: pa.DataType) -> Bools:
    upper, lower = _whole(bound) if moments.styles[0] == "whole" else _moment(bound, getattr(kind, "tz", None))
    first, second = moments.columns[:2]
    assert isinstance(first, np.ndarray), "the first time column is never compared as bytes"
    assert isinstance(second, np.ndarray), "the first time column is never compared as bytes"
    return np.asarray((first < upper) | ((first == upper) & (second < lower)))


def _whole(bound: str) -> tuple[int, int]:
    return divmod(int(bound), 1 << 32)


def _moment(bound: str, zone: str | None) -> tuple[int, int]:
    moment = datetime.fromisoformat(bound)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=_zone(zone))
    passed = moment - _EPOCH
    return passed.days * 86_400 + passed.seconds, passed.microseconds * 1000


def _zone(name: str | None) -> tzinfo:
    if name is None or name.upper() in ("Z", "UTC", "GMT"):
        return UTC
    match = _OFFSET.fullmatch(name)
    if match:
        offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
        return timezone(-offset if match[1] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC

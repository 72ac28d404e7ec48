"""What JSON and TOML hold, for annotations: values whose types nobody knows before they are looked at."""

from __future__ import annotations

from typing import Any, TypeAlias

JsonValue: TypeAlias = Any  # None, bool, int, float, str, list or dict
JsonObject: TypeAlias = dict[str, Any]

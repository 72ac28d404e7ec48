"""A plugin of pytest (`-p tests.harness.no_pandas`): the process looks as if pandas were not installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType


class _NoPandas:
    """Asked first where a module lies."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("no pandas here", name=name)


assert "pandas" not in sys.modules, "too late: somebody has imported it"
sys.meta_path.insert(0, _NoPandas())

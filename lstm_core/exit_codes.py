"""The codes that every command's process ends with; what each asks of a scheduler stands in the guide on operating."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_QUARANTINE = 3
EXIT_STOPPED = 143

"""Results on stdout, whose reader may leave.

Decides that a reader who has seen enough, as `head` has, ends nothing: what is left of the text is dropped, and the
command ends with its own code. What is on disk is as it would be otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.runtime.watch.data_console import send_nowhere


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """For all that writes to stdout: once its reader is gone, the rest goes nowhere."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        send_nowhere(sys.stdout.fileno())

"""A run whose driver kills itself: `python -m tests.kills.kill_driver REQUEST.pickle PHASE`."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from cluster.runtime.run.run import score
from tests.kills.killing import Trigger, kill_this_process, watched, watched_store


def main(request_path: str, phase: str) -> None:
    """Never returns where the phase is reached."""
    request = pickle.loads(Path(request_path).read_bytes())
    trigger = Trigger(phase, kill_this_process)
    score(request, open_cluster=watched(trigger, []), open_store=watched_store(trigger))


if __name__ == "__main__":
    main(*sys.argv[1:])

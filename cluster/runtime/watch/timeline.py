"""The timeline: what happened to a run, and when, one line of JSON per transition.

Decides what is kept, and how often it is written. Its lines follow shards and replicas, never entities, and samples of
throughput come ever less often, so that the longest night stays a few thousand lines. A store knows no appending: each
batch is a file of its own under TIMELINE, named by the number of the driver's lock, written every `BATCH_S` and at the
end of the session. Beside it NOW, one small file, says every `NOW_S` how far the run is: `status --follow` reads it.
Nothing here may fail a run or slow it: what cannot be written is left out, and said once.

Each transition is also one line of the log: INFO, or WARNING for what costs work.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from cluster.core.commit import Fragment
from cluster.core.schedule.actions import Action, Assign, Commit, Discard, Fail, Finish, Quarantine, StartReplica
from cluster.core.schedule.events import ClusterChanged, Event, ReplicaLeaving, ReplicaLost, ReplicaReady
from cluster.core.schedule.scheduler import Scheduler
from cluster.run_errors import LockLost, StoreFault
from cluster.runtime.commit.commit import NOW, TIMELINE, Commits
from cluster.runtime.replica.pipeline import Counters
from cluster.runtime.storage.store import Store
from cluster.runtime.watch.progress import Progress
from lstm_core.json_types import JsonObject, JsonValue
from lstm_core.shown_text import utf8

BATCH_S = 60.0  # at most so long a line waits for its file
NOW_S = 5.0
SAMPLE_S = 1.0  # between the first samples; later a SAMPLE_SHARE of the session's age
SAMPLE_SHARE = 1 / 500
STAGES = ("read", "pack", "compute", "write")

log = logging.getLogger("slotcar")


@dataclass(frozen=True)
class Moment:
    """Where a run stands: what progress shows, and what its replicas have done so far."""

    progress: Progress
    counters: Sequence[Counters]


class Timeline:
    """The lines of one session."""

    def __init__(self, commits: Commits, run_id: str, clock: Callable[[], float] = time.time) -> None:
        self._commits, self._run_id, self._clock = commits, run_id, clock
        self._began = self._batch_began = self._now_said = clock()
        self._sample_due = 0.0
        self.watcher: Callable[[Moment], None] = lambda moment: None  # told every NOW_S and at the end
        self._lines: list[str] = []
        self._batch_index = 0
        self._silent = False  # once a write has failed
        self.add("session", run_id=run_id)

    def add(self, event: str, **fields: JsonValue) -> None:
        """One more line."""
        told = {name: utf8(value) if isinstance(value, str) else value for name, value in fields.items()}
        self._lines.append(json.dumps({"at_s": round(self._clock(), 3), "event": event, **told}))

    def saw(self, event: Event | None, actions: Sequence[Action]) -> None:
        """A transition of the scheduler: what happened, and what follows."""
        match event:
            case ReplicaReady(replica, _):
                self._tell(logging.INFO, "ready", "replica {replica} can step", replica=replica)
            case ReplicaLeaving(replica, cause):
                self._tell(
                    logging.WARNING, "leaving", "replica {replica} leaves: {cause}", replica=replica, cause=cause
                )
            case ClusterChanged(room, wanted):
                text = "the cluster has room for {room} replicas, {wanted} are wanted"
                self._tell(logging.INFO, "cluster", text, room=room, wanted=wanted)
            case ReplicaLost(replica, cause):
                self._tell(logging.WARNING, "lost", "replica {replica} is lost: {cause}", replica=replica, cause=cause)
        for action in actions:
            self._act(action, getattr(event, "replica", None))

    def tick(self, moment: Moment) -> None:
        """Called often; takes samples and writes batches when they are due."""
        now = self._clock()
        if now >= self._sample_due:
            self._sample_due = now + max(SAMPLE_S, (now - self._began) * SAMPLE_SHARE)
            self._sample(moment)
        if now - self._now_said >= NOW_S:
            self._now_said = now
            self.watcher(moment)
            self._write(NOW, json.dumps(asdict(moment.progress)))
        if now - self._batch_began >= BATCH_S:
            self.flush()

    def end(self, status: str, moment: Moment) -> None:
        """The last lines of the session."""
        self._sample(moment)
        self.watcher(moment)
        self.add("end", status=status)
        self.flush()

    def flush(self) -> None:
        """Writes the lines that wait."""
        self._batch_began = self._clock()
        if self._lines:
            name = f"{TIMELINE}/{self._commits.fence.number:08d}-{self._batch_index:05d}.jsonl"
            lines, self._lines = self._lines, []
            self._batch_index += 1
            self._write(name, "\n".join(lines) + "\n")

    def _act(self, action: Action, replica: int | None) -> None:
        match action:
            case StartReplica(number):
                self._tell(logging.INFO, "start", "replica {replica} is started", replica=number)
            case Assign(number, shard, attempt, fragments):
                text = "shard {shard}, attempt {attempt}, goes to replica {replica}"
                level = logging.INFO if attempt == 1 else logging.WARNING
                self._tell(level, "assign", text, replica=number, shard=shard, attempt=attempt, fragments=fragments)
            case Commit(made):
                text = (
                    "shard {shard}, attempt {attempt}, replica {replica}: fragment {fragment} of {rows} rows is there"
                )
                self._tell(logging.INFO, "commit", text, replica=replica, **_figures(made))
            case Discard(made, why):
                self.add("discard", replica=replica, shard=made.shard, attempt=made.attempt, why=why)
                log.debug("run %s: %s", self._run_id, why)
            case Quarantine(shard, attempt, _, cause):
                text = "shard {shard}, attempt {attempt}, is given up: {cause}"
                self._tell(logging.WARNING, "give_up", text, shard=shard, attempt=attempt, cause=cause)
            case Fail(cause, _):
                self._tell(logging.ERROR, "fail", "the run cannot go on: {cause}", cause=cause)
            case Finish():
                self._tell(logging.INFO, "finish", "every shard is committed")

    def _tell(self, level: int, event: str, text: str, **fields: JsonValue) -> None:
        self.add(event, **fields)
        log.log(level, "run %s: %s", self._run_id, text.format(**fields))

    def _sample(self, moment: Moment) -> None:
        counters, progress = moment.counters, moment.progress
        sums = {name: sum(getattr(counter, name) for counter in counters) for name in ("rows", "steps", "busy_slots")}
        spent = {name: round(sum(getattr(one, f"{name}_s") for one in counters), 3) for name in STAGES}
        self.add("sample", **sums, replicas=progress.replicas, shards_done=progress.shards_done, stage_s=spent)

    def _write(self, name: str, text: str) -> None:
        try:
            self._commits.fence.check()
            self._commits.store.write(name, text.encode())
        except LockLost:
            raise
        except StoreFault as fault:
            if not self._silent:
                log.warning("run %s: its timeline has gaps: %s", self._run_id, fault)
            self._silent = True


def _figures(fragment: Fragment) -> dict[str, int | bool]:
    return {
        "shard": fragment.shard,
        "attempt": fragment.attempt,
        "fragment": fragment.index,
        "rows": fragment.rows,
        "rows_quarantined": fragment.rows_quarantined,
        "final": fragment.final,
    }


class WatchedScheduler(Scheduler):
    """A scheduler whose transitions go into a timeline."""

    timeline: Timeline

    def start(self) -> list[Action]:
        actions = super().start()
        self.timeline.saw(None, actions)
        return actions

    def handle(self, event: Event) -> list[Action]:
        actions = super().handle(event)
        self.timeline.saw(event, actions)
        return actions


def read_timeline(store: Store) -> Iterator[JsonObject]:
    """The lines of every session of a run, in order, each with its `session`; what cannot be read is left out."""
    for name in store.list(TIMELINE):
        session, _, _ = name.partition("-")
        for text in (
            store.read(f"{TIMELINE}/{name}").decode(errors="replace").splitlines() if session.isdecimal() else ()
        ):
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and isinstance(line.get("event"), str) and _is_number(line.get("at_s", 0)):
                yield {**line, "session": int(session)}


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_now(store: Store) -> Progress | None:
    """How far the run was a few seconds ago, as its driver said; None where it said nothing that can be read."""
    content = store.find(NOW)
    try:
        return Progress(**json.loads(content)) if content else None
    except (ValueError, TypeError):
        return None

"""What became of a call to a replica: the only file that names Ray's exceptions.

An exception becomes an event. A replica that is gone, or whose node is, is *lost*: another may do its work. A fault
that the replica itself tells (a broken file, a model that does not load) would meet any other replica too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import ray
from ray import exceptions as rex

from cluster.core.schedule.events import Event, ReplicaLost, ShardBroken
from cluster.run_errors import RunFailed, WorkerLost, first_line, told
from cluster.runtime.fleet.ray_private import was_preempted
from lstm_core.errors import SlotcarError, UsageError
from lstm_core.secret_text import masked

if TYPE_CHECKING:
    from ray import ObjectRef

RESUMES = "the same command resumes the run"
MAY_MEET_IT_AGAIN = "the same command goes on from there, and ends here if it meets this again"

Value = TypeVar("Value")


def event_of(ref: ObjectRef[Value], replica: int) -> tuple[Value, None] | tuple[None, Event]:
    """The value of a finished call, or the event that stands for its failure.

    A refusal is raised as it is: no other replica would take the model either.
    """
    try:
        return ray.get(ref), None
    except rex.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        if isinstance(cause, UsageError):
            raise cause from None
        return None, broken_shard(replica, cause)
    except (
        rex.RayActorError,
        rex.WorkerCrashedError,
        rex.NodeDiedError,
        rex.OutOfMemoryError,
        rex.ObjectLostError,
    ) as error:
        return None, ReplicaLost(replica, cause_of(error), with_node=_left(error))


def _left(error: BaseException) -> bool:
    """True where a replica went with its node. Of most of Ray's deaths only the text says whether it was the node's."""
    if isinstance(error, rex.RayActorError):
        return was_preempted(error) or "node has died" in str(error)
    return isinstance(error, rex.NodeDiedError)


def task_value(ref: ObjectRef[Value], remedy: str | None = None) -> Value:
    """The value of a task; a fault of ours is raised as it is, and anything else as the run's failure.

    `remedy` is said in place of what holds for a run.
    """
    try:
        return ray.get(ref)
    except rex.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        if isinstance(cause, SlotcarError):
            raise cause from None
        raise RunFailed(f"A task of the run failed: {told(cause)}; {remedy or MAY_MEET_IT_AGAIN}.") from error
    except rex.RayError as error:
        raise WorkerLost(f"A worker of the run was lost: {cause_of(error)}; {remedy or RESUMES}.") from error


def cause_of(error: BaseException) -> str:
    """What Ray says of a loss, in one line.

    Of an actor it says first that it died, then its name, process and node, each in a line of its own, and only below
    these of what; where it has none of them, in the last line. Its guesses at root causes are left out.
    """
    lines = str(error).strip().splitlines()
    if not isinstance(error, rex.RayActorError) or not lines:
        return first_line(error)
    labels = [index for index, line in enumerate(lines) if re.match(r"\t\w+: ", line)]
    told = lines[labels[-1] + 1 :] if labels else lines[-1:]
    return masked((told or lines)[0].partition(" There are some potential root causes")[0].strip().rstrip("."))


def broken_shard(replica: int, error: BaseException) -> ShardBroken:
    """A fault that a replica tells: one sentence, and whether the same run would meet it again."""
    known = isinstance(error, SlotcarError)
    again = isinstance(error, UsageError) or bool(getattr(error, "again", False)) if known else None
    return ShardBroken(replica, describe_event(error), again)


def describe_event(error: BaseException) -> str:
    """One sentence for a fault in a replica."""
    if isinstance(error, SlotcarError):
        return str(error)
    return f"A replica met {told(error)}."

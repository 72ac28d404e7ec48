"""Ray's exceptions -> events. No cluster is needed: what a call gives is put into its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray
from ray import exceptions as rex

from cluster.core.schedule.events import ReplicaLost, ShardBroken
from cluster.run_errors import InputBroken, InputDamaged, InputUnfit, RunFailed, first_line
from cluster.runtime.fleet.ray_errors import describe_event, event_of, task_value
from lstm_core.errors import ModelRefused

Raise = Callable[[BaseException], None]


@pytest.fixture
def raises(monkeypatch: pytest.MonkeyPatch) -> Raise:
    """Lets the next answers of Ray be this exception."""

    def arm(error: BaseException) -> None:
        def get(ref: Any) -> Any:
            raise error

        monkeypatch.setattr(ray, "get", get)

    return arm


def in_task(cause: BaseException) -> BaseException:
    """What `ray.get` raises for an exception in an actor's method."""
    return rex.RayTaskError("poll", "a traceback\nof many lines", cause).as_instanceof_cause()


LOST = [
    rex.RayActorError(),
    rex.ActorDiedError(),
    rex.ActorUnavailableError("no answer", None),
    rex.WorkerCrashedError(),
    rex.NodeDiedError("the node is gone"),
    rex.OutOfMemoryError("killed by the kernel"),
    rex.ObjectLostError("00", None, ""),
    rex.OwnerDiedError("00", None, ""),
]


def test_a_value_is_handed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda ref: f"the value of {ref}")
    assert event_of("ref", 3) == ("the value of ref", None)
    assert task_value("ref") == "the value of ref"


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_replica_or_node_that_is_gone_is_lost(raises: Raise, error: BaseException) -> None:
    raises(error)
    value, event = event_of("ref", 3)
    assert value is None
    assert isinstance(event, ReplicaLost)
    assert event.replica == 3
    assert event.cause
    assert "\n" not in event.cause


def test_a_fault_that_a_replica_tells_would_meet_any_other(raises: Raise) -> None:
    raises(in_task(InputBroken("a.parquet cannot be read; mend it.")))
    assert event_of("ref", 3) == (None, ShardBroken(3, "a.parquet cannot be read; mend it."))


def test_a_bug_in_a_replica_is_told_in_one_line(raises: Raise) -> None:
    raises(in_task(ValueError("shapes differ\nand so on")))
    _, event = event_of("ref", 3)
    assert event == ShardBroken(3, "A replica met ValueError: shapes differ.", None)


@pytest.mark.parametrize(("fault", "again"), [(InputUnfit("row 3"), True), (InputDamaged("a"), True)])
def test_a_fault_of_the_input_is_told_as_one_that_comes_again(raises: Raise, fault: Exception, again: bool) -> None:
    raises(in_task(fault))
    assert event_of("ref", 3) == (None, ShardBroken(3, str(fault), again))


def test_a_refused_model_is_refused_and_not_tried_again(raises: Raise) -> None:
    raises(in_task(ModelRefused("no score per row")))
    with pytest.raises(ModelRefused, match="no score per row"):
        event_of("ref", 3)


def test_a_foreign_error_is_not_taken_for_an_outcome(raises: Raise) -> None:
    raises(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        event_of("ref", 3)


def test_a_tasks_own_fault_is_raised_as_it_is(raises: Raise) -> None:
    raises(in_task(InputBroken("a.parquet cannot be read.")))
    with pytest.raises(InputBroken, match="cannot be read"):
        task_value("ref")


def test_a_tasks_foreign_fault_fails_the_run_with_what_to_do_next(raises: Raise) -> None:
    raises(in_task(ValueError("shapes differ")))
    with pytest.raises(
        RunFailed, match=r"^A task of the run failed: ValueError: .*, and ends here if it meets this again\.$"
    ):
        task_value("ref")


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_lost_worker_fails_the_run_with_what_to_do_next(raises: Raise, error: BaseException) -> None:
    raises(error)
    with pytest.raises(RunFailed, match=r"^A worker of the run was lost: .*; start again\.$"):
        task_value("ref", remedy="start again")


def test_errors_are_told_by_their_first_line_and_by_their_name_where_they_say_nothing() -> None:
    assert first_line(ValueError("one.\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert describe_event(MemoryError()) == "A replica met MemoryError: MemoryError."


# As Ray 2.60 puts it together.
HEAD = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: ReplicaActor\n\tpid: 71\n\tip: 10.0.0.7\n"
)
PROCESS = "The actor is dead because its worker process has died. Worker exit detail: End of file."
GUESSES = " There are some potential root causes. (1) The process is killed by SIGKILL"
INIT = (
    "The actor died because of an error raised in its creation task, ray::Replica()\n  File\nValueError: no such step."
)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (f"{HEAD}{PROCESS}{GUESSES}", PROCESS.rstrip(".")),
        (f"{HEAD}The node ran low on memory.\nRefer to the documentation", "The node ran low on memory"),
        (f"{HEAD}{PROCESS}\nThe actor never ran - it was cancelled", PROCESS.rstrip(".")),
        (HEAD.strip(), "The actor died unexpectedly before finishing this task"),
        (INIT, "ValueError: no such step"),
        ("The actor died unexpectedly.\nIts node has died. Node Id: ab", "Its node has died. Node Id: ab"),
    ],
    ids=["process", "memory", "never ran", "nothing", "constructor", "node"],
)
def test_the_cause_of_an_actors_death_is_told_and_not_that_it_died(raises: Raise, text: str, cause: str) -> None:
    raises(rex.RayActorError(error_msg=text))
    event = event_of("ref", 3)[1]
    assert isinstance(event, ReplicaLost)
    assert event.cause == cause
    with pytest.raises(RunFailed, match="was lost: "):
        task_value("ref")


NODE_DIED = "The actor died unexpectedly.\nThe actor died because its node has died. Node Id: ab"


@pytest.mark.parametrize(
    ("error", "with_node"),
    [
        (rex.RayActorError(), False),
        (rex.OutOfMemoryError("killed by the kernel"), False),
        (rex.NodeDiedError("the node is gone"), True),
        (rex.RayActorError(error_msg=NODE_DIED), True),
        (rex.RayActorError(preempted=True), True),
    ],
)
def test_a_replica_that_went_with_its_node_is_told_apart(raises: Raise, error: BaseException, with_node: bool) -> None:
    raises(error)
    _, event = event_of("ref", 3)
    assert isinstance(event, ReplicaLost)
    assert event.with_node is with_node

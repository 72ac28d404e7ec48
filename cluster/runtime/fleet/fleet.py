"""The fleet: the replica actors of a run, and the calls to them that are under way.

It starts actors, asks each for news, one call at a time, and says which of them answered. What an answer means is the
scheduler's business. A call to an actor costs both sides more than most of what it brings, so the shards that an answer
earns a replica go with the question that follows it. A node that a replica finds unfit is avoided from then on, whoever
looked at the others before it came: its replica is lost, and the next one starts elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeAlias, TypeVar, cast

import ray

from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.events import ClusterChanged, Event, ReplicaLeaving, ReplicaLost, ShardBroken
from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.ray_errors import event_of
from cluster.runtime.fleet.ray_session import Nodes, avoid_nodes, look_at_nodes
from cluster.runtime.fleet.start_barrier import StartBarrier
from cluster.runtime.replica.memory_allocator import allocator_environment
from cluster.runtime.replica.node_check import why_unfit_here
from cluster.runtime.replica.pipeline import Counters, PollReport
from cluster.runtime.replica.replica_actor import Lease, ReplicaActor, ReplicaInfo, ReplicaSpec, Sources, UnfitNode

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")
Reply: TypeAlias = ReplicaInfo | UnfitNode | PollReport

NOBODY = -1  # in place of a replica, where the whole cluster is meant
LOOK_S = 5.0  # between two looks at the cluster's nodes
POLL_S = 1.0  # how long a replica with nothing to say may keep a call


@dataclass
class _Member:
    actor: ActorHandle[ReplicaActor]
    call: ObjectRef[Reply] | None  # the one under way; None while it waits to begin, and while its answer is handled
    info: ReplicaInfo | None = None
    leases: list[Lease] = field(default_factory=list)  # that go with its next call
    counters: Counters | None = None


@dataclass(frozen=True)
class Answer:
    """What one replica said: that it is ready, its news, or the event that stands for its failure."""

    replica: int
    ready: ReplicaInfo | None = None
    report: PollReport | None = None
    failure: Event | None = None  # or what becomes of its node, or, of no replica, of the cluster


class Fleet:
    """The replicas of one run."""

    actor_class: type[ReplicaActor] = ReplicaActor

    def __init__(self, spec: ReplicaSpec, model: bytes, settings: ClusterSettings) -> None:
        self._spec = spec
        self._model = ray.put(model)
        self._settings = settings
        self._members: dict[int, _Member] = {}
        self._sources: Sources | None = None
        self._gone: list[Counters] = []
        self._looked_s = 0.0
        self._together = StartBarrier()
        self._nodes: Nodes | None = None
        self._warned: set[int] = set()
        self.avoided: set[str] = set()  # ids of nodes that are unfit
        self.infos: list[ReplicaInfo] = []

    def start(self, replica: int) -> None:
        """Starts a replica; one that was started before its turn is left as it is."""
        if replica in self._members:
            return
        remote = ray.remote(self.actor_class)
        actor = remote.options(
            num_cpus=self._settings.cpus_per_replica,
            num_gpus=self._settings.gpus_per_replica,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=8,  # a poll waits in one thread while assignments come in others
            # Processes of an embedded cluster inherit ours; elsewhere the actor is told.
            runtime_env={"env_vars": allocator_environment()} if self._settings.address else None,
            **avoid_nodes(self.avoided),
        ).remote(self._spec, self._model)
        handle = cast("ActorHandle[ReplicaActor]", actor)  # which Ray's types say may be the class itself
        self._members[replica] = _Member(handle, _called(handle, ReplicaActor.info))

    def begin(self, sources: Sources) -> None:
        """The plan is there: replicas that are or become ready may begin."""
        self._sources = sources

    def assign(self, replica: int, shard: Shard, attempt: int, fragments: int) -> None:
        """Sends a shard to a replica; should it be gone, its next answer says so."""
        member = self._members[replica]
        if member.call is None:
            member.leases.append(Lease(shard, attempt, fragments))
        else:
            _called(member.actor, ReplicaActor.assign, Lease(shard, attempt, fragments))

    def answers(self, timeout_s: float) -> Iterator[Answer]:
        """The answers that have come, waiting for the first of them.

        A replica is asked again when its answer has been handled, which is when the next one is wanted.
        """
        notices = self._look() if time.monotonic() - self._looked_s >= LOOK_S else []
        if notices:
            yield from notices
            return
        if self._begin_together():
            timeout_s = min(timeout_s, self._together.left_s())
        calls = {member.call: number for number, member in self._members.items() if member.call is not None}
        done, _ = ray.wait(list(calls), num_returns=1, timeout=timeout_s)
        if done:
            done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        for ref in done:
            answer = self._answer(calls[ref], ref)
            if answer is not None:
                yield answer
                self._ask(calls[ref])

    def _look(self) -> list[Answer]:
        """What has become of the cluster since the last look."""
        self._looked_s = time.monotonic()
        nodes, before = look_at_nodes(self._settings, self.avoided), self._nodes
        self._nodes = nodes
        answers = []
        if before is None or (nodes.room, nodes.wanted) != (before.room, before.wanted):
            answers.append(Answer(NOBODY, failure=ClusterChanged(nodes.room, nodes.wanted)))
        for number, member in self._members.items():
            if member.info is not None and member.info.node_id in nodes.draining and number not in self._warned:
                self._warned.add(number)
                cause = f"node {member.info.node} is being drained"
                answers.append(Answer(number, failure=ReplicaLeaving(number, cause)))
        return answers

    def stop(self) -> None:
        """Ends every replica."""
        for member in self._members.values():
            ray.kill(member.actor)
        self._members.clear()

    @property
    def counters(self) -> list[Counters]:
        """What every replica has done, the dead ones included."""
        return self._gone + [member.counters for member in self._members.values() if member.counters]

    def _answer(self, number: int, ref: ObjectRef[Reply]) -> Answer | None:
        member = self._members[number]
        member.call = None
        value, failure = event_of(ref, number)
        if failure is not None:
            self._bury(number)
            return Answer(number, failure=failure)
        if isinstance(value, UnfitNode):
            return self._avoid(number, value)
        if isinstance(value, ReplicaInfo) and member.info is None:  # it has the model; what the plan adds comes now
            member.info = value
            return None
        if isinstance(value, ReplicaInfo):
            self.infos.append(value)
            return Answer(number, ready=value)
        assert value is not None, "a call has neither value nor failure"
        member.counters = value.counters
        return Answer(number, report=value)

    def _begin_together(self) -> bool:
        """Lets those begin that wait for it, or says that they still wait."""
        waiting = [member for member in self._members.values() if member.call is None]  # no answer is being handled
        loading = sum(member.info is None for member in self._members.values())
        if self._together.may_begin(waiting=len(waiting), loading=loading):
            assert self._sources is not None, "replicas begin before there is a plan"
            for member in waiting:
                member.call = _called(member.actor, ReplicaActor.begin, self._sources)
            return False
        return bool(waiting)

    def _avoid(self, number: int, found: UnfitNode) -> Answer:
        self._bury(number)
        assert self._spec.needs is not None, "a node is unfit for what it does not need"
        # What the driver does not see any more either is no fault of the node's, and no other one would do.
        mine = why_unfit_here(self._spec.needs)
        if mine is not None:
            return Answer(number, failure=ShardBroken(number, mine))
        self.avoided.add(found.node_id)
        self._looked_s = 0.0  # there is less room than was thought
        return Answer(number, failure=ReplicaLost(number, found.why, with_node=True))

    def _ask(self, number: int) -> None:
        member = self._members.get(number)
        if member is not None:  # it may have been lost with this answer
            leases, member.leases = member.leases, []
            member.call = _called(member.actor, ReplicaActor.poll, POLL_S, leases)

    def _bury(self, number: int) -> None:
        member = self._members.pop(number)
        if member.counters:
            self._gone.append(member.counters.at_rest())
        ray.kill(member.actor)


def _called(
    actor: ActorHandle[ReplicaActor],
    method: Callable[Concatenate[ReplicaActor, Arguments], Value],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> ObjectRef[Value]:
    """A call of the method of this name, under way in the actor's process."""
    ref: ObjectRef[Value] = getattr(actor, method.__name__).remote(*args, **kwargs)
    return ref

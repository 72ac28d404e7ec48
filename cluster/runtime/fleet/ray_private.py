"""All that Slotcar reaches of Ray's private parts: what a Ray to come may lack, or may have otherwise.

What it decides: that no run fails for want of one. Each public function stands for one part, and its docstring says
what happens without it. Where the part is not as it is known here, that happens, and one line of the log says so, once
in a process. What Ray documents is used where it is needed.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from ipaddress import ip_address
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import ray

from cluster.run_errors import first_line

if TYPE_CHECKING:
    from ray.job_config import JobConfig

Function: TypeAlias = Callable[..., object]  # one of Ray's, whatever it takes

log = logging.getLogger("slotcar")

CLUSTERS_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # documented, for machines on which it is 0 otherwise
NO_MONITORS: Mapping[str, bool] = {"no_monitor": True, "include_log_monitor": False}

_told: set[str] = set()  # parts whose line is in the log


def set_worker_niceness() -> None:
    """The workers of a Ray that is started later run at this process's own nice level.

    Without it they run at nice 15, and any other load on the machine starves them.
    """
    part = "_private.ray_constants.RAY_WORKER_NICENESS"  # the name of a variable that Ray documents nowhere
    with _may_lack(part, "replicas run at nice 15, behind any other load on the machine"):
        os.environ.setdefault(_found(part), "0")


@contextmanager
def on_loopback() -> Iterator[None]:
    """All processes of a Ray that is started inside listen on loopback only.

    Ray puts the machine's address in place of 127.0.0.1, where it is told that one too, unless it holds that this
    machine is none for a cluster, as it does on macOS. Its processes learn that from the environment, this one by then
    has read it.

    Without it they listen on the machine's address, where others on its network may reach them.
    """
    part, changes = "_private.ray_constants.ENABLE_RAY_CLUSTER", ExitStack()
    with _may_lack(part, "an embedded Ray listens on this machine's address, not on loopback"), ExitStack() as begun:
        begun.enter_context(_in_place(part, False))
        address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        if not ip_address(address).is_loopback:
            raise LookupError(f"it leaves Ray at {address}")
        begun.enter_context(_in_environment(CLUSTERS_VARIABLE, "0"))
        changes = begun.pop_all()
    with changes:
        yield


def without_monitors() -> AbstractContextManager[None]:
    """A Ray that is started inside has no autoscaler and no reader of its workers' logs.

    Here nobody would listen to them, and while replicas start each takes half a second of a core from them. `ray.init`
    cannot be told so; it takes what it starts from these parameters.

    Without it both run, and replicas start later.
    """
    effect = "an embedded Ray starts an autoscaler and a log monitor too, and replicas start later"
    return _called_in_place("_private.parameter.RayParams", _without_monitors, effect)


def without_exporter() -> AbstractContextManager[None]:
    """A Ray that is started inside has no exporter of metrics, which takes as much from starting replicas.

    Ray leaves it out of an installation that lacks the packages for it.

    Without it metrics are exported that nobody reads, and replicas start later.
    """
    effect = "an embedded Ray starts an exporter of metrics too, and replicas start later"
    return _called_in_place("_private.utils.get_dashboard_dependency_error", _lacking_packages, effect)


def renew_token() -> None:
    """Ray reads its token anew from the environment, in this process; it keeps the first one that it has read.

    Without it a second embedded Ray in one process is given the token of the first, and does not start.
    """
    part = "_private.authentication.authentication_token_setup"
    with _may_lack(part, "only the first embedded Ray of a process may start"):
        found = _found(part)
        found.AuthenticationTokenLoader.instance().reset_cache()
        found.Config.initialize("")  # the mode is read there


def job_config(path: Sequence[str]) -> JobConfig:
    """A job whose workers look for modules in `path` before all else, and not where the driver was started.

    Ray puts the driver's working folder and that of its program first on every worker's path.

    Without it a file there that bears a module's name is run in its place.
    """
    part = "job_config.JobConfig"  # of it only the parameter for this path is documented nowhere
    with _may_lack(part, "workers look for modules in the working folder first, so start runs from an empty one"):
        made: JobConfig = _found(part)(_py_driver_sys_path=_Whole(path))
        return made
    return None  # as Ray's own default is


class _Whole(list[str]):
    """A list that nothing is added to, and that is not taken for none where it is empty."""

    def extend(self, _: Iterable[str]) -> None:
        pass

    def __bool__(self) -> bool:
        return True


def draining_nodes() -> frozenset[str]:
    """Ids of the nodes that have been told to leave: spot nodes, and those that an autoscaler takes away.

    Without it none is known. A replica stays on such a node, and is replaced when the node has gone.
    """
    part = "_private.state.state.get_draining_nodes"
    with _may_lack(part, "a replica is replaced when its node has gone, not when the node is told to leave"):
        nodes = frozenset(_found(part)().keys())
        if not all(isinstance(node, str) for node in nodes):
            raise TypeError("its nodes are no ids")
        return nodes
    return frozenset()


def autoscaler_growth() -> Mapping[str, float] | None:
    """The most that the cluster's autoscaler may come to, by resource; None where there is no autoscaler.

    Without it a cluster is taken to stay as it is, and a run is refused where only nodes to come could hold a replica.
    """
    part = "_private.state.state.get_max_resources_from_cluster_config"
    with _may_lack(part, "a cluster is taken to stay as it is, so start a node that can hold a replica before a run"):
        most: Mapping[str, float] | None = _found(part)()
        return None if most is None else {str(name): float(amount) for name, amount in most.items()}
    return None


def was_preempted(error: BaseException) -> bool:
    """Whether Ray says of an actor's death, a `RayActorError`, that its node was taken away.

    Without it only Ray's text says whether a node has gone. Where that does not tell, the death counts against the
    shards that the replica had, and a shard of many deaths ends the run.
    """
    part = "exceptions.RayActorError.preempted"  # of the class only the parameter of this name is documented
    with _may_lack(part, "a replica that a spot node takes along may count as one that its shards have killed"):
        return bool(attrgetter("preempted")(error))
    return False


def _found(part: str) -> Any:
    """What lies there below `ray`; AttributeError where nothing does."""
    return attrgetter(part)(ray)


@contextmanager
def _may_lack(part: str, effect: str) -> Iterator[None]:
    """What goes wrong inside comes to one line in the log, once for each part, and to nothing else."""
    try:
        yield
    except Exception as error:  # a Ray to come may have made anything of its private parts
        if part not in _told:
            _told.add(part)
            why = first_line(error)
            log.warning("Ray %s has no ray.%s that Slotcar knows (%s): %s", ray.__version__, part, why, effect)


@contextmanager
def _in_place(part: str, value: object) -> Iterator[None]:
    """While inside, `value` lies there; AttributeError where nothing lies there now."""
    path, _, name = part.rpartition(".")
    holder = _found(path)
    kept = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, kept)


@contextmanager
def _in_environment(name: str, value: str) -> Iterator[None]:
    """While inside, the variable has this value, here and in processes that are started."""
    kept = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if kept is None:
            del os.environ[name]
        else:
            os.environ[name] = kept


@contextmanager
def _called_in_place(part: str, make: Callable[[Function], Function], effect: str) -> Iterator[None]:
    """While inside, Ray calls what `make` makes of the function there; should it not call it, that is told as well."""
    changes, calls = ExitStack(), 0

    def call(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        return instead(*args, **options)

    with _may_lack(part, effect):
        instead = make(_found(part))
        changes.enter_context(_in_place(part, call))
    with changes:
        yield
    with _may_lack(part, effect):
        if not calls:
            raise LookupError("Ray does not use it")


def _without_monitors(parameters: Function) -> Function:
    inspect.signature(parameters).bind_partial(**NO_MONITORS)  # TypeError where it takes them no more
    return partial(parameters, **NO_MONITORS)


def _lacking_packages(_: Function) -> Function:
    return partial(ImportError, "an embedded Ray exports no metrics")

"""The commands from Python: the same jobs, for schedulers and notebooks.

    from jobs.api import score
    summary = score("nightly.toml", overrides=["input.since=2026-11-20"])

A configuration is a file, or its content as a dict, whose relative paths are relative to the working directory. Faults
are raised as they are: `lstm_core.errors.SlotcarError`, whose text is one sentence and whose `exit_code` says of which
kind it is. A call again resumes, as the command does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from lstm_core.json_types import JsonObject, JsonValue
from lstm_core.own_packages import find_own_first

find_own_first()  # before anything of `cluster`, of which a notebook may have imported another

# isort: split
from jobs.commands import inspect as inspect_job
from jobs.commands import plan as plan_job
from jobs.commands import report as report_job
from jobs.commands import score as score_job
from jobs.commands import status as status_job
from jobs.commands import submit as submit_job
from jobs.commands import train as train_job
from jobs.commands import verify as verify_job
from jobs.commands.inspect import Inspection
from jobs.commands.plan import PlanReport
from jobs.commands.report import Reported
from jobs.commands.status import StatusReport
from jobs.commands.verify import Verification
from jobs.config.configuration import Config, load_config
from jobs.config.key_rules import Command
from jobs.config.night_keys import night_overrides
from jobs.training.training_report import TrainReport

Source = str | os.PathLike[str] | Mapping[str, JsonValue]


@dataclass(frozen=True)
class RunSummary:
    """What a finished run did; `record` is its run.json, whole."""

    output: str
    run_id: str
    status: str
    rows_in: int  # = rows_scored + rows_quarantined + rows_skipped
    rows_scored: int
    rows_quarantined: int
    rows_skipped: int
    entities_scored: int
    wall_s: float
    record: JsonObject

    @property
    def figures(self) -> dict[str, int | float | str]:
        """The plain values of run.json, as the metadata of a scheduler's task takes them."""
        return {name: value for name, value in self.record.items() if isinstance(value, int | float | str)}


def score(config: Source, *, overrides: Sequence[str] = (), address: str | None = None) -> RunSummary:
    """Scores the input, as `slotcar score` does. Returns at once where the run is finished already.

    `overrides` are those of `--set`: "section.key=value".
    """
    checked = _checked(config, overrides, address, "score")
    return _summary(checked, score_job.run(checked))


def submit(  # noqa: PLR0913  # those of the command
    config: Source,
    *,
    overrides: Sequence[str] = (),
    address: str | None = None,
    runtime_env: Mapping[str, JsonValue] | None = None,
    entrypoint_cpus: float = 0.0,
    entrypoint_resources: Mapping[str, float] | None = None,
) -> RunSummary:
    """Scores on a Ray cluster through its job API, as `slotcar submit` does: joins the job of the same run, and waits.

    `address` is the cluster's dashboard, as in "http://head:8265". The job's log goes to stderr. What a job that failed
    raises is what its run would have raised here; one that was stopped raises `JobStopped`, and the call again resumes.
    """
    checked = _checked(config, overrides, None, "score")
    env = submit_job.checked_env(runtime_env or {}, "runtime_env")
    terms = submit_job.Terms(env, entrypoint_cpus, entrypoint_resources or {})
    done = submit_job.run(checked, submit_job.open_server(address, checked), terms)
    return _summary(checked, submit_job.record_of(checked, done))


def night(
    config: Source, day: str | date, *, first: str | date, overrides: Sequence[str] = (), address: str | None = None
) -> RunSummary:
    """Scores one day's rows of a daily run, from the state of the night before; `first` is the day of the first night.

    It reads `day` up to the next one, writes `scores/DAY` and `state/DAY` beside the configuration, and its run_id is
    `nightly-DAY`. `overrides` have the last word.
    """
    return score(config, overrides=[*night_overrides(day, first=first), *overrides], address=address)


def plan(config: Source, *, overrides: Sequence[str] = ()) -> PlanReport:
    """What `score` would do, as `slotcar plan` says."""
    return plan_job.run(_checked(config, overrides, None, "plan"))


def train(config: Source, *, overrides: Sequence[str] = (), address: str | None = None) -> TrainReport:
    """Trains a stateful model in order and writes it to model.path."""
    return train_job.run(_checked(config, overrides, address, "train"))


def inspect(model: str | os.PathLike[str]) -> Inspection:
    """What a model asks and gives, and whether it is fit for scoring in chunks."""
    return inspect_job.run(os.fspath(model))


def status(output: str | os.PathLike[str]) -> StatusReport:
    """How far the run in `output` has come, and what to do next."""
    return status_job.run(os.fspath(output))


def verify(
    output: str | os.PathLike[str],
    *,
    rescore: int = 0,
    modules: Sequence[str] = (),
    inputs: Sequence[str] = (),
    config: Source | None = None,
) -> Verification:
    """Audits the run in `output`; the verdict is in `holds`.

    `modules`, `inputs` and `config` say what may be imported and asked, as `--module`, `--input` and `--config` do: an
    output cannot.
    """
    checked = None if config is None else _checked(config, (), None, "score")
    return verify_job.run(os.fspath(output), rescore, trust=verify_job.trusted(modules, inputs, checked))


def report(output: str | os.PathLike[str], *, against: str | None = None) -> Reported:
    """Writes the run in `output` as one HTML page, and says where."""
    return report_job.run(os.fspath(output), against)


def _summary(config: Config, record: JsonObject) -> RunSummary:
    own = {name: record[name] for name in RunSummary.__dataclass_fields__ if name in record}
    return RunSummary(output=config.output.path, record=record, **own)


def _checked(config: Source, overrides: Sequence[str], address: str | None, command: Command) -> Config:
    source = config if isinstance(config, Mapping) else os.fspath(config)
    return load_config(source, overrides, address, command=command)

"""The command line: `slotcar COMMAND`, the same as `python -m jobs COMMAND`.

Decides what is printed where and which code the process ends with: results on stdout, all else on stderr, one sentence
for a mistake. What a command does is in the module of its name, imported only when it is asked for, so that `--help`
and a mistyped key cost no import of Ray.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Annotated, Protocol, runtime_checkable

import typer
from rich.console import RenderableType
from rich.table import Table
from typer.exceptions import TyperException

from cluster.runtime.watch.data_console import DataConsole
from jobs.config.configuration import load_config
from jobs.terminal.help_page import HelpfulCommand, HelpfulGroup
from jobs.terminal.json_text import json_text
from jobs.terminal.result_text import reader_may_leave
from jobs.terminal.stderr_log import log_to_stderr
from jobs.terminal.stop_signals import as_stopped, stop_on_signals
from lstm_core.errors import SlotcarError, UsageError
from lstm_core.exit_codes import EXIT_DONE, EXIT_USAGE
from lstm_core.json_types import JsonObject
from lstm_core.shown_text import shown, shown_lines

ABOUT = (
    "Scores long series in Parquet with stateful Keras models, entity by entity, on fixed batch slots. `slotcar guide` "
    "has the documentation."
)

app = typer.Typer(cls=HelpfulGroup, add_completion=False, pretty_exceptions_enable=False)
command = partial(app.command, cls=HelpfulCommand)

ConfigPath = Annotated[str, typer.Argument(metavar="CONFIG", help="The configuration, a TOML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Overrides a key; a TOML value or a bare word. Repeatable."
    ),
]
Address = Annotated[str | None, typer.Option("--address", help="Overrides cluster.address.")]
Modules = Annotated[
    list[str] | None, typer.Option("--module", help="A module that registers custom layers. Repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Prints the result as one JSON object.")]


@runtime_checkable
class CommandResult(Protocol):
    """A result that knows how it looks, for people and for programs."""

    def as_dict(self) -> JsonObject: ...
    def render(self) -> RenderableType: ...


def _say_version(asked: bool) -> None:
    if asked:
        print(f"slotcar {version('slotcar')}")
        raise typer.Exit


@app.callback(help=ABOUT)
def program(
    version_: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Says which version this is.")
    ] = False,
) -> None:
    """What may stand before a command."""


@command()
def score(config: ConfigPath, set_: Overrides = None, address: Address = None, as_json: AsJson = False) -> None:
    """Scores the input. Given again, it resumes a broken run, and does nothing on a finished one."""
    checked = load_config(config, set_ or [], address, command="score")
    from cluster.run_errors import TooManyBadRows
    from jobs.commands import score as job

    try:
        record = job.run(checked)
    except TooManyBadRows as fault:
        if fault.record is not None:
            _show(fault.record, as_json)  # all is scored: what the run did is a result, whatever is decided about it
        raise
    _show(record, as_json)


@command()
def plan(
    config: ConfigPath,
    set_: Overrides = None,
    address: Address = None,
    simulate: Annotated[
        list[str] | None,
        typer.Option(
            "--simulate",
            metavar="KEY=VALUE",
            help="Forecasts how long the run would take, as in --simulate replicas=1,10,100. Repeatable.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Says what `score` would do: layout, entities, rows, shards, predicted steps. Scores nothing."""
    checked = load_config(config, set_ or [], address, command="plan")
    from jobs.commands import plan as job

    _show(job.run(checked, simulate or []), as_json)


@command()
def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL.keras", help="The model's file.")],
    module: Modules = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="CONFIG", help="Says too whether this configuration's input needs the state."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Says what a model takes and gives, and proves whether it is fit for scoring in chunks."""
    from jobs.commands import inspect as job

    _show(job.run(model, tuple(module or ()), config), as_json)


@command()
def train(config: ConfigPath, set_: Overrides = None, address: Address = None, as_json: AsJson = False) -> None:
    """Trains a stateful model on rows in order of time, and writes it to model.path."""
    checked = load_config(config, set_ or [], address, command="train")
    from jobs.commands import train as job

    _show(job.run(checked), as_json)


@command()
def export(
    config: ConfigPath,
    to: Annotated[
        str | None, typer.Option("--to", metavar="FOLDER", help="Where to; by default MODEL.savedmodel.")
    ] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Writes the model's step as a TensorFlow SavedModel that takes and gives the state."""
    checked = load_config(config, set_ or [], None, command="export")
    from jobs.commands import export as job

    _show(job.run(checked, to), as_json)


@command()
def status(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="The output.path of a run.")],
    follow: Annotated[bool, typer.Option("--follow", help="Shows the progress until the run ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Says how far a run is, whether somebody works on it, and what to do next. Writes nothing."""
    from jobs.commands import status as job

    _show(job.follow(output) if follow else job.run(output), as_json)


@command()
def verify(  # noqa: PLR0913  # the options of a command are its parameters
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="The folder that output.path of a run names.")],
    rescore: Annotated[
        int, typer.Option("--rescore", metavar="N", min=0, help="Scores N entities again, alone and unchunked.")
    ] = 0,
    module: Modules = None,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="URL", help="Also asks this bucket or host, with the options behind it. Repeatable."
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="The run's configuration, which says what may be imported and asked.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Audits a run's output: every row once, in order, with its checksum."""
    checked = None if config is None else load_config(config, command="score")
    from jobs.commands import verify as job

    found = job.run(output, rescore, trust=job.trusted(module or (), input_ or (), checked))
    _show(found, as_json)
    job.expect_holds(found)


@command()
def report(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="The output.path of a run.")],
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="OUTPUT", help="Compares with the scores of the run in this folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Writes the run as one self-contained HTML page."""
    from jobs.commands import report as job

    _show(job.run(output, against), as_json)


state_app = typer.Typer(cls=HelpfulGroup, help="Looks into carry-over.")
state_command = partial(state_app.command, cls=HelpfulCommand)
app.add_typer(state_app, name="state")


@state_command()
def show(
    state: Annotated[str, typer.Argument(metavar="STATE", help="The folder that state.write of a run names.")],
    entity: Annotated[
        list[str] | None,
        typer.Option("--entity", metavar="VALUE", help="Shows this entity; once per column of input.entity."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Says what a carry-over holds, or with --entity what it holds of one entity."""
    from jobs.commands import state as job

    _show(job.show(state, entity or []), as_json)


@state_command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="One night's carry-over.")],
    after: Annotated[str, typer.Argument(metavar="B", help="A later one.")],
    as_json: AsJson = False,
) -> None:
    """Says how many entities moved, came, went, broke or were mended between two carry-overs, and which."""
    from jobs.commands import state as job

    _show(job.diff(before, after), as_json)


@command()
def submit(  # noqa: PLR0913  # the options of a command are its parameters
    config: ConfigPath,
    set_: Overrides = None,
    address: Annotated[
        str | None, typer.Option("--address", help="The cluster's dashboard, as in http://head:8265.")
    ] = None,
    runtime_env: Annotated[
        str | None, typer.Option("--runtime-env", metavar="FILE", help="Ray's runtime environment, as TOML.")
    ] = None,
    entrypoint_cpus: Annotated[
        float,
        typer.Option(
            "--entrypoint-cpus",
            min=0,
            help="CPUs of the driver; above 0 it may run on another node than the head.",
        ),
    ] = 0.0,
    entrypoint_resource: Annotated[
        list[str] | None,
        typer.Option("--entrypoint-resource", metavar="NAME=AMOUNT", help="A resource of the driver. Repeatable."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Waits for the run's end, with its log.")] = True,
    as_json: AsJson = False,
) -> int:
    """Hands the run to a Ray cluster, waits for it, and ends with the run's own exit code."""
    checked = load_config(config, set_ or [], command="score")
    from jobs.commands import submit as job

    resources = job.read_resources(entrypoint_resource or [])
    terms = job.Terms(job.read_runtime_env(runtime_env), entrypoint_cpus, resources, wait)
    done = job.run(checked, job.open_server(address, checked), terms)
    _show(done, as_json)
    return done.exit_code or EXIT_DONE


@command()
def demo(
    folder: Annotated[str, typer.Option("--folder", help="Where the demo writes its files.")] = "slotcar-demo",
    replicas: Annotated[int, typer.Option("--replicas", min=1, help="Replicas to score with.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Shows the whole road on real data: flights from New York in 2013."""
    from jobs.commands import demo as job

    _show(job.run(Path(folder), replicas=replicas), as_json)


@command()
def guide(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="The guide to show; without it, the list of all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Shows a guide, page by page on a terminal; without a topic, the list of all."""
    from jobs.commands import guide as job

    if topic is None or as_json:
        _show(job.topics() if topic is None else job.find(topic), as_json)
    else:
        job.show(job.find(topic))


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of `slotcar`; never returns."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a letter is no reason to fail
    sys.excepthook = _say_bug
    sys.exit(exit_code(lambda: _command(arguments)))


def exit_code(action: Callable[[], int]) -> int:
    """Runs `action` under the rules of every command; says its fault in one sentence on stderr, returns the code."""
    stop_on_signals()
    log_to_stderr()
    try:
        return action()
    except SlotcarError as fault:
        return _say(fault, fault.exit_code)
    except TyperException as fault:
        return _say(_usage(fault), EXIT_USAGE)
    except BaseException as fault:
        stopped = as_stopped(fault)
        if stopped is None:
            raise
        return _say(stopped, stopped.exit_code)


def _command(arguments: Sequence[str] | None) -> int:
    code = app(arguments, prog_name="slotcar", standalone_mode=False)
    return code if isinstance(code, int) else EXIT_DONE


def _usage(fault: TyperException) -> UsageError:
    text = str(getattr(fault, "format_message", lambda: fault)())
    return UsageError(f"{' '.join(text.split()).rstrip('.?')}: see slotcar --help.")


def _say(fault: BaseException, code: int) -> int:
    print(f"slotcar: {shown(str(fault).strip())}", file=sys.stderr, flush=True)
    return code


def _say_bug(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """A traceback, which only a bug of ours shows, without the secrets that stand in messages of others."""
    print(shown_lines("".join(traceback.format_exception(kind, error, at))), file=sys.stderr, end="", flush=True)


def _show(result: CommandResult | JsonObject, as_json: bool) -> None:
    if as_json:
        with reader_may_leave():
            print(json_text(result.as_dict() if isinstance(result, CommandResult) else result))
        return
    shows = result.render() if isinstance(result, CommandResult) else _table(result)
    # A pipe is no terminal of 80 columns: little is cut there, and of a single line nothing.
    console = DataConsole(width=None if sys.stdout.isatty() else 160)
    console.print(shows, soft_wrap=isinstance(shows, str))


def _table(values: JsonObject) -> Table:
    table = Table(show_header=False, box=None)
    for name, value in values.items():
        table.add_row(name, json_text(value) if isinstance(value, dict | list) else _figure(value))
    return table


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

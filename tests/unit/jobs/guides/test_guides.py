"""The guides as texts: their form, that they name everything there is, and nothing that there is not."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, get_args

import pytest
import typer

from cluster.core.audit import MEANINGS, Check
from cluster.core.carry import BROKEN, LAST, PREVIOUS, SEEN, STATE
from cluster.core.locations import OPTIONS, SCHEMES
from cluster.core.settings import CONTEXT, WINDOW_ROWS, WINDOW_START, StepSettings
from cluster.core.simulate.run_simulation import SimulatedRun
from cluster.runtime.fleet.prometheus import COUNTERS, GAUGES
from cluster.runtime.run.run_record import STAGES, opening_record
from cluster.runtime.watch.run_status import DriverSeen, RunStatus, State
from jobs.api import RunSummary
from jobs.cli import app
from jobs.commands.guide import TOPICS
from jobs.commands.inspect import Inspection
from jobs.commands.plan import PlanReport
from jobs.commands.report import Reported
from jobs.commands.verify import Verification
from jobs.config.config_reference import FILE, reference
from jobs.config.configuration import validated
from jobs.config.toml_text import keys_by_section
from jobs.plan_simulation import COLUMNS
from jobs.training.training_report import Epoch, TrainReport
from lstm_core import exit_codes
from tests.guides.blocks import anchors_of, blocks_of, commands_of, inline_code, links_of
from tests.paths import ROOT

FOLDER = ROOT / "jobs" / "guides"
GUIDES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {"README.md": README, **GUIDES}
RUN = ("toml", "python", "sh")
COLUMNS_MAX, README_LINES_MAX, EXAMPLE_WITHIN = 120, 200, 40

every_guide = pytest.mark.parametrize("name", sorted(GUIDES))
every_text = pytest.mark.parametrize("name", sorted(TEXTS))

SECTIONS = keys_by_section()
KEYS = {f"{section}.{key}" for section, keys in SECTIONS.items() if section for key in keys} | {"run_id"}
KEYS |= {f"storage.{name}" for options in OPTIONS.values() for name in options}
TABLES = [name for name in SECTIONS[""] if name != "run_id"]
A_KEY = re.compile(rf"(({'|'.join(TABLES)})\.[a-z_]+)(\.[\w\"@]+)*( ?=.*)?")
A_FILE = re.compile(r"[\w.]+\.(csv|json|keras|md|py|svg|toml|txt)")
NOT_KEYS = {"model.predict", "model.quantize"}  # Keras's own methods
BENCHES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests" / "bench").glob("*.py"))]
OF_BENCHES = {option for source in BENCHES for option in re.findall(r'add_argument\("(--[a-z-]+)"', source)}
OTHER_OPTIONS: set[str] = set()  # that stand alone in backticks and belong to another program
NO_CONFIGURATION = "no configuration"  # how the reason of a TOML block begins that is another program's
PLACEHOLDER = re.compile(r"[A-Z]+|\.\.\.")

BASE = tomllib.loads(
    """
    model.path = "delays.keras"
    input = {path = "data", entity = ["tailnum"], time = ["time"], features = ["dep_delay"]}
    output.path = "scores"
    """
)


def _options(command: Any, name: str = "") -> Iterator[tuple[str, list[set[str]]]]:
    """Command, as in "state show", and its options, each with the names that it has."""
    for called, inner in getattr(command, "commands", {}).items():
        yield from _options(inner, f"{name} {called}".strip())
    if not hasattr(command, "commands"):
        given = [{*parameter.opts, *parameter.secondary_opts} for parameter in command.params]
        yield name, [names for names in given if all(option.startswith("--") for option in names)]


OPTIONS_OF = dict(_options(typer.main.get_command(app)))
OF_COMMANDS = {name: set().union(*options) for name, options in OPTIONS_OF.items()}
ALL_CODE = {code for text in TEXTS.values() for code in inline_code(text)}
EVERYTHING = "\n".join(GUIDES.values())


def commands_in(text: str) -> list[list[str]]:
    """Every command of ours that a text shows, as words: in shell blocks and in backticks."""
    shown = [words for block in blocks_of(text) if block.language == "sh" for words in commands_of(block.text)]
    shown += [code.replace("[", "").replace("]", "").split() for code in inline_code(text)]
    ours = [words[1:] for words in shown if words[:1] == ["slotcar"]]
    return ours + [words[3:] for words in shown if words[:3] == ["python", "-m", "jobs"]]


def named(*starts: str) -> list[str]:
    """Those of `starts` with which no code in a guide begins."""
    return [start for start in starts if not any(code.startswith(start) for code in ALL_CODE)]


# Their form.


def test_every_guide_is_a_topic() -> None:
    assert sorted(TOPICS) == sorted(name.removesuffix(".md") for name in GUIDES)


@every_guide
def test_a_guide_opens_with_its_title_what_it_is_good_for_and_an_example(name: str) -> None:
    title, empty, first, *_ = GUIDES[name].split("\n")
    assert re.fullmatch(r"# \S.*", title)
    assert empty == ""
    assert re.match(r"[A-Z`]", first)
    lines = [block.line for block in blocks_of(GUIDES[name])]
    assert lines
    assert lines[0] <= EXAMPLE_WITHIN


@every_text
def test_lines_are_short(name: str) -> None:
    """But for rows of tables, which Markdown cannot break."""
    lines = enumerate(TEXTS[name].split("\n"), start=1)
    assert [number for number, line in lines if len(line) > COLUMNS_MAX and not line.lstrip().startswith("|")] == []


def test_the_readme_is_a_front_page_that_leads_to_every_guide() -> None:
    assert README.count("\n") <= README_LINES_MAX
    assert [name for name in GUIDES if f"jobs/guides/{name}" not in links_of(README)] == []


@every_text
def test_links_lead_somewhere(name: str) -> None:
    folder = ROOT if name == "README.md" else FOLDER
    for link in links_of(TEXTS[name]):
        file, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        target = folder / file if file else folder / name
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target.read_text(encoding="utf-8")), link


@every_text
def test_blocks_that_are_run_can_be(name: str) -> None:
    for block in blocks_of(TEXTS[name]):
        if block.language == "sh" and block.not_run is None:
            assert commands_of(block.text)
        assert block.language in (*RUN, "", "text", "dockerfile", "yaml"), f"line {block.line}"


@every_text
def test_a_block_that_is_a_file_says_so_to_the_reader(name: str) -> None:
    """The comment above it is shown nowhere: its first line, or the paragraph before, names the file too."""
    for block in blocks_of(TEXTS[name]):
        before = "\n".join(TEXTS[name].split("\n")[: block.line - 2]).rstrip().rpartition("\n\n")[2]
        first = block.text.partition("\n")[0]
        assert block.file is None or block.file in f"{before} {first}", f"line {block.line}"


@every_text
def test_commands_stand_in_blocks_that_are_run(name: str) -> None:
    shown = [block for block in blocks_of(TEXTS[name]) if block.language in ("", "text")]
    assert [block.line for block in shown if re.search(r"^(slotcar|python -m) ", block.text, re.MULTILINE)] == []


@every_guide
def test_a_guide_names_no_module_file(name: str) -> None:
    """Files are moved and renamed; the examples are for users."""
    found = re.findall(r"\b(?:jobs|cluster|lstm_core)/[\w/]+\.py\b", GUIDES[name])
    assert [file for file in found if not file.startswith("jobs/examples/")] == []


def test_the_reference_is_what_the_sections_say() -> None:
    assert FILE.read_text(encoding="utf-8") == reference(), "run python -m jobs.config.config_reference"


# That they name everything.


def test_every_key_is_explained() -> None:
    assert [key for key in sorted(KEYS) if f"| `{key}` |" not in GUIDES["configuration.md"]] == []


def test_every_command_and_option_is_named() -> None:
    shown = [" ".join(words) for text in TEXTS.values() for words in commands_in(text)]
    assert [name for name in OF_COMMANDS if not any(f"{line} ".startswith(f"{name} ") for line in shown)] == []
    options = [names for options in OPTIONS_OF.values() for names in options]
    assert [names for names in options if not any(option in EVERYTHING for option in names)] == []


def test_every_exit_code_has_a_row_of_a_table() -> None:
    codes = vars(exit_codes)
    exits = {value for name, value in codes.items() if name.startswith("EXIT_")}
    assert [code for code in sorted(exits) if not re.search(rf"^\| {code} \|", GUIDES["operating.md"], re.M)] == []


def test_every_column_is_named() -> None:
    assert named(WINDOW_START, WINDOW_ROWS, "reason", "rows", "file", "row", "time") == []
    assert named(LAST, f"{LAST}__", SEEN, BROKEN, f"{BROKEN}__", PREVIOUS, STATE) == []


def test_every_figure_of_a_run_is_named() -> None:
    record = opening_record("run", "identity", StepSettings(), "f", None)
    assert named(*record, *STAGES, "error") == []


RESULTS = (PlanReport, SimulatedRun, TrainReport, Epoch, RunStatus, DriverSeen, RunSummary, Inspection, Verification)


@pytest.mark.parametrize("result", [*RESULTS, Check, Reported], ids=lambda result: result.__name__)
def test_every_field_of_a_result_is_named(result: type) -> None:
    """What `jobs.api` returns, and what `--json` prints."""
    code = {word for text in ALL_CODE for word in re.findall(r"\w+", text)}
    assert [field.name for field in dataclasses.fields(result) if field.name not in code] == []


def test_every_column_of_a_forecast_and_every_line_of_a_plan_has_a_row_of_a_table() -> None:
    values = {field.name: "text" if field.type == "str" else 1 for field in dataclasses.fields(PlanReport)}
    whole = PlanReport(**values | {"simulated": ()})
    lines = [str(cell) for cell in whole.render().columns[0].cells]
    rows = [row.split("|")[1] for row in GUIDES["operating.md"].split("\n") if row.startswith("| ")]
    told = {name.strip() for row in rows for name in row.split(",")}
    assert [name for name in (*lines, *COLUMNS) if name and name not in told] == []


def test_every_word_of_status_and_every_check_of_the_audit_has_a_row_of_a_table() -> None:
    assert [word for word in get_args(State) if f"\n| {word} |" not in GUIDES["operating.md"]] == []
    assert [word for word in MEANINGS if f"\n| {word} |" not in GUIDES["audit.md"]] == []


def test_every_feature_of_context_and_every_place_is_named() -> None:
    assert named(*CONTEXT) == []
    assert [scheme for scheme in set(SCHEMES.values()) - {"file"} if f"`{scheme}://" not in EVERYTHING] == []


def test_every_metric_is_named() -> None:
    assert named(*(f"{name}_total" for name in (*COUNTERS, "stage_seconds")), *GAUGES) == []


# And nothing that there is not.


@every_text
def test_the_keys_that_are_named_exist(name: str) -> None:
    found = [match[1] for code in inline_code(TEXTS[name]) if (match := A_KEY.fullmatch(code))]
    given = [given for words in commands_in(TEXTS[name]) for given in _overrides(words)]
    found += [match[1] for key in given if (match := A_KEY.fullmatch(key))]
    assert [key for key in found if key not in KEYS | NOT_KEYS and not A_FILE.fullmatch(key)] == []


def _overrides(words: list[str]) -> list[str]:
    return [value for option, value in pairwise(words) if option == "--set"]


@every_text
def test_the_commands_and_options_that_are_named_exist(name: str) -> None:
    for words in commands_in(TEXTS[name]):
        if not words or PLACEHOLDER.fullmatch(words[0]):
            continue
        command = next((known for known in OF_COMMANDS if words[: known.count(" ") + 1] == known.split()), None)
        if command is None:
            assert any(known.startswith(f"{words[0]} ") for known in OF_COMMANDS), words
            assert len(words) == 1, words
            continue
        asked = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert asked <= OF_COMMANDS[command] | {"--help"}, words


@every_text
def test_the_options_that_stand_alone_exist(name: str) -> None:
    alone = {code.split()[0].partition("=")[0] for code in inline_code(TEXTS[name]) if code.startswith("--")}
    known = {option for options in OF_COMMANDS.values() for option in options}
    assert alone - known - OF_BENCHES - OTHER_OPTIONS == set()


@every_text
def test_the_modules_that_are_started_exist_and_so_do_the_options_of_benches(name: str) -> None:
    shown = [code.split() for code in inline_code(TEXTS[name])]
    shown += [words for block in blocks_of(TEXTS[name]) if block.language == "sh" for words in commands_of(block.text)]
    for words in shown:
        if words[:2] == ["python", "-m"] and len(words) > 2 and not PLACEHOLDER.fullmatch(words[2]):
            assert find_spec(words[2]) is not None, words
            asked = {word for word in words[3:] if word.startswith("--")}
            assert not words[2].startswith("tests.bench") or asked <= OF_BENCHES, words


@every_text
def test_the_features_of_context_that_are_named_exist(name: str) -> None:
    assert {code for code in inline_code(TEXTS[name]) if re.fullmatch(r"@\w+", code)} <= set(CONTEXT)


@every_text
def test_the_toml_of_a_text_is_some_of_a_configuration(name: str) -> None:
    for block in blocks_of(TEXTS[name]):
        if block.language == "toml" and not (block.not_run or "").startswith(NO_CONFIGURATION):
            validated(_whole(block.text), source=f"{name}, line {block.line}", folder="/")


def _whole(text: str) -> dict[str, Any]:
    """A fragment of a configuration with the required keys that it leaves out."""
    found, whole = tomllib.loads(text), deepcopy(BASE)
    if "train" in found:
        whole["train"] = {"model": "models.delays:build", "target": ["arr_delay"]}
    for section, values in found.items():
        whole[section] = {**whole.get(section, {}), **values} if isinstance(values, dict) else values
    return whole

"""What a run is asked for, and request.json: the part of it that is kept, so that an audit needs no configuration.

Decides how settings lie on disk: as JSON, sequences as lists. The model itself is not kept, only where it was read and
its fingerprint. A file of another version reads as far as its keys are known here, and is refused otherwise.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

import pyarrow as pa

from cluster.core.carry import CarryFile, CarrySchema
from cluster.core.settings import ClusterSettings, Fill, InputSettings, OutputSettings, StateSettings, StepSettings
from cluster.run_errors import RunFailed, told
from cluster.runtime.storage.filesystems import FileStat
from cluster.runtime.storage.open_store import StoreSpec
from cluster.runtime.storage.store import Store
from lstm_core.contract.custom_code import NO_CODE, CustomCode
from lstm_core.contract.model_contract import ModelContract
from lstm_core.json_types import JsonObject, JsonValue

REQUEST = "_slotcar/request.json"


@dataclass(frozen=True)
class CarryRequest:
    """What a run reads and writes of carry-over, found and checked before anything is started."""

    schema: CarrySchema
    settings: StateSettings
    read: StoreSpec | None = None
    write: StoreSpec | None = None
    files: tuple[CarryFile, ...] = ()  # of the table that is read
    read_checksum: str | None = None  # of what it holds
    types: pa.Schema | None = None  # of its keys and times, under tonight's names; None where it has no file

    def in_types(self, types: pa.Schema | None) -> CarryRequest:
        """The same with keys and times in the types of a plan, where that names any."""
        return self if types is None else replace(self, schema=self.schema.in_types(types))


@dataclass(frozen=True)
class ScoreRequest:
    """What a run is asked for; `jobs.commands.score` makes it from a checked configuration."""

    run_id: str
    identity: str  # digest of all that decides the output's bytes
    run: str  # short name of the run, part of file names
    model: bytes
    contract: ModelContract
    input: InputSettings
    step: StepSettings
    output: OutputSettings
    cluster: ClusterSettings
    quarantine_limit: float
    model_path: str = ""  # where `model` was read, for audits
    carry: CarryRequest | None = None
    some_files: tuple[FileStat, ...] = ()  # of the input, which every node is to see


@dataclass(frozen=True)
class RequestFile:
    """The part of a run's request that decides its scores, and where they lie."""

    run_id: str
    identity: str
    model_path: str  # as it was read; "" where the model came from no file
    model_fingerprint: str
    input: InputSettings
    step: StepSettings
    output: OutputSettings
    code: CustomCode = NO_CODE
    state: StateSettings = field(default_factory=StateSettings)
    versions: dict[str, str] | None = None  # of what scores depend on; None in a file of an earlier version

    def told(self) -> JsonObject:
        """What run.json and the plan say as well, by their names."""
        return {
            "run_id": self.run_id,
            "identity": self.identity,
            "model_fingerprint": self.model_fingerprint,
            "slots": self.step.slots,
            "chunk": self.step.chunk,
            "versions": self.versions,
            "entity": self.input.entity,
            "time": self.input.time,
        }

    @staticmethod
    def of(request: ScoreRequest, versions: dict[str, str] | None = None) -> RequestFile:
        """What is kept of a request."""
        return RequestFile(
            run_id=request.run_id,
            identity=request.identity,
            model_path=request.model_path,
            model_fingerprint=request.contract.fingerprint,
            input=request.input,
            step=request.step,
            output=request.output,
            code=request.contract.code,
            state=request.carry.settings if request.carry else StateSettings(),
            versions=versions,
        )


def write_request(store: Store, request: RequestFile) -> None:
    """Writes request.json, over an earlier one."""
    store.write(REQUEST, json.dumps(asdict(request), indent=1).encode())


def read_request(store: Store) -> RequestFile | None:
    """The output's request.json, or None where there is none. Raises RunFailed where it cannot be understood."""
    content = store.find(REQUEST)
    if content is None:
        return None
    try:
        stored = json.loads(content)
        settings = {name: _tuples(stored.pop(name)) for name in ("input", "step", "output")}
        fills = {name: Fill(**fill) for name, fill in settings["input"].pop("fill").items()}
        code = CustomCode(**_tuples(stored.pop("code", {})))
        state = StateSettings(**stored.pop("state", {}))
        return RequestFile(
            **stored,
            code=code,
            state=state,
            input=InputSettings(**settings["input"], fill=fills),
            step=StepSettings(**settings["step"]),
            output=OutputSettings(**settings["output"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunFailed(
            f"{store.path(REQUEST)} cannot be understood ({told(error)}): expected what slotcar score wrote; "
            "put the file back, or score into another output."
        ) from error


def _tuples(value: JsonValue) -> JsonValue:
    """JSON's lists as the tuples that settings have."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return {key: _tuples(item) for key, item in value.items()} if isinstance(value, dict) else value

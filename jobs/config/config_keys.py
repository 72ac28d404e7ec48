"""The shape of a configuration file: its sections, keys, types, ranges and defaults.

Decides what each key may hold by itself. `key_rules` decides which values go together, `toml_text` how a mistake
is said. A key's description is what a user reads when the key is missing.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import date, time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationInfo

from cluster.core.locations import NotALocation, is_url, normalized
from cluster.core.settings import BadEntity, Fill, Late, Layout, Missing, Ties

THE_INPUT = ""  # `features = [...]`: the name that stands for the single input of the model


def _column(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must name columns as text, but holds {value!r}")
    return value


def _columns(value: object) -> tuple[str, ...]:
    names = tuple(_column(item) for item in (value if isinstance(value, list | tuple) else [value]))
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"names {name!r} twice: name it once")
    return names


def _some_columns(value: object) -> tuple[str, ...]:
    names = _columns(value)
    if not names:
        raise ValueError("must name at least one column")
    return names


def _features(value: object) -> object:
    if not isinstance(value, str | list | tuple | dict) or not value:
        raise ValueError(f"must be a list of columns, or a table of model input to columns, not {value!r}")
    return value if isinstance(value, dict) else {THE_INPUT: value}


def _resolve(value: str, info: ValidationInfo) -> str:
    if not value or "\0" in value:
        raise ValueError("must not be empty" if not value else "must not hold the character NUL")
    if is_url(value):
        raise ValueError(f"must be a local path, but is {value!r}: copy it to this machine")
    assert info.context is not None, "sections are validated with the file's folder as context"
    return os.path.normpath(os.path.join(info.context["folder"], value))


def _resolve_anywhere(value: str, info: ValidationInfo) -> str:
    if not is_url(value):
        return _resolve(value, info)
    if re.search(r"\?\w+=", value):
        raise NotALocation("must not hold options behind a question mark: put them into [storage]")
    return normalized(value, "/")


def _list_of_paths(value: object) -> object:
    paths = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not paths:
        raise ValueError("must name at least one file, directory or glob")
    return paths


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _moment(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | date | time):
        raise ValueError(f"must be a date, a time or a whole number, not {value!r}")
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _fill(value: object) -> Fill:
    if isinstance(value, Fill):
        return value
    if not isinstance(value, str | int | float):
        raise ValueError(f'must be a value or "previous", not {value!r}')
    if value == "previous":
        return Fill(previous=True)
    if isinstance(value, str):
        return Fill(value=value)
    if not abs(value) <= sys.float_info.max:
        raise ValueError("must be a finite number, since a score of anything else means nothing")
    return Fill(value=float(value))


def _words(value: object) -> object:
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple) or any(isinstance(word, bool | float) for word in value):
        raise ValueError(f"must be a file's path or a list of values, not {value!r}")
    return tuple(str(word) for word in value)


def _resolve_words(value: str | tuple[str, ...], info: ValidationInfo) -> str | tuple[str, ...]:
    return _resolve(value, info) if isinstance(value, str) else value


def _learning_rate(value: object) -> object:
    if isinstance(value, dict) and isinstance(value.get("schedule"), str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise ValueError(f"must be a number that is more than 0, or a table with its schedule, not {value!r:.60}")
    return float(value)


def _callbacks(value: object) -> object:
    listed = value if isinstance(value, list | tuple) else [value]
    tables = [{"name": item} if isinstance(item, str) else item for item in listed]
    if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in tables):
        raise ValueError("must be a list of callbacks, each a name or a table with its name and arguments")
    return tuple(tables)


def _metrics(value: object) -> object:
    if isinstance(value, dict):
        return {str(output): _names_of_metrics(names) for output, names in value.items()}
    return _names_of_metrics(value)


def _names_of_metrics(value: object) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, list | tuple) else (value,)
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise ValueError(f"must be a list of names, or a table of output to such a list, not {value!r}")
        if name in names[:index]:
            raise ValueError(f"names {name!r} twice: name it once")
    return names


def _training_model(value: str, info: ValidationInfo) -> str:
    if value.endswith(".keras"):
        return _resolve(value, info)
    if value.count(":") != 1 or not all(value.split(":")):
        raise ValueError(f'must be "module:function" or a .keras file, not {value!r}')
    return value


Columns = Annotated[tuple[str, ...], BeforeValidator(_columns)]
SomeColumns = Annotated[tuple[str, ...], BeforeValidator(_some_columns)]
LocalPath = Annotated[str, AfterValidator(_resolve)]
AnyPath = Annotated[str, AfterValidator(_resolve_anywhere)]
AnyPaths = Annotated[tuple[AnyPath, ...], BeforeValidator(_list_of_paths)]
Moment = Annotated[str, BeforeValidator(_moment)]
Features = Annotated[dict[str, SomeColumns], BeforeValidator(_features)]
Words = Annotated[str | tuple[str, ...], BeforeValidator(_words), AfterValidator(_resolve_words)]
RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
Compression = Literal["zstd", "snappy", "gzip", "lz4", "brotli", "none"]


class Section(BaseModel):
    """A table of the file: no unknown keys, no silent conversions, no change afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())


class ModelSection(Section):
    path: LocalPath = Field(description='the model\'s file, for example path = "model.keras"')
    slots: int = Field(default=256, ge=1)
    chunk: int = Field(default=64, ge=1)
    tail: Literal["mask", "drop"] = "mask"
    jit: bool = True
    modules: Annotated[tuple[ModuleName, ...], BeforeValidator(_listed)] = ()


class InputSection(Section):
    path: AnyPaths = Field(description="the Parquet files: a file, a directory, a glob, or a list of those")
    entity: SomeColumns = Field(description='the columns that name a series, for example entity = ["tailnum"]')
    time: SomeColumns = Field(description='the columns that order its rows, for example time = ["time_hour"]')
    features: Features = Field(description="the model's input columns: a list, or a table of input name to columns")
    since: Moment | None = None
    until: Moment | None = None
    layout: Layout = "auto"
    version: int | None = Field(default=None, ge=0)
    fill: dict[str, Annotated[Fill, BeforeValidator(_fill)]] = Field(default_factory=dict)
    vocabulary: dict[str, Words] = Field(default_factory=dict)


class OutputSection(Section):
    path: AnyPath = ""  # never empty where scores are written; `train` needs none
    keep: Columns = ()
    names: SomeColumns | None = None
    rows_per_file: int = Field(default=1_000_000, ge=1)
    compression: Compression = "zstd"
    overwrite: bool = False
    delta: AnyPath | None = None


class StateSection(Section):
    read: AnyPath | None = None
    write: AnyPath | None = None
    missing: Missing = "reset"
    late: Late = "quarantine"


class ClusterSection(Section):
    address: str = ""
    replicas: int | None = Field(default=None, ge=1)
    cpus_per_replica: float = Field(default=1, ge=0)
    gpus_per_replica: float = Field(default=0, ge=0)


class FaultsSection(Section):
    bad_entity: BadEntity = "quarantine"
    quarantine_limit: float = Field(default=0.01, ge=0, le=1)
    ties: Ties = "keep"
    max_attempts: int = Field(default=3, ge=1)
    checkpoint_s: float = Field(default=60.0, gt=0)


class TrainSection(Section):
    model: Annotated[str, AfterValidator(_training_model)] = Field(
        description='"module:function", which returns an uncompiled Functional model, or a .keras file to go on from'
    )
    target: SomeColumns = Field(description='the columns to predict, one per score, for example target = ["delay"]')
    loss: str | dict[str, str] = "mae"
    loss_weights: dict[str, float] = Field(default_factory=dict)
    weight: Annotated[str, AfterValidator(_column)] | None = None
    metrics: Annotated[tuple[str, ...] | dict[str, tuple[str, ...]], BeforeValidator(_metrics)] = ()
    class_weight: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    optimizer: str = "adam"
    learning_rate: Annotated[float | dict[str, Any], BeforeValidator(_learning_rate)] = 1e-3
    epochs: int = Field(default=3, ge=1)
    callbacks: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_callbacks)] = ()
    reset: Literal["entity", "chunk"] = "entity"
    restart: bool = False
    validate_since: Moment | None = None
    seed: int = Field(default=0, ge=0)


class Document(Section):
    """The whole file. `model` and `input` are always there: an absent table is read as an empty one."""

    run_id: RunId | None = None
    model: ModelSection
    input: InputSection
    output: OutputSection = OutputSection.model_construct()
    state: StateSection = StateSection()
    cluster: ClusterSection = ClusterSection()
    faults: FaultsSection = FaultsSection()
    train: TrainSection | None = None
    storage: dict[str, Any] = Field(default_factory=dict)

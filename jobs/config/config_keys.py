"""The shape of a configuration file: its sections, keys, ranges, defaults and what they mean.

Decides which keys there are. What a value may look like is in `key_types`; `key_rules` decides which values go
together, `toml_text` how a mistake is said. A key's description is its meaning in the configuration reference, which
`config_reference` makes; the description's first sentence is what a user reads where the key is missing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cluster.core.settings import BadEntity, Late, Layout, Missing, Ties
from jobs.config.key_types import (
    AnyPath,
    AnyPaths,
    Callbacks,
    ColumnName,
    Columns,
    Compression,
    Features,
    Fills,
    LearningRate,
    LocalPath,
    Metrics,
    Modules,
    Moment,
    RunId,
    SomeColumns,
    TrainingModel,
    Words,
)
from lstm_core.json_types import JsonObject

WHEN_UNSET = "when_unset"  # in a field's extra: what holds where the key is left out, where no default can say it


def _when_unset(text: str) -> JsonObject:
    return {WHEN_UNSET: text}


class Section(BaseModel):
    """A table of the file: no unknown keys, no silent conversions, no change afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())


class ModelSection(Section):
    """The model, and the shape of one step."""

    path: LocalPath = Field(
        description='The model\'s file, for example path = "model.keras". It lies on this machine, and `slotcar train` '
        "writes it."
    )
    slots: int = Field(
        default=256,
        ge=1,
        description="Slots of every replica, which are the rows of its fixed batch. They are fixed for the run, and "
        "part of its identity.",
    )
    chunk: int = Field(
        default=64,
        ge=1,
        description="Timesteps of one step, where the model leaves its length in time open. A model that fixes its "
        "length keeps it.",
    )
    tail: Literal["mask", "drop"] = Field(
        default="mask",
        description="For models with one score per window: what happens to an entity's last rows where they do not "
        'fill a window. "mask" scores them as far as they go, "drop" skips them.',
    )
    jit: bool = Field(
        default=True,
        description="Compile the step with XLA. On a GPU, false lets cuDNN run LSTM and GRU.",
    )
    modules: Modules = Field(
        default=(),
        description="Python modules that register custom layers with Keras. They are imported before the model is "
        "loaded, and looked for beside the configuration file first.",
    )


class InputSection(Section):
    """The rows to read, and what their columns mean."""

    path: AnyPaths = Field(
        description="The Parquet files: a file, a directory (read recursively), a glob, or a list of those. They are "
        "local, or begin with `s3://`, `gs://`, `abfs://` or `hdfs://`. A Delta Lake or Iceberg table is named by its "
        "folder, an Iceberg table also by its `.metadata.json` file."
    )
    entity: SomeColumns = Field(
        description='The columns that name a series, for example entity = ["tailnum"]. One column or several.'
    )
    time: SomeColumns = Field(
        description='The columns that order its rows, for example time = ["time_hour"]. Further columns break ties.'
    )
    features: Features = Field(
        description="The model's input columns: a list, or a table of input name to columns. A list does for a model "
        "with one input. `@chunk_index`, `@chunk_count` and `@length` are counted by the run."
    )
    since: Moment | None = Field(
        default=None, description="Only rows whose time, that of the first time column, is at or after this moment."
    )
    until: Moment | None = Field(
        default=None, description="Only rows whose time, that of the first time column, is before this moment."
    )
    layout: Layout = Field(
        default="auto",
        description='"auto" shuffles an interleaved input before it is scored, "clustered" refuses one, and "shuffle" '
        "shuffles the input without looking at its layout.",
    )
    version: int | None = Field(
        default=None,
        ge=0,
        description="Of a Delta Lake table its version, of an Iceberg table the id of a snapshot.",
        json_schema_extra=_when_unset("the newest"),
    )
    page_checksums: bool = Field(
        default=True,
        description="Check the pages of files that carry checksums for them. A page that does not match its own is "
        "damaged.",
    )
    fill: Fills = Field(
        default_factory=dict,
        description='What a null or NaN becomes, per feature column: a value, or "previous", the entity\'s last known '
        "value. A null in a column that is not named here is a fault.",
    )
    vocabulary: dict[str, Words] = Field(
        default_factory=dict,
        description="The words of a categorical column: a list, or the path of a file with one word per line. The "
        "first word has code 1; code 0 is for words that are not listed.",
    )


class OutputSection(Section):
    """Where and how scores are written."""

    path: AnyPath = Field(  # never empty where scores are written or planned
        default="",
        description="The folder for the scores. It is local, or begins with `s3://`, `gs://`, `abfs://` or `hdfs://`. "
        "`slotcar train`, `slotcar export` and `slotcar inspect --config` need none.",
        json_schema_extra=_when_unset("required to score or plan"),
    )
    keep: Columns = Field(default=(), description="Input columns that are handed through to the output.")
    names: SomeColumns | None = Field(
        default=None,
        description="Names of the score columns, one per score value.",
        json_schema_extra=_when_unset("the model's output names"),
    )
    rows_per_file: int = Field(
        default=1_000_000,
        ge=1,
        description="The most rows of a shard with several entities. An entity that is longer begins another fragment "
        "once it has written so many rows.",
    )
    compression: Compression = Field(
        default="zstd",
        description='Compression of the Parquet files. States of carry-over are stored as lz4 unless this is "none".',
    )
    overwrite: bool = Field(default=False, description="Clear the folder of another run first.")
    delta: AnyPath | None = Field(
        default=None,
        description="A Delta table to which the scores are appended as well, in one commit. The run makes it where "
        "there is none.",
    )


class StateSection(Section):
    """Carry-over: the state that goes from one run to the next."""

    read: AnyPath | None = Field(default=None, description="The carry-over that an earlier run has written.")
    write: AnyPath | None = Field(
        default=None, description="Where to write the carry-over for the next run: a folder of its own for each run."
    )
    missing: Missing = Field(
        default="reset",
        description='What happens to an entity without carry-over: "reset" starts it from zero state, "fail" ends the '
        "run.",
    )
    late: Late = Field(
        default="quarantine",
        description='What happens to rows that are not after the carried last time: "quarantine", "drop" to skip them, '
        'or "fail" to end the run.',
    )


class ClusterSection(Section):
    """The Ray cluster, and what a replica takes of it."""

    address: str = Field(
        default="",
        description='"" starts an embedded Ray on this machine, "auto" finds the cluster of this machine, anything '
        "else is the address of a cluster. `--address` overrides it.",
    )
    replicas: int | None = Field(
        default=None,
        ge=1,
        description="How many replicas to start.",
        json_schema_extra=_when_unset("as many as fit into the CPUs and GPUs of the cluster"),
    )
    cpus_per_replica: float = Field(default=1, ge=0, description="CPUs, and threads, of one replica.")
    gpus_per_replica: float = Field(default=0, ge=0, description="GPUs of one replica. Fractions are allowed.")


class FaultsSection(Section):
    """What happens to bad rows and to work that is lost."""

    bad_entity: BadEntity = Field(
        default="quarantine",
        description="What happens at nulls and NaN without a fill, and at values that do not fit: "
        '"quarantine" the entity from that row on, or "fail". The same holds for files that cannot be read, where it '
        "is known which entity they hold.",
    )
    quarantine_limit: float = Field(
        default=0.01, ge=0, le=1, description="Share of rows in quarantine above which the run ends with exit code 3."
    )
    ties: Ties = Field(
        default="keep",
        description='What happens to rows of one entity with equal time: "keep" their order and count them, or "fail".',
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        description="Replicas that a shard may cost. After so many it goes into quarantine. A replica that dies with "
        "its node counts a fifth.",
    )
    checkpoint_s: float = Field(
        default=60.0,
        gt=0,
        description="The most work, in seconds, that a dead replica costs. A shard that takes longer is committed as "
        "it goes.",
    )


class TrainSection(Section):
    """Training. Only `slotcar train` reads this section, and needs it."""

    model: TrainingModel = Field(
        description='"module:function", which returns an uncompiled Functional model, or a .keras file to go on from.'
    )
    target: SomeColumns = Field(
        description='The columns to predict, one per score, for example target = ["delay"]. None of them is a feature. '
        "Of a window the last row's target counts. A row whose target is null moves the state and has no loss."
    )
    loss: str | dict[str, str] = Field(
        default="mae", description="A Keras loss by name, or a table with one loss per output of the model."
    )
    loss_weights: dict[str, float] = Field(
        default_factory=dict,
        description="The weight of each output's loss, per output.",
        json_schema_extra=_when_unset("1 each"),
    )
    weight: ColumnName | None = Field(
        default=None,
        description="A column with the weight of each row. A row weighs nothing where that is null, 0, negative or "
        "infinite.",
    )
    metrics: Metrics = Field(
        default=(),
        description="Keras metrics by name, for every output, or a table of output to such names.",
    )
    class_weight: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="The weight of each class. The class is the target; for an output with one score per class it is "
        "the number of its largest target. Validation does not use these weights.",
        json_schema_extra=_when_unset("1 each"),
    )
    optimizer: str = Field(default="adam", description="A Keras optimizer by name.")
    learning_rate: LearningRate = Field(
        default=1e-3,
        description="The optimizer's learning rate, or a table with a schedule of Keras: "
        '`{schedule = "CosineDecay", initial_learning_rate = ..., ...}`.',
    )
    epochs: int = Field(default=3, ge=1, description="How often the input is passed over.")
    callbacks: Callbacks = Field(
        default=(),
        description='Keras callbacks by name, or "module:Class"; a table gives arguments. Relative paths are relative '
        "to the configuration file.",
    )
    reset: Literal["entity", "chunk"] = Field(
        default="entity", description='Where the state is zeroed: where an "entity" begins, or at every "chunk".'
    )
    restart: bool = Field(default=False, description="Begin anew, whatever an earlier session has done.")
    validate_since: Moment | None = Field(
        default=None,
        description="Rows from this moment on are never trained on. They are scored with the state that the earlier "
        "rows left.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of all that Keras draws: the initial weights, and dropout.")


class Document(Section):
    """The whole file. `model` and `input` are always there: an absent table is read as an empty one."""

    run_id: RunId | None = Field(
        default=None,
        description="The run's name: 1 to 100 letters, digits, '.', '_' or '-', the first a letter or a digit. Left "
        "out, it is derived from the model, the input's files and the settings that decide the output.",
        json_schema_extra=_when_unset("derived"),
    )
    model: ModelSection
    input: InputSection
    output: OutputSection = OutputSection.model_construct()
    state: StateSection = StateSection()
    cluster: ClusterSection = ClusterSection()
    faults: FaultsSection = FaultsSection()
    train: TrainSection | None = None
    storage: JsonObject = Field(
        default_factory=dict,
        description="Options for remote stores, under the names that pyarrow.fs gives them. Secrets are refused here: "
        "they come from the environment.",
    )

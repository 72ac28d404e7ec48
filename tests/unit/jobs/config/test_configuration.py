"""Configuration: defaults, overrides, paths, and one sentence for every mistake."""

from __future__ import annotations

import contextlib
import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.settings import ClusterSettings, Fill, StepSettings
from jobs.config.configuration import Config, load_config, validated
from jobs.config.key_rules import Command, check_rules
from jobs.config.run_identity import derive_run_id
from jobs.config.toml_text import apply_override, keys_by_section, put
from lstm_core.contract.model_contract import InputContract, ModelContract, OutputContract
from lstm_core.errors import UsageError
from lstm_core.exit_codes import EXIT_USAGE

MINIMAL = """
[model]
path = "delays.keras"
[input]
path = "flights"
entity = ["tailnum"]
time = ["time_hour", "flight"]
features = ["dep_delay", "distance"]
[output]
path = "scores"
"""

TRAINING = """
[train]
model = "models.delays:build"
target = ["arr_delay"]
"""

NUMBERS = InputContract(name="numeric", kind="numeric", columns=2, rank=3, dtype="float32", vocabulary=None)
CARRIER = InputContract(name="carrier", kind="categorical", columns=1, rank=2, dtype="int32", vocabulary=4)
TWO_INPUTS = ["input.features.numeric=['dep_delay', 'distance']", "input.features.carrier='code'"]


def _contract(*inputs: InputContract, scores: int = 1, chunk: int | None = None) -> ModelContract:
    return ModelContract(
        inputs=inputs or (NUMBERS,),
        outputs=(OutputContract(name="score", values=scores),),
        recurrent=(),
        chunk=chunk,
        batch=None,
        fingerprint="f" * 64,
        parameters=0,
        flop_per_row=0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "delays.keras").write_bytes(b"a model")
    (tmp_path / "flights").mkdir()
    return tmp_path


def _load(folder: Path, *overrides: str, text: str = MINIMAL, command: Command = "score") -> Config:
    (folder / "job.toml").write_text(text, encoding="utf-8")
    return load_config(str(folder / "job.toml"), overrides, command=command)


def _load_with_table(folder: Path, *overrides: str) -> Config:
    text = MINIMAL.replace('features = ["dep_delay", "distance"]\n', "")
    return _load(folder, *TWO_INPUTS, *overrides, text=text)


def _refusal(folder: Path, *overrides: str, text: str = MINIMAL, command: Command = "score") -> str:
    with pytest.raises(UsageError) as caught:
        _load(folder, *overrides, text=text, command=command)
    assert caught.value.exit_code == EXIT_USAGE
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_the_required_keys_are_enough(folder: Path) -> None:
    config = _load(folder)
    assert config.step_settings() == StepSettings(slots=256, chunk=64, jit=True)
    assert config.cluster_settings() == ClusterSettings()
    assert config.run_id is None
    assert config.faults.quarantine_limit == 0.01
    settings = config.input_settings(_contract())
    assert settings.entity == ("tailnum",)
    assert settings.features == (("numeric", ("dep_delay", "distance")),)
    output = config.output_settings(_contract())
    assert (output.names, output.rows_per_file, output.compression) == (("score",), 1_000_000, "zstd")


def test_paths_are_relative_to_the_file_also_those_of_overrides(folder: Path) -> None:
    config = _load(folder, "output.path=../elsewhere", "input.path=['flights', 'more/*.parquet', '/abs']")
    assert config.model.path == str(folder / "delays.keras")
    assert config.output.path == str(folder.parent / "elsewhere")
    assert config.input.path == (str(folder / "flights"), str(folder / "more/*.parquet"), "/abs")


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("output.path=2026-11-21", "2026-11-21"),
        ("output.path='2026-11-21'", "2026-11-21"),
        ("output.path=a/b=c", "a/b=c"),
        ("output.path=01.scores", "01.scores"),
    ],
)
def test_a_bare_word_or_a_date_is_text(folder: Path, override: str, found: str) -> None:
    assert _load(folder, override).output.path == str(folder / found)


def test_the_last_override_wins_and_the_address_beats_it(folder: Path) -> None:
    assert _load(folder, "model.slots=3", "model.slots=4").model.slots == 4
    path = str(folder / "job.toml")
    assert load_config(path, ["cluster.address=one"], "auto").cluster.address == "auto"


def test_a_moment_may_be_text_a_date_or_a_number(folder: Path) -> None:
    text = MINIMAL.replace("[output]", "since = 2026-11-20\nuntil = 2026-11-21T03:00:00Z\n[output]")
    config = _load(folder, text=text)
    assert (config.input.since, config.input.until) == ("2026-11-20", "2026-11-21T03:00:00+00:00")
    assert _load(folder, "input.since=9", "input.until=10").input.until == "10"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.slot=3"], "model.slots"),
        (["cluster.slots=3"], "the nearest one is model.slots"),
        (["slots=3"], "the nearest one is model.slots"),
        (["modle.path=x"], "the nearest one is model;"),
        (["input.entitiy=['a']"], "the nearest one is input.entity"),
        (["model.slots=0"], "model.slots must be at least 1, not 0"),
        (["model.slots=-1"], "at least 1, not -1"),
        (["model.slots=many"], 'a whole number, not "many"'),
        (["model.slots=2.5"], "a whole number, not 2.5"),
        (["model.slots=true"], "a whole number, not true"),
        (["model.jit=1"], "true or false"),
        (["model=1"], "model must be a table"),
        (["run_id=5"], "text in quotes"),
        (["run_id=../x"], "letters, digits"),
        (["input.entity=[tail"], "not valid TOML"),
        (["input.entity=[]"], "at least one column"),
        (["input.entity=[3]"], "name columns as text"),
        (["input.entity=['flight']"], "input.entity and in input.time"),
        (["input.time=['a', 'a']"], "'a' twice"),
        (["input.features=3"], "a list of columns, or a table"),
        (["input.features={}"], "a list of columns, or a table"),
        (["input.path=[]"], "at least one file"),
        (["input.path=ftp://bucket/x"], "must be a local path or start with s3://"),
        (["input.path=s3://key:secret@bucket/x"], "must not hold credentials"),
        (["input.path=s3://bucket/x?region=here"], "put them into [storage]"),
        (["input.path=s3:///x"], "must name a bucket"),
        (["output.path=s3://bucket/a//b"], "no empty"),
        (["model.path=s3://bucket/x.keras"], "must be a local path"),
        (["input.layout=shufle"], "'auto', 'clustered' or 'shuffle'"),
        (["input.fill.dep_dela=0"], "'dep_delay'"),
        (["input.fill.dep_delay=nan"], "finite"),
        (["input.fill.dep_delay=1" + "0" * 400], "finite"),
        (["train.model=a:b", "train.target=y", "train.learning_rate=1" + "0" * 400], "number"),
        (['output.path="a\\u0000b"'], "NUL"),
        (["input.fill.dep_delay=[1]"], '"previous"'),
        (["input.vocabulary.distanc=['x']"], "'distance'"),
        (["input.vocabulary.distance=1"], "a list of values"),
        (["input.since=2026-01-02", "input.until=2026-01-01"], "not before"),
        (["input.since=10", "input.until=10"], "not before"),
        (["output.keep=['tailnum']"], "leave it out of output.keep"),
        (["output.keep=['a', 'a']"], "'a' twice"),
        (
            ["output.names=['time_hour']"],
            "a column of this name is written already, as input.time asks",
        ),
        (["output.names=['tailnum']"], "as input.entity asks"),
        (["output.keep=['gate']", "output.names=['gate']"], "as output.keep asks"),
        (["model.zzqx=1"], "the key model.zzqx is unknown; [model] has path"),
        (["zzqx=1"], "the key zzqx is unknown; the file's top has"),
        (["input.fill.zzqx=0"], "no feature column; the feature columns are dep_delay"),
        (["storage.zzqx=1"], "the key storage.zzqx is unknown; [storage] has"),
        (["storage.password=hush"], "set it in the environment under the name that the store's own library reads, and"),
        (["output.compression=zip"], "'zstd'"),
        (["output.path="], "must not be empty"),
        (["output.path=flights"], "a folder apart"),
        (["output.path=flights/scores"], "a folder apart"),
        (["output.path=."], "lies within output.path"),
        (["input.path=scores/*.parquet"], "a folder for the scores alone"),
        (["input.path=s3://b/out/in", "output.path=s3://b/out"], "lies within output.path s3://b/out: choose"),
        (["state.read=x", "state.write=x"], "state that it began with"),
        (["state.write=scores/x"], "choose a folder apart"),
        (["storage.regon=x"], "nearest one is storage.region"),
        (["storage.secret_key=hush"], "set it in the environment as AWS_SECRET_ACCESS_KEY, and leave it out here"),
        (["storage.anonymous=1"], "must be true or false"),
        (["input.path=s3://b/in", "output.path=s3://b/in/out"], "lies where"),
        (["input.path=s3://b/in/x.parquet", "output.path=s3://b/in"], "lies where"),
        (["cluster.replicas=0"], "at least 1"),
        (["cluster.gpus_per_replica=-0.5"], "at least 0"),
        (["faults.quarantine_limit=1.5"], "at most 1"),
        (["faults.checkpoint_s=inf"], "finite"),
        (["model.path=none.keras"], "is no file"),
        (["model"], "lacks a value"),
        (["a..b=1"], "does not begin with a key"),
        (["model.path.x=1"], "holds a value"),
        (["train.epochs=2"], "lacks train.model"),
        (["input.features=['distance', '@length']", 'input.fill={"@length"=0}'], "known of every row"),
        (["input.features=['distance', '@chunk_index']", "state.read=x"], "counts within one run, and state.read is"),
        (["input.features=['@chunk_count', 'distance']", "state.write=x"], "a column of the input that counts on"),
    ],
)
def test_a_mistake_is_one_sentence(folder: Path, overrides: list[str], expected: str) -> None:
    assert expected in _refusal(folder, *overrides)


@pytest.mark.parametrize("key", ["model.path", "input.path", "input.entity", "input.time", "input.features"])
def test_a_missing_key_is_named_with_an_explanation(folder: Path, key: str) -> None:
    section, name = key.split(".")
    head, table, rest = MINIMAL.partition(f"[{section}]\n")
    lines = rest.splitlines(keepends=True)
    lines.remove(next(line for line in lines if line.startswith(name)))
    assert f"lacks {key}: " in _refusal(folder, text=head + table + "".join(lines))


def test_scores_and_carry_over_may_lie_on_hdfs(folder: Path) -> None:
    config = _load(folder, "output.path=hdfs://node:8020/out/", "state.write=hdfs://node:8020/state")
    assert config.document.output.path == "hdfs://node:8020/out"
    assert config.document.state.write == "hdfs://node:8020/state"
    assert "choose a folder apart" in _refusal(folder, "output.path=hdfs://n/out", "state.write=hdfs://n/out/state")


def test_scores_need_a_folder_and_training_does_not(folder: Path) -> None:
    text = MINIMAL.partition("[output]")[0]
    assert "lacks output.path" in _refusal(folder, text=text)
    assert _load(folder, text=text + TRAINING, command="train").train.epochs == 3


def test_files_that_are_no_configuration_are_refused(folder: Path) -> None:
    assert "not valid TOML" in _refusal(folder, text="model = ")
    (folder / "job.toml").write_bytes(b"\xff\xfe")
    for path in ("job.toml", "none.toml", "flights"):
        with pytest.raises(UsageError, match=path):
            load_config(str(folder / path))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["train.target=['distance']"], "learns to copy it"),
        (["train.target=['tailnum']"], "input.entity"),
        (["train.model=build"], '"module:function"'),
        (["train.learning_rate=0"], "more than 0"),
        (["input.since=2026-05-01", "train.validate_since=2026-04-01"], "nothing is left to train on"),
    ],
)
def test_training_mistakes_are_refused(folder: Path, overrides: list[str], expected: str) -> None:
    assert expected in _refusal(folder, *overrides, text=MINIMAL + TRAINING, command="train")


def test_training_needs_its_section_and_one_target_per_score(folder: Path) -> None:
    assert "lacks the section [train]" in _refusal(folder, command="train")
    config = _load(folder, text=MINIMAL + TRAINING, command="train")
    assert config.input_settings(_contract(), training=True).target == ("arr_delay",)
    with pytest.raises(UsageError, match="one column per score"):
        config.input_settings(_contract(scores=2), training=True)


def test_features_stand_in_the_order_of_the_model(folder: Path) -> None:
    config = _load_with_table(folder)
    features = config.input_settings(_contract(CARRIER, NUMBERS)).features
    assert features == (("carrier", ("code",)), ("numeric", ("dep_delay", "distance")))


def test_what_changes_within_an_entity_is_no_static_input(folder: Path) -> None:
    fixed = dataclasses.replace(NUMBERS, static=True)
    told = _load(folder, "input.features=['@length', '@chunk_count']").input_settings(_contract(fixed, chunk=20))
    assert (told.feature_columns, told.chunk) == ((), 20)
    with pytest.raises(UsageError, match="one value per entity, and @chunk_index is another in each of its chunks"):
        _load(folder, "input.features=['@length', '@chunk_index']").input_settings(_contract(fixed))


def test_features_that_do_not_fit_the_model_are_refused(folder: Path) -> None:
    two = _contract(NUMBERS, CARRIER)
    with pytest.raises(UsageError, match="write a table"):
        _load(folder).input_settings(two)
    with pytest.raises(UsageError, match="wants 3 feature columns, but"):
        _load(folder).input_settings(_contract(dataclasses.replace(NUMBERS, columns=3)))
    with pytest.raises(UsageError, match="carrier is no input of the model"):
        _load_with_table(folder).input_settings(_contract())
    with pytest.raises(UsageError, match=r"lacks input\.features\.carrier"):
        _load(folder, text=MINIMAL.replace("features =", "features.numeric =")).input_settings(two)


def test_vocabularies_come_from_a_list_or_a_file(folder: Path) -> None:
    (folder / "carriers.txt").write_text("AA\nB6\n\nUA\n", encoding="utf-8")
    contract = _contract(NUMBERS, CARRIER)
    for given_words in ("carriers.txt", "['AA', 'B6', 'UA']"):
        settings = _load_with_table(folder, f"input.vocabulary.code={given_words}").input_settings(contract)
        assert settings.vocabulary == {"code": ("AA", "B6", "UA")}
    for refused in ("['AA', 'AA']", "[]", "none.txt", "['A', 'B', 'C', 'D']"):
        with pytest.raises(UsageError, match=r"input\.vocabulary\.code"):
            _load_with_table(folder, f"input.vocabulary.code={refused}").input_settings(contract)


def test_fills_are_values_words_or_the_previous_one(folder: Path) -> None:
    fills = ["input.fill.dep_delay=previous", "input.fill.distance=1", "input.fill.code='AA'"]
    config = _load_with_table(folder, "input.vocabulary.code=['AA']", *fills)
    fill = config.input_settings(_contract(NUMBERS, CARRIER)).fill
    assert fill == {"dep_delay": Fill(previous=True), "distance": Fill(value=1.0), "code": Fill(value="AA")}


@pytest.mark.parametrize("fill", ["dep_delay=none", "code=AA", "code=0.5", "code=-1", "code=4"])
def test_fills_that_cannot_stand_in_their_column_are_refused(folder: Path, fill: str) -> None:
    with pytest.raises(UsageError, match=r"input\.fill\."):
        _load_with_table(folder, f"input.fill.{fill}").input_settings(_contract(NUMBERS, CARRIER))


def test_names_of_scores_are_counted_and_never_those_of_other_columns(folder: Path) -> None:
    contract = _contract(scores=2)
    assert _load(folder, "output.names=['a', 'b']").output_settings(contract).names == ("a", "b")
    with pytest.raises(UsageError, match="one name per score"):
        _load(folder, "output.names=['a']").output_settings(contract)
    with pytest.raises(UsageError, match=r"set output\.names"):
        _load(folder, "output.keep=['score']").output_settings(_contract())


def test_a_model_that_fixes_its_chunk_keeps_it(folder: Path) -> None:
    config = _load(folder, "model.chunk=7")
    assert config.step_settings(_contract(chunk=30)).chunk == 30
    assert config.step_settings(_contract()).chunk == 7


@dataclass(frozen=True)
class _File:
    path: str
    size_bytes: int = 1
    modified_ns: int = 1


def _run_id(config: Config, *, fingerprint: str = "f", files: tuple[_File, ...] = (_File("a"), _File("b"))) -> str:
    return derive_run_id(config, fingerprint, files)


def test_a_run_id_does_not_depend_on_what_leaves_the_bytes_alone(folder: Path) -> None:
    first = _run_id(_load(folder))
    assert _run_id(_load(folder), files=(_File("b"), _File("a"))) == first
    same = ["cluster.replicas=9", "faults.quarantine_limit=0.5", "faults.max_attempts=9", "output.overwrite=true"]
    assert {_run_id(_load(folder, override)) for override in same} == {first}


def test_a_run_id_changes_with_what_decides_the_bytes(folder: Path) -> None:
    config = _load(folder)
    other = ["model.slots=3", "model.chunk=3", "model.jit=false", "output.path=x", "output.names=['x']"]
    other += ["input.since=5", "faults.ties=fail", "input.fill.distance=1", "output.rows_per_file=5"]
    ids = [_run_id(_load(folder, override)) for override in other]
    ids += [_run_id(config), _run_id(config, fingerprint="g"), _run_id(config, files=(_File("a"),))]
    ids += [_run_id(config, files=(_File("a"), _File("b", modified_ns=2)))]
    assert len(set(ids)) == len(ids)


@given(value=st.integers(-(2**60), 2**60) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False))
def test_an_override_reads_values_as_toml_does(value: float | bool) -> None:
    text = str(value).lower()
    raw: dict[str, object] = {}
    apply_override(raw, f"section.key={text}")
    assert raw == {"section": {"key": tomllib.loads(f"x = {text}")["x"]}}


SECTIONS = keys_by_section()
KEYS = [f"{name}.{key}" for name in SECTIONS if name for key in SECTIONS[name]] + SECTIONS[""]
PLAIN = st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_of_any_key_is_taken_or_refused_with_a_sentence(key: str, value: object) -> None:
    raw = tomllib.loads(MINIMAL + TRAINING)
    put(raw, key.split("."), value, option="test")
    try:
        check_rules(validated(raw, source="job.toml", folder="/f"), source="job.toml", command="train")
    except UsageError as refusal:
        refused = str(refusal)
    else:
        return
    assert refused.startswith("job.toml")
    assert refused.endswith(".")


@given(override=st.text(max_size=40))
def test_an_override_of_any_text_is_taken_or_refused_with_a_sentence(override: str) -> None:
    raw: dict[str, object] = {}
    with contextlib.suppress(UsageError):
        apply_override(raw, override)
        assert len(raw) == 1


@pytest.mark.parametrize(
    ("habit", "word"),
    [("shuffle=true", "shuffled"), ("batch_size=32", "model.slots"), ("validation_split=0.1", "since")],
)
def test_a_habit_of_stateless_training_is_refused_with_its_own_sentence(habit: str, word: str, tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text("[train]\nmodel = 'm:build'\ntarget = ['y']\n")
    with pytest.raises(UsageError, match=word):
        load_config(str(file), [f"train.{habit}"], command="train")


def test_who_writes_no_scores_needs_no_output(folder: Path) -> None:
    text = MINIMAL.partition("[output]")[0]
    for command in ("export", "inspect"):
        assert _load(folder, text=text, command=command).output.path == ""
    for command in ("score", "plan"):
        assert "lacks output.path" in _refusal(folder, text=text, command=command)

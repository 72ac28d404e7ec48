"""What is broken about a file: its bytes, the way to them, or that nobody here can read such files."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest

from cluster.run_errors import InputBroken, InputDamaged, InputRefused, InputUnsupported
from cluster.runtime.input.column_checks import refuse_encrypted
from cluster.runtime.input.key_scan import scan_file
from cluster.runtime.input.source_faults import input_faults, value_faults
from cluster.runtime.input.source_files import open_source
from tests.inputs.series import make_series, settings_for

DAMAGE = [
    pa.ArrowInvalid("Parquet magic bytes not found in footer."),
    OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"),
    OSError("Unexpected end of stream: Page was smaller (5) than expected (12)"),
    OSError("could not verify page integrity, CRC checksum verification failed for page_ordinal 0"),
]
NO_DAMAGE = [
    FileNotFoundError(2, "No such file or directory"),
    PermissionError(13, "Permission denied"),
    OSError(5, "Input/output error"),
    OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect to server"),
    OSError("google::cloud::Status(UNAVAILABLE: Permanent error in Read: CURL error [7]=Couldn't connect to server)"),
    OSError("Unable to load libjvm"),
]
UNSUPPORTED = [
    OSError("Could not read encrypted metadata, no decryption found in reader's properties"),
    OSError("Cannot decrypt ColumnMetadata. FileDecryption is not setup correctly"),
    OSError("Invalid physical column type: UNKNOWN"),
    OSError("Not yet implemented: DecodeArrow of DictAccumulator for DeltaByteArrayDecoder"),
    pa.ArrowNotImplementedError("Support for codec 'lzo' not built"),
]


@pytest.mark.parametrize("error", DAMAGE, ids=str)
def test_wrong_bytes_are_damage(error: Exception) -> None:
    with pytest.raises(InputDamaged, match=r"in\.parquet is truncated or no Parquet file"), input_faults("in.parquet"):
        raise error


@pytest.mark.parametrize("error", NO_DAMAGE, ids=str)
def test_what_is_in_the_way_to_them_is_none(error: Exception) -> None:
    with pytest.raises(InputBroken, match="start the run again") as found, input_faults("in.parquet"):
        raise error
    assert not isinstance(found.value, InputDamaged)


@pytest.mark.parametrize("error", UNSUPPORTED, ids=str)
def test_what_nobody_here_can_read_is_refused_and_is_no_damage(error: Exception) -> None:
    sentence = r"in\.parquet (is encrypted, and there is no key|has something that pyarrow \d+\S+ does not read \()"
    with pytest.raises(InputUnsupported, match=sentence) as found, input_faults("in.parquet"):
        raise error
    assert found.value.exit_code == 2


def test_what_no_check_has_foreseen_is_one_sentence() -> None:
    sentence = r"in\.parquet holds a value that .* \(OverflowError: too far\): write the columns"
    with pytest.raises(InputRefused, match=sentence), value_faults("in.parquet"):
        raise OverflowError("too far")


# ---- encodings


ENCODINGS = ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN", "RLE_DICTIONARY")
WRITTEN: dict[str, dict[str, Any]] = {
    "DELTA_BYTE_ARRAY": {"use_dictionary": False, "column_encoding": {"entity": "DELTA_BYTE_ARRAY"}},
    "DELTA_LENGTH_BYTE_ARRAY": {"use_dictionary": False, "column_encoding": {"entity": "DELTA_LENGTH_BYTE_ARRAY"}},
    "PLAIN": {"use_dictionary": False},
    "dictionary": {},
    "a dictionary that was given up": {"dictionary_pagesize_limit": 16},
}
every_text = pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()], ids=str)


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("pages", ["1.0", "2.0"])
@every_text
def test_keys_of_any_encoding_are_found(tmp_path: Path, written: str, pages: Any, kind: Any) -> None:
    table = make_series([200, 1, 300, 77])
    table = table.set_column(0, "entity", table.column("entity").cast(kind))
    options = {"data_page_version": pages, "version": "2.6", **WRITTEN[written]}
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=150, **options)
    _check(tmp_path / "a.parquet", [200, 1, 300, 77])


def test_keys_that_another_writer_has_written_are_found(tmp_path: Path) -> None:
    for version in ("V1", "V2"):
        path = tmp_path / f"{version}.parquet"
        duckdb.connect().execute(
            "COPY (SELECT 'sensor-' || lpad((i // 10)::text, 4, '0') AS entity, i AS time, 0.5::float AS f0, "
            f"0.5::float AS f1, 0.5::float AS f2 FROM range(20000) t(i)) TO '{path}' (PARQUET_VERSION {version})"
        )
        _check(path, [10] * 2000)


def test_row_groups_of_different_encodings_are_read_in_one_file(tmp_path: Path) -> None:
    """A writer may change its mind where texts do not repeat: each row group is judged with the others."""
    table = make_series([40] * 50)
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, dictionary_pagesize_limit=64) as writer:
        for start in range(0, 2000, 200):
            writer.write_table(table.slice(start, 200))
    _check(tmp_path / "a.parquet", [40] * 50)


def _check(path: Path, lengths: list[int]) -> None:
    found = scan_file(str(path), settings_for(path))
    assert found.interleaved is None
    assert found.row_count.tolist() == lengths
    keys = pq.read_table(path).column("entity").unique()
    assert found.keys.column(0).cast(keys.type).combine_chunks().equals(keys)


# ---- encryption


class _Keys(encryption.KmsClient):
    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def write_encrypted(path: Path, table: Any, columns: list[str], *, plaintext_footer: bool = True) -> None:
    """A file in which some columns are encrypted, and the footer where it is not to be plain."""
    asked = encryption.EncryptionConfiguration("f", column_keys={"k": columns}, plaintext_footer=plaintext_footer)
    factory = encryption.CryptoFactory(lambda config: _Keys())
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), asked)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("column", ["entity", "time", "f0", "kept", "target"])
def test_a_column_that_is_encrypted_and_needed_is_refused_by_name(tmp_path: Path, column: str) -> None:
    table = make_series([5]).append_column("kept", pa.array([1] * 5)).append_column("target", pa.array([1.0] * 5))
    write_encrypted(tmp_path / "a.parquet", table, [column])
    settings = settings_for(tmp_path, keep=("kept",), target=("target",))
    with pytest.raises(InputRefused, match=rf": column '{column}' of \S+/a\.parquet is encrypted, and there is no key"):
        scan_file(str(tmp_path / "a.parquet"), settings)


def test_a_column_that_is_encrypted_and_not_needed_does_no_harm(tmp_path: Path) -> None:
    table = make_series([5, 3]).append_column("other", pa.array(["x"] * 8))
    write_encrypted(tmp_path / "a.parquet", table, ["other"])
    settings = settings_for(tmp_path)
    assert scan_file(str(tmp_path / "a.parquet"), settings).row_count.tolist() == [5, 3]
    with open_source(str(tmp_path / "a.parquet"), {}) as parquet:
        assert parquet.encrypted
        refuse_encrypted(parquet, settings, "a.parquet")


def test_a_file_whose_footer_is_encrypted_is_refused_as_what_it_is(tmp_path: Path) -> None:
    write_encrypted(tmp_path / "a.parquet", make_series([5]), ["f0"], plaintext_footer=False)
    with pytest.raises(InputUnsupported, match=r"a\.parquet is encrypted, and there is no key for it: write a copy"):
        scan_file(str(tmp_path / "a.parquet"), settings_for(tmp_path))

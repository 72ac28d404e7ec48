"""What is broken about a file: its bytes, or the way to them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cluster.run_errors import InputBroken, InputDamaged
from cluster.runtime.input.source_files import input_faults

DAMAGE = [
    pa.ArrowInvalid("Parquet magic bytes not found in footer."),
    OSError("Couldn't deserialize thrift: TProtocolException: Invalid data"),
    OSError("Unexpected end of stream: Page was smaller (5) than expected (12)"),
]
NO_DAMAGE = [
    FileNotFoundError(2, "No such file or directory"),
    PermissionError(13, "Permission denied"),
    OSError(5, "Input/output error"),
    OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect to server"),
    OSError("google::cloud::Status(UNAVAILABLE: Permanent error in Read: CURL error [7]=Couldn't connect to server)"),
    OSError("Unable to load libjvm"),
]


@pytest.mark.parametrize("error", DAMAGE, ids=str)
def test_wrong_bytes_are_damage(error: Exception) -> None:
    with pytest.raises(InputDamaged, match=r"in\.parquet is truncated or no Parquet file"), input_faults("in.parquet"):
        raise error


@pytest.mark.parametrize("error", NO_DAMAGE, ids=str)
def test_what_is_in_the_way_to_them_is_none(error: Exception) -> None:
    with pytest.raises(InputBroken) as found, input_faults("in.parquet"):
        raise error
    assert not isinstance(found.value, InputDamaged)

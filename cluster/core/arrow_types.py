"""Arrow's arrays, columns and fields for annotations: one name for each, everywhere.

The stubs of pyarrow take these classes for generic, which they are not when the program runs: so the names stand for
text, that only a type checker reads. What an array holds is known from its `type` at run time, never before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing import Any

    import pyarrow as pa

ArrowArray: TypeAlias = "pa.Array[Any]"  # one piece of memory
ArrowColumn: TypeAlias = "pa.ChunkedArray[Any]"  # a table's column: arrays of one type, one after the other
ArrowValues: TypeAlias = "pa.Array[Any] | pa.ChunkedArray[Any]"  # either of the two
ArrowDictionary: TypeAlias = "pa.DictionaryArray[Any, Any]"  # indices into an array of the values that there are
ArrowLists: TypeAlias = "pa.FixedSizeListArray[Any, int]"
ArrowScalar: TypeAlias = "pa.Scalar[Any]"
ArrowField: TypeAlias = "pa.Field[pa.DataType]"
ArrowListType: TypeAlias = "pa.FixedSizeListType[pa.DataType, int]"

_Kind = TypeVar("_Kind", bound=np.generic)


def over_buffer(buffer: pa.Buffer | None, kind: type[_Kind]) -> NDArray[_Kind]:
    """What stands in one of an array's buffers, uncopied; one that is not there is an error of NumPy's."""
    content: NDArray[_Kind] = np.frombuffer(buffer, kind)  # type: ignore[call-overload]  # the stubs know no Arrow buffer
    return content

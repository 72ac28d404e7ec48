"""NumPy's arrays by the type of their elements, for annotations: one name for each, everywhere.

An array's shape stands in a comment beside it: `# (slot, step, feature)`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # of any type of element, as a model's inputs and states may have
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]
Int32s: TypeAlias = NDArray[np.int32]
AnyInts: TypeAlias = NDArray[np.integer[Any]]  # whole numbers of any width
Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
DType: TypeAlias = np.dtype[Any]

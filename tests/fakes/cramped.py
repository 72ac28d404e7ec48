"""Little memory for the pre-pass: inputs of a few rows have many pieces and buckets, and runs that are merged."""

from __future__ import annotations

import pytest

from cluster.core.plan import shuffle_plan as clustering
from cluster.runtime.shuffle import bucket_sort as buckets
from cluster.runtime.shuffle import bucket_split as pieces


def cramp(patch: pytest.MonkeyPatch, *, sort_bytes: int) -> None:
    """For as long as `patch` lasts; a bucket of more than `sort_bytes` is merged from runs."""
    for module, name, value in (
        (clustering, "PIECE_BYTES", 4000),
        (clustering, "BUCKET_BYTES", 3000),
        (pieces, "ROUND_BYTES", 2000),
        (buckets, "SORT_BYTES", sort_bytes),
        (buckets, "MERGE_BYTES", 1000),
        (buckets, "BATCH_ROWS_MIN", 4),
    ):
        patch.setattr(module, name, value)

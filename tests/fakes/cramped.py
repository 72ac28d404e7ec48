"""Little memory for the pre-pass: inputs of a few rows have many pieces and buckets, and runs that are merged."""

from __future__ import annotations

import pytest

from cluster.core.plan import shuffle_plan
from cluster.runtime.shuffle import bucket_sort, bucket_split


def cramp(patch: pytest.MonkeyPatch, *, sort_bytes: int) -> None:
    """For as long as `patch` lasts; a bucket of more than `sort_bytes` is merged from runs."""
    for module, name, value in (
        (shuffle_plan, "PIECE_BYTES", 4000),
        (shuffle_plan, "BUCKET_BYTES", 3000),
        (bucket_split, "ROUND_BYTES", 2000),
        (bucket_sort, "SORT_BYTES", sort_bytes),
        (bucket_sort, "MERGE_BYTES", 1000),
        (bucket_sort, "BATCH_ROWS_MIN", 4),
    ):
        patch.setattr(module, name, value)

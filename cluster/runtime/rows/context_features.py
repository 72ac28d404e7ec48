"""Context: where in its entity a row stands, as columns that no file has, for models that ask for it.

What it decides: the chunk is the one that the row is scored in (of a window, the window); lengths are those of the
entity in tonight's input, whatever becomes of its rows, so that a bad row behind a good one changes nothing before it.
All of it follows from the plan: a run that is taken up again, and an audit, give the same values.

Limits: no carry-over (the configuration refuses it): a night would begin to count again, and two of them would not give
the scores of one run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cluster.core.settings import CHUNK_COUNT, CHUNK_INDEX, CONTEXT, LENGTH, InputSettings

if TYPE_CHECKING:
    from cluster.runtime.rows.block import Block


def add_context(block: Block, settings: InputSettings) -> pa.Table:
    """The block's table, with the columns of context that `settings` asks for."""
    table = block.table
    wanted = [name for name in CONTEXT if any(name in columns for _, columns in settings.features)]
    if not wanted:
        return table
    assert block.carried is None, "a night cannot know where in its entity a row stands"
    assert settings.chunk, "context is of chunks"
    rows = np.array([block.shard.rows]) if block.shard.streamed else block.sizes  # (series,)
    whole_only = settings.window is not None and settings.tail == "drop"
    chunks = rows // settings.chunk if whole_only else -(-rows // settings.chunk)
    found = {
        CHUNK_INDEX: (block.rows_before + block.positions) // settings.chunk,
        CHUNK_COUNT: np.repeat(chunks, block.sizes),
        LENGTH: np.repeat(rows, block.sizes),
    }
    for name in wanted:
        table = table.append_column(name, pa.array(found[name], pa.int64()))
    return table

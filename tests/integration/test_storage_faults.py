"""Storage that fails in the middle of a run: exit code 1, one sentence, and an output that the same command finishes.

The faults are the operating system's own errors, raised where it would raise them: when rows are written, when a file
is made durable, when a record gets its name, when the input is read.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.core.settings import StepSettings
from cluster.runtime.run.run import score
from jobs.cli import exit_code
from jobs.commands import verify
from jobs.commands.verify import expect_holds
from lstm_core.contract.model_contract import read_contract
from lstm_core.exit_codes import EXIT_DONE, EXIT_FAILED
from tests.harness.inprocess import Job, in_process, run, tidy
from tests.harness.truth import columns_for
from tests.inputs.series import make_series, write_cut
from tests.models.keras_models import FIT, save

LENGTHS = [400, 30, 250, 7, 1900, 64, 90]
DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FORBIDDEN = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
UNREADABLE = OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("faults")
    blob = save(FIT["lstm"]())
    table = make_series(LENGTHS)
    write_cut(folder / "in", table, [800, table.num_rows - 800], [300])
    features = columns_for(read_contract(blob, name="lstm"))
    step = StepSettings(slots=4, chunk=8)
    often = {"checkpoint_s": 0.0}  # after every call of the model, whatever the clock says
    return Job(blob, folder / "in", folder / "alone", features, step=step, write={"rows_per_file": 500}, cluster=often)


@pytest.fixture(scope="module")
def undisturbed(job: Job) -> Any:
    run(job)
    return tidy(job.output)


@contextmanager
def failing(owner: Any, name: str, error: OSError, at_call: int) -> Iterator[list[int]]:
    """From the `at_call`-th call on, `owner.name` raises `error`; yields a list that grows with the calls."""
    calls: list[int] = []
    original: Callable[..., Any] = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if len(calls) >= at_call:
            raise error
        return original(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, wrapped)
        yield calls


FAULTS = {
    "the disk is full when rows are written": (pq.ParquetWriter, "write_table", DISK_FULL, 4),
    "the disk is full when a file is made durable": (os, "fsync", DISK_FULL, 30),
    "permission is lost when a record gets its name": (os, "link", FORBIDDEN, 5),
    "permission is lost when a fragment gets its name": (os, "replace", FORBIDDEN, 4),
    "the input cannot be read": (pq.ParquetFile, "read_row_group", UNREADABLE, 12),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_run_that_storage_stops_can_be_resumed(
    fault: str, job: Job, undisturbed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = replace(job, output=tmp_path / "out").request()

    def command() -> int:
        score(request, open_cluster=in_process)
        return EXIT_DONE

    owner, name, error, at_call = FAULTS[fault]
    with failing(owner, name, error, at_call) as calls:
        assert exit_code(command) == EXIT_FAILED
    assert len(calls) >= at_call
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("slotcar: ")]
    assert len(said) == 1
    assert error.strerror in said[0]
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert exit_code(command) == EXIT_DONE
    assert tidy(tmp_path / "out").equals(undisturbed)
    expect_holds(verify.run(tmp_path / "out"))


def test_every_file_of_the_output_is_whole_at_every_moment(job: Job, undisturbed: Any, tmp_path: Path) -> None:
    output, finished, read = tmp_path / "out", threading.Event(), []
    faults: list[BaseException] = []

    def watch() -> None:
        try:
            while not finished.is_set():
                read.append(sum(pq.read_table(path).num_rows for path in output.glob("*.parquet")))
        except BaseException as error:
            faults.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run(replace(job, output=output))
    finished.set()
    watcher.join()
    assert not faults
    assert read == sorted(read)
    assert len(set(read)) > 2, "the watcher saw the output grow"
    assert tidy(output).equals(undisturbed)

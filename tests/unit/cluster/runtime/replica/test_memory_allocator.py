"""What the environment of a replica says of memory."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cluster.runtime.replica.memory_allocator import ALLOCATOR, HUGE_PAGES, allocator_environment


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ALLOCATOR, HUGE_PAGES):
        monkeypatch.delenv(name, raising=False)


def test_arrow_keeps_pages_where_it_can_and_numpy_asks_for_no_huge_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pa, "supported_memory_backends", lambda: ["jemalloc", "system"])
    assert allocator_environment() == {ALLOCATOR: "jemalloc", HUGE_PAGES: "0"}
    monkeypatch.setattr(pa, "supported_memory_backends", lambda: ["system"])
    assert allocator_environment() == {HUGE_PAGES: "0"}


def test_what_the_user_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pa, "supported_memory_backends", lambda: ["jemalloc", "system"])
    monkeypatch.setenv(ALLOCATOR, "system")
    monkeypatch.setenv(HUGE_PAGES, "1")
    assert allocator_environment() == {ALLOCATOR: "system", HUGE_PAGES: "1"}

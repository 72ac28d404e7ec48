"""What a process is told before TensorFlow's first operation: the user's own word counts."""

from __future__ import annotations

import os

import pytest

from lstm_core.step.tensorflow_setup import XLA_FLAGS, configure_compiler


@pytest.mark.parametrize("own", ["", "--xla_cpu_prefer_vector_width=128", "  --xla_dump_to=there "])
def test_what_the_user_tells_xla_counts(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    monkeypatch.setenv("XLA_FLAGS", own)
    configure_compiler()
    assert os.environ["XLA_FLAGS"].split() == [*XLA_FLAGS.split(), *own.split()]  # of two that differ the last one does


def test_a_file_of_flags_is_left_to_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "/etc/xla.flags")
    configure_compiler()
    assert os.environ["XLA_FLAGS"] == "/etc/xla.flags"

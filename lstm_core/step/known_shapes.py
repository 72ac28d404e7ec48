"""Shapes of which every axis is known, as plain numbers: those of all that a step is compiled for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast


class Shaped(Protocol):
    """What has TensorFlow's kind of shape, in which an axis may be open: a tensor, or the spec of one."""

    @property
    def shape(self) -> Iterable[int | None]:
        """One number per axis, None where it is open."""


def known_shape(shaped: Shaped) -> tuple[int, ...]:
    """Its shape; no axis may be open."""
    return cast("tuple[int, ...]", tuple(shaped.shape))

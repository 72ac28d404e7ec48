"""Tests: `unit` and `property` are pure, `contract` and `sim` fake the world, `integration` starts it."""

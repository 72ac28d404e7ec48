"""What every test runs under: quiet engines, no GPU, no time limit of Hypothesis's own."""

from __future__ import annotations

import os

from hypothesis import settings

# Before anything imports TensorFlow or Ray, here and in the processes that tests start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns of a coming change without it

# A slow machine is no failure; pytest-timeout ends what hangs.
settings.register_profile("slotcar", deadline=None, print_blob=True)
settings.load_profile("slotcar")

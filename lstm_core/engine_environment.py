"""What the environment must say before Keras and TensorFlow are imported in a process of ours.

What it decides: the backend is TensorFlow, whatever the user works with himself. KERAS_BACKEND and his keras.json are
for his own scripts; a model's scores must not depend on them. What keras.json says beside that is set right where a
process is configured, see `step.tensorflow_setup`.
"""

from __future__ import annotations

import os

BACKEND = {"KERAS_BACKEND": "tensorflow"}


def prepare_environment(*, log_level: int = 2) -> None:
    """Call before the first import of Keras. TensorFlow's log level is only set where the user has set none."""
    os.environ.update(BACKEND)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", str(log_level))

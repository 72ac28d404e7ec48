"""What is set for a whole process before TensorFlow's first operation in it: devices, threads, Keras, and XLA.

What it decides: how XLA makes vectors. It takes those of 256 bits also where a core has 512, for the sake of cores
that slow down for the wide ones; but the products of a step, which are most of it, use these anyway. And it unrolls the
short loops over a slot's numbers before it would make vectors of them, so that rows and states are copied number by
number.
"""

from __future__ import annotations

import os

import tensorflow as tf

XLA_FLAGS = "--xla_cpu_prefer_vector_width=512 --xla_backend_extra_options=xla_cpu_disable_loop_unrolling=true"


def configure_devices(*, threads: int, gpu: bool) -> None:
    """Sets thread counts, of GPUs memory growth and full float32 products, and what `configure_keras` does.

    Call once, before the first TensorFlow operation of the process.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if not gpu:
        tf.config.set_visible_devices([], "GPU")
    devices = tf.config.get_visible_devices("GPU")
    for device in devices:
        tf.config.experimental.set_memory_growth(device, True)
    if devices:  # products of ten bits of mantissa, as newer GPUs make them unless told, are no scores within 1e-5
        tf.config.experimental.enable_tensor_float_32_execution(False)
    configure_keras()


def configure_keras() -> None:
    """Sets what Keras reads from the user's keras.json to what it is without one: it would change a model's layers."""
    import keras  # here, since Keras reads the file and the environment when it is imported

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


def configure_compiler() -> None:
    """Sets how XLA makes vectors. Where the user has set XLA_FLAGS, what these say counts, and a file is left alone."""
    given = os.environ.get("XLA_FLAGS", "").strip()
    if not given or given.startswith("-"):  # else it names a file, which XLA reads in place of flags
        os.environ["XLA_FLAGS"] = f"{XLA_FLAGS} {given}".strip()  # of two that differ the last one counts

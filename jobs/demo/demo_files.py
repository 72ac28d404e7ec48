"""The files that the demo writes for a newcomer to read, change and run again: a model and three configurations.

They are what a user would write; nothing in them is special to the demo. Sizes, rate and epochs were chosen on
July to October, with the months before for training. That a month is a series when training was decided later, when
November showed what whole years teach: the start of every series in January made "fresh" mean "winter", and the model
with its state reset looked better than it is. Several designs were compared with November and December in sight, so
the demo's figures show how the road works and which way the state pulls; they are no clean measurement of its worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SPLIT = "2013-11-01T00:00:00-04:00"  # midnight in New York
EPOCHS = 6

_MODEL = '''\
"""A small stateful model: numbers and the carrier in, the arrival delay in minutes out, one score per flight."""

import keras
from keras import layers

# What the columns of [input.features] look like, roughly: a model wants numbers near 1.
MEANS = [0.0, 1000.0, 0.0, 0.0, 60.0, 0.0]  # dep_delay, distance, day_sin, day_cos, gap_hours, last_arr_delay
SCALES = [30.0, 700.0, 1.0, 1.0, 60.0, 30.0]
CARRIERS = 16


def build():
    numeric = keras.Input((None, 6), name="numeric")
    carrier = keras.Input((None,), dtype="int32", name="carrier")
    scaled = layers.Normalization(mean=MEANS, variance=[scale**2 for scale in SCALES], name="scaled")(numeric)
    embedded = layers.Embedding(CARRIERS + 1, 4, name="embedded")(carrier)  # code 0: a carrier that is not in the list
    flight = layers.Dense(32, activation="tanh", name="flight")(layers.Concatenate()([scaled, embedded]))
    memory = layers.LSTM(32, return_sequences=True, name="memory")(flight)
    both = layers.Dense(32, activation="relu", name="both")(layers.Concatenate()([memory, flight]))
    on_the_way = layers.Rescaling(15.0, name="on_the_way")(layers.Dense(1, name="head")(both))
    # It arrives as late as it left, and what is lost or made up on the way: that is what there is to learn.
    arr_delay = layers.Add(name="arr_delay")([numeric[..., :1], on_the_way])
    return keras.Model([numeric, carrier], arr_delay)
'''

_INPUT = """\
[input]
path = "flights"
entity = {entity}
time = ["time_hour", "flight"]                # flights of an aircraft in the same hour: by flight number
{window}
[input.features]
numeric = ["dep_delay", "distance", "day_sin", "day_cos", "gap_hours", "last_arr_delay"]
carrier = ["carrier"]

[input.fill]
dep_delay = 0.0                               # a cancelled flight never left
last_arr_delay = 0.0                          # the first flight of an aircraft, or the last one was cancelled

[input.vocabulary]
carrier = "carriers.txt"
"""

_BY_MONTH = """\
["tailnum", "month"]                 # every aircraft begins in January: trained on whole years, a model would learn
                                              # that a fresh state means January, and to count the months from there"""

_TRAIN = """\
# slotcar train {folder}/train.toml
[model]
path = "delays.keras"
slots = 128
chunk = 32

{input}
[train]
model = "flights_model:build"
target = ["arr_delay"]                        # null where a flight was cancelled or diverted: no loss
loss = "mae"
learning_rate = 1e-3
epochs = {epochs}
validate_since = "{split}"   # never trained on
seed = 0
"""

_SCORE = """\
# slotcar score {folder}/{name}.toml
[model]
path = "delays.keras"
slots = {slots}
chunk = {chunk}

{input}
[output]
path = "{name}s"
keep = {keep}
names = ["predicted_delay"]
overwrite = true

[cluster]
replicas = {replicas}
"""


def write_files(folder: Path, *, carriers: Sequence[str], replicas: int, epochs: int) -> None:
    """Writes the model, the carriers and the configurations into `folder`."""
    by_month = _INPUT.format(entity=_BY_MONTH, window="")
    by_aircraft = _INPUT.format(entity='["tailnum"]', window="")
    by_flight = _INPUT.format(
        entity='["row"]    # every flight alone: no state is carried', window=f'since = "{SPLIT}"\n'
    )
    wanted = {"folder": folder.as_posix(), "replicas": replicas}
    _write(folder / "flights_model.py", _MODEL)
    _write(folder / "carriers.txt", "".join(f"{carrier}\n" for carrier in carriers))
    _write(folder / "train.toml", _TRAIN.format(input=by_month, epochs=epochs, split=SPLIT, **wanted))
    stateful = {"name": "score", "slots": 256, "chunk": 32, "keep": '["row"]'}
    _write(folder / "score.toml", _SCORE.format(input=by_aircraft, **stateful, **wanted))
    reset = {"name": "reset_score", "slots": 2048, "chunk": 1, "keep": "[]"}
    _write(folder / "reset_score.toml", _SCORE.format(input=by_flight, **reset, **wanted))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

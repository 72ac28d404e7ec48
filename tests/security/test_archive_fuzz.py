"""Archives with damaged bytes, by seed: each is read or refused in one sentence. `make soak` reads many more."""

from __future__ import annotations

import io
import json
import random
import zipfile
from functools import cache
from typing import Any

import pytest

from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import ModelRefused
from tests.models.keras_models import CODE, FIT, save

MODELS = ("lstm", "sequential", "nested_twice", "rnn_of_stacked_cells", "normalised_and_dropped")
ODD: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1.5, "", "x", [], [None], {}, {"class_name": "LSTM"}, float("nan"))
SEEDS_OF_A_TEST = 40


@cache
def archive(model: str) -> bytes:
    return save(FIT[model]())


@cache
def parts(model: str) -> tuple[tuple[str, bytes], ...]:
    with zipfile.ZipFile(io.BytesIO(archive(model))) as opened:
        return tuple((name, opened.read(name)) for name in opened.namelist())


def packed(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as into:
        for name, data in members.items():
            into.writestr(name, data)
    return made.getvalue()


def damaged(data: bytes, drawn: random.Random) -> bytes:
    """Some bytes changed, left out, said twice or cut off."""
    spoilt = bytearray(data)
    for _ in range(drawn.choice((1, 1, 2, 8, 64))):
        at, length = drawn.randrange(len(spoilt)), drawn.randrange(1, 64)
        kind = drawn.randrange(6)
        if kind < 3:
            spoilt[at] = drawn.choice((0, 1, 0x7F, 0xFF, drawn.randrange(256)))
        elif kind == 3:
            spoilt[at : at + length] = bytes(drawn.choice((0, 0xFF)) for _ in range(length))
        elif kind == 4:
            spoilt[at:at] = spoilt[at : at + length]
        else:
            del spoilt[at : at + length]
        if not spoilt:
            return b""
    return bytes(spoilt[: drawn.randrange(len(spoilt))] if drawn.random() < 0.1 else spoilt)


def rewritten(value: Any, drawn: random.Random, share: float) -> Any:
    """The configuration with some values in the place of others."""
    if drawn.random() < share:
        return drawn.choice(ODD)
    if isinstance(value, dict):
        kept = {key: rewritten(item, drawn, share) for key, item in value.items()}
        if kept and drawn.random() < share:
            kept.pop(drawn.choice(list(kept)))
        return kept
    return [rewritten(item, drawn, share) for item in value] if isinstance(value, list) else value


def of_seed(seed: int) -> bytes:
    drawn = random.Random(seed)
    model = drawn.choice(MODELS)
    kind, members = drawn.randrange(4), dict(parts(model))
    if kind == 0:
        return damaged(archive(model), drawn)
    if kind == 3:
        config = rewritten(json.loads(members["config.json"]), drawn, drawn.choice((0.002, 0.01, 0.1)))
        return packed({**members, "config.json": json.dumps(config).encode()})
    name = "model.weights.h5" if kind == 1 else drawn.choice(("config.json", "metadata.json"))
    return packed({**members, name: damaged(members[name], drawn)})


def read_or_refused(seed: int) -> bool:
    """Whether it was read; anything but a refusal in one sentence is a fault of this seed."""
    try:
        read_contract(of_seed(seed), name="m.keras", code=CODE)
    except ModelRefused as refusal:
        said = str(refusal)
    except BaseException as fault:
        raise AssertionError(f"seed {seed}: {fault!r}") from fault
    else:
        return True
    assert said.startswith("Model 'm.keras' "), seed
    assert "\n" not in said, seed
    return False


@pytest.mark.parametrize("first", range(0, 20 * SEEDS_OF_A_TEST, SEEDS_OF_A_TEST))
def test_a_damaged_archive_is_read_or_refused_in_one_sentence(first: int) -> None:
    read = [read_or_refused(seed) for seed in range(first, first + SEEDS_OF_A_TEST)]
    assert len(set(read)) == 2, "a fuzz that only damages, or that damages nothing, finds nothing"


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(50))
def test_many_damaged_archives_are_read_or_refused_in_one_sentence(part: int) -> None:
    for seed in range(1_000_000 + part * 4_000, 1_000_000 + (part + 1) * 4_000):
        read_or_refused(seed)

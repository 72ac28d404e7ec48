"""Which values of a configuration go together, and what is not built yet.

Every rule is one function that returns the sentence of its refusal, or None. Nothing here looks into a Parquet file or
a model: those rules need more than the configuration and live with what they look at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from typing import Literal

from cluster.core.locations import OPTIONS, SECRETS, is_inside, is_url
from cluster.core.settings import CONTEXT
from jobs.config.config_keys import Document
from jobs.config.toml_text import in_words
from lstm_core.errors import UsageError
from lstm_core.nearest_name import nearest_hint
from lstm_core.shown_text import utf8

Command = Literal["score", "plan", "train", "export", "inspect"]
Rule = Callable[[Document], str | None]
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number of seconds"}


def check_rules(document: Document, *, source: str, command: Command) -> None:
    """Raises UsageError with the first rule that `document` breaks."""
    rules = [*_ALWAYS, *_RULES[command]]
    for rule in rules:
        refusal = rule(document)
        if refusal:
            raise UsageError(f"{source}: {refusal}.")


def features_of(document: Document) -> tuple[str, ...]:
    """Every feature column once."""
    return tuple(dict.fromkeys(name for names in document.input.features.values() for name in names))


def _is_utf8(document: Document) -> str | None:
    """A TOML file is UTF-8, but what `--set` is given or its folder is called need not be."""
    for name, text in _texts(document.model_dump()):
        if utf8(text) != text:
            return (
                f"{name} is {text}, which is not UTF-8, as a configuration must be: rename what it means, or name a "
                "link to it"
            )
    return None


def _texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)


def _storage_is_known(document: Document) -> str | None:
    known = {name: kind for options in OPTIONS.values() for name, kind in options.items()}
    for name, value in document.storage.items():
        if name.lower() in SECRETS:
            return (
                f"storage.{name} holds a secret, which a configuration must not: set it in the environment "
                f"{SECRETS[name.lower()]}, and leave it out here"
            )
        if name not in known:
            return (
                f"the key storage.{name} is unknown{nearest_hint(name, known, 'storage.{}'.format)}; [storage] has"
                f" {in_words(list(known))}"
            )
        if not _fits(value, known[name]):
            return f"storage.{name} must be {_KINDS[known[name]]}, not {value!r}"
    return None


def _fits(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _entity_apart_from_time(document: Document) -> str | None:
    for name in document.input.entity:
        if name in document.input.time:
            return f"column {name!r} is in input.entity and in input.time: it can name the series or order it, not both"
    return None


def _features_exist(document: Document) -> str | None:
    features = features_of(document)
    for key in ("fill", "vocabulary"):
        for name in getattr(document.input, key):
            if name not in features:
                return (
                    f"input.{key} names {name!r}, which is no feature column{nearest_hint(name, features)}; the"
                    f" feature columns are {in_words(features)}"
                )
    return None


def _context_is_never_null(document: Document) -> str | None:
    for key in ("fill", "vocabulary"):
        for name in getattr(document.input, key):
            if name in CONTEXT:
                return f"input.{key} names {name!r}, a number that is known of every row: leave it out of input.{key}"
    return None


def _context_apart(document: Document) -> str | None:
    columns = {"input.entity": document.input.entity, "input.time": document.input.time}
    for key, names in (columns | {"output.keep": document.output.keep}).items():
        for name in names:
            if name in CONTEXT and name in features_of(document):
                return (
                    f"{key} names the column {name!r}, and input.features has {name!r}, which the run counts itself: "
                    "give the input's column another name"
                )
    return None


def _context_within_a_run(document: Document) -> str | None:
    """Every night would begin to count anew, and two nights would not give the scores of one run."""
    asked = [name for name in features_of(document) if name in CONTEXT]
    for key in ("read", "write"):
        if asked and getattr(document.state, key) is not None:
            return (
                f"input.features has {asked[0]!r}, which counts within one run, and state.{key} is set, by which scores"
                " go on from run to run: leave one of them out, or give the model a column of the input that counts on"
            )
    return None


def _window_is_open(document: Document) -> str | None:
    since, until = document.input.since, document.input.until
    if since is not None and until is not None and not _before(since, until):
        return f"input.since ({since}) is not before input.until ({until}): no row lies between them"
    return None


def _columns_of_output(document: Document) -> str | None:
    keys = dict.fromkeys(document.input.entity, "input.entity") | dict.fromkeys(document.input.time, "input.time")
    for name in document.output.keep:
        if name in keys:
            return f"output.keep names {name!r}, which {keys[name]} writes already: leave it out of output.keep"
    written = keys | dict.fromkeys(document.output.keep, "output.keep")
    for name in document.output.names or ():
        if name in written:
            return (
                f"output.names has {name!r}, but a column of this name is written already, as {written[name]} asks: "
                "give the score another name"
            )
    return None


def _output_is_named(document: Document) -> str | None:
    return None if document.output.path else 'lacks output.path: the folder for the scores, as in path = "scores"'


def _output_apart_from_input(document: Document) -> str | None:
    output = document.output.path
    for path in document.input.path:
        beside = os.path.dirname(path) == output and (
            path.endswith(".parquet") if is_url(path) else os.path.isfile(path)
        )
        around = is_inside(output, path) and (is_url(path) or os.path.isdir(path))
        if beside or around:
            return f"output.path {output} lies where input.path {path} is read from: choose a folder apart from it"
        if path != output and is_inside(path, output):
            return f"input.path {path} lies within output.path {output}: choose a folder for the scores alone"
    return None


def _state_apart(document: Document) -> str | None:
    state = document.state
    if state.read is not None and state.read == state.write:
        return (
            f"state.write {state.write} is also state.read: a run that fails half-way would have lost the state that "
            "it began with, so give each night a folder of its own"
        )
    places = [("output.path", document.output.path), *(("input.path", path) for path in document.input.path)]
    places += [("state.read", state.read)] if state.read else []
    for name, place in places:
        if state.write is not None and (is_inside(state.write, place) or is_inside(place, state.write)):
            return f"state.write {state.write} lies within {name} {place}, or that within it: choose a folder apart"
    return None


def _model_exists(document: Document) -> str | None:
    path = document.model.path
    return None if os.path.isfile(path) else f"model.path {path} is no file: train or copy the model there first"


def _training_is_set(document: Document) -> str | None:
    return None if document.train else "lacks the section [train] with its keys model and target"


def _target_apart(document: Document) -> str | None:
    assert document.train, "checked before"
    target, weight = document.train.target, document.train.weight
    keys = [("input.features", features_of(document)), ("input.entity", document.input.entity)]
    for place, names in keys:
        for name in target:
            if name in names:
                return (
                    f"train.target {name!r} is also in {place}: a model that sees its target learns to copy it,"
                    " so leave it out of one of them"
                )
    for place, names in [*keys, ("train.target", target)]:
        if weight in names:
            return (
                f"train.weight {weight!r} is also in {place}: weights are read from a column of their own, so write "
                "them under another name, or leave train.weight out"
            )
    return None


def _something_to_train_on(document: Document) -> str | None:
    assert document.train, "checked before"
    since, split = document.input.since, document.train.validate_since
    if since is not None and split is not None and not _before(since, split):
        return f"train.validate_since ({split}) is not after input.since ({since}): nothing is left to train on"
    return None


def _before(first: str, second: str) -> bool:
    """Compares moments as times or whole numbers; what is neither is judged later, against the column's type."""
    try:
        return int(first) < int(second)
    except ValueError:
        pass
    from cluster.core.spelt_times import read_time  # it imports Arrow, for which most commands would wait for nothing

    moments = [read_time(text) for text in (first, second)]
    if moments[0] is None or moments[1] is None:
        return True
    return moments[0].within(UTC) < moments[1].within(UTC)


_ALWAYS: tuple[Rule, ...] = (
    _is_utf8,
    _storage_is_known,
    _entity_apart_from_time,
    _features_exist,
    _context_is_never_null,
    _context_apart,
    _window_is_open,
    _columns_of_output,
)
_SCORING: tuple[Rule, ...] = (
    _output_is_named,
    _output_apart_from_input,
    _state_apart,
    _context_within_a_run,
    _model_exists,
)
_TRAINING: tuple[Rule, ...] = (_training_is_set, _target_apart, _something_to_train_on)
_OF_MODEL: tuple[Rule, ...] = (_model_exists,)  # of those who write no scores
_RULES: dict[Command, tuple[Rule, ...]] = {
    "score": _SCORING,
    "plan": _SCORING,
    "train": _TRAINING,
    "export": _OF_MODEL,
    "inspect": _OF_MODEL,
}

"""What an audit may import and ask, beside the output itself: only what its caller names, never what the output names.

An output may be somebody else's. What its request.json says of modules is shown to the caller and imported by nobody.
A server is asked where the caller has named its bucket, container or host: by the output's own URL, by `--input`, or in
a configuration. How it is reached is said there too: an endpoint that the output names is given nobody's credentials.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cluster.core.locations import NotALocation, Options, is_url, parse_location
from cluster.core.plan.shard_plan import PlanHead
from cluster.run_errors import OutputRefused
from cluster.runtime.commit.run_request import RequestFile
from cluster.runtime.storage.open_store import StoreSpec
from lstm_core.contract.custom_code import NO_CODE, CustomCode
from lstm_core.contract.model_contract import ModelContract, read_contract
from lstm_core.errors import ModelRefused


@dataclass(frozen=True)
class Trust:
    """What the caller of an audit names."""

    code: CustomCode = NO_CODE  # modules with the model's custom layers
    places: frozenset[str] = frozenset()  # what may be asked, as scheme://bucket
    storage: Options = field(default_factory=dict)  # how it is reached

    def naming(self, specs: Iterable[StoreSpec]) -> Trust:
        """The same with more places, and the options that were named with them. Raises OutputRefused."""
        named, storage = set(self.places), dict(self.storage)
        for spec in specs:
            storage |= spec.options
            if is_url(spec.url):
                named.add(_place(spec.url))
        return replace(self, places=frozenset(named), storage=storage)

    def contract(self, model: bytes, request: RequestFile) -> ModelContract:
        """The contract of a run's model. Raises ModelRefused where it wants modules and none are named."""
        try:
            return read_contract(model, name=request.model_path, code=self.code)
        except ModelRefused:
            asked = request.code.modules
            if self.code.modules or not asked:
                raise
            options = " ".join(f"--module {name}" for name in asked)
            raise ModelRefused(
                f"The run's model wants modules of its own, and the output names {', '.join(asked)}: verify imports "
                f"none because an output names it; if you trust them, give {options}, or --config with the run's "
                "configuration."
            ) from None

    def believed(self, request: RequestFile) -> RequestFile:
        """A run's request, with servers reached as the caller says. Raises OutputRefused where one is not to be."""
        for key in ("read", "write"):
            self._expect_named(f"state.{key}", getattr(request.state, key) or "")
        storage = dict(self.storage)
        return replace(
            request, input=replace(request.input, storage=storage), output=replace(request.output, storage=storage)
        )

    def check(self, head: PlanHead) -> None:
        """Raises OutputRefused where a plan's files lie on a server that the caller has not named."""
        for file in head.input_files:
            self._expect_named("an input file", file.path)

    def _expect_named(self, what: str, path: str) -> None:
        if is_url(path) and _place(path) not in self.places:
            raise OutputRefused(
                f"The output names {path} as {what}, which is elsewhere than the output itself: verify asks no server "
                f"because an output names it; if you trust it, give --input '{_place(path)}', with the options to "
                "reach it behind a question mark, or --config with the run's configuration."
            )


NOTHING_NAMED = Trust()


def _place(url: str) -> str:
    try:
        place = parse_location(url)
    except NotALocation as refusal:
        raise OutputRefused(f"The output names a file whose place {refusal}.") from None
    return f"{place.scheme}://{place.authority}"

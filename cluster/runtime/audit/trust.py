"""What an audit may import and ask, beside the output itself: only what its caller names, never what the output names.

An output may be somebody else's. What its request.json says of modules is shown to the caller and imported by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.runtime.commit.run_request import RequestFile
from lstm_core.contract.custom_code import NO_CODE, CustomCode
from lstm_core.contract.model_contract import ModelContract, read_contract
from lstm_core.errors import ModelRefused


@dataclass(frozen=True)
class Trust:
    """What the caller of an audit names."""

    code: CustomCode = NO_CODE  # modules with the model's custom layers

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


NOTHING_NAMED = Trust()

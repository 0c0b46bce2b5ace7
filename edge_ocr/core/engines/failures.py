"""Turns failures of engines into errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def get_reason(error: Exception) -> str:
    """Return the line of an engine's message that states the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Paddle's messages are stack traces with the reason in the middle, OpenVINO's end with it.
    return next((line for line in lines if "Error:" in line), lines[-1] if lines else type(error).__name__)


def refuse_input(model: str, array: NDArray[Any], error: Exception) -> ModelError:
    """Return the error for a model that does not run on an array."""
    shape = "×".join(map(str, array.shape))
    return ModelError(
        f"{model} does not run on an input of {shape}: {get_reason(error)}",
        "check the kind of the model, or set Pipeline.text_rec_batch_size: 1 if its batch size is fixed",
    )

"""The errors that edge_ocr raises on purpose; each has an exit code, an HTTP status and an optional hint."""

from edge_ocr.core.errors import (
    ConfigError,
    ConversionError,
    EdgeOcrError,
    InputError,
    ModelError,
    NotVerifiedError,
    ParityError,
    ToolchainError,
    UsageError,
)

__all__ = [
    "ConfigError",
    "ConversionError",
    "EdgeOcrError",
    "InputError",
    "ModelError",
    "NotVerifiedError",
    "ParityError",
    "ToolchainError",
    "UsageError",
]

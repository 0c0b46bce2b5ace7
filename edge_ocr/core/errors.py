"""The errors of host and boards, with their exit codes and HTTP statuses."""

from __future__ import annotations


def escape_text(text: str, keep: str = "") -> str:
    """Escape the characters that a terminal or a line-based reader would act on, except those in `keep`."""
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )


class EdgeOcrError(Exception):
    """Base of every error that is not a bug.

    `message`: what failed, where, expected and actual, in one line; `hint`: the next step.
    """

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EdgeOcrError):
    """An invalid option or argument."""

    exit_code = 2
    http_status = 400


class ConfigError(EdgeOcrError):
    """A pipeline file with an unknown key, a wrong type or a value out of range."""

    exit_code = 3
    http_status = 400


class InputError(EdgeOcrError):
    """A picture that is missing or cannot be read."""

    exit_code = 4
    http_status = 422


class ModelError(EdgeOcrError):
    """A model, dictionary or bundle that is missing, damaged or does not fit."""

    exit_code = 5


class ToolchainError(EdgeOcrError):
    """A missing engine, interpreter, compiler or other tool."""

    exit_code = 6


class ConversionError(EdgeOcrError):
    """A failed conversion."""

    exit_code = 7


class ParityError(EdgeOcrError):
    """A difference between exported and reference results."""

    exit_code = 8


class NotVerifiedError(EdgeOcrError):
    """A verification that could not run; never the same as passed."""

    exit_code = 9

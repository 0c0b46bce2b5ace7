"""The exception tree, shared by the host and the boards, with its exit codes and HTTP statuses."""

from __future__ import annotations


def escape_text(text: str, keep: str = "") -> str:
    """Return text with what a terminal or a reader of lines would act on spelt out, except the characters in `keep`."""
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )


class EdgeOcrError(Exception):
    """Base of every error that is not a bug.

    `message` says what, where, expected against actual, in one line; `hint` names the next step.
    """

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EdgeOcrError):
    """An option or argument that makes no sense."""

    exit_code = 2
    http_status = 400


class ConfigError(EdgeOcrError):
    """A pipeline file with an unknown key, a wrong type or a value out of range."""

    exit_code = 3
    http_status = 400


class InputError(EdgeOcrError):
    """A picture that cannot be had or read."""

    exit_code = 4
    http_status = 422


class ModelError(EdgeOcrError):
    """A model, dictionary or bundle that is missing, damaged or does not fit."""

    exit_code = 5


class ToolchainError(EdgeOcrError):
    """An engine, interpreter, compiler or other tool that is not there."""

    exit_code = 6


class ConversionError(EdgeOcrError):
    """The conversion itself failed."""

    exit_code = 7


class ParityError(EdgeOcrError):
    """Exported and reference results differ."""

    exit_code = 8


class NotVerifiedError(EdgeOcrError):
    """The comparison could not be run; never the same as passed."""

    exit_code = 9

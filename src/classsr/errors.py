"""Every error that this package raises on purpose, and the exit code each one ends the command with.

    ClassSRError
    ├── UsageError      2  an argument, option or setting that cannot be meant
    ├── InputError      3  a picture that is missing, unreadable, truncated or of an unsupported kind
    ├── OutputError     4  a result that cannot be written where and how it was asked for
    ├── ModelError      5  a released model or checkpoint that is unknown, incomplete or damaged
    ├── BackendError    6  a runtime that is not installed or that failed
    │   └── OutOfMemoryError   it could not allocate memory for a batch
    └── TrainingError   7  a training run that cannot start or go on

A message is one sentence for the person at the terminal: what was expected, what was found, what to do.
"""


class ClassSRError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class UsageError(ClassSRError):
    """An argument, option or setting cannot be meant."""

    exit_code = 2


class InputError(ClassSRError):
    """A picture is missing, unreadable, truncated or of an unsupported kind."""

    exit_code = 3


class OutputError(ClassSRError):
    """A result cannot be written where and how it was asked for."""

    exit_code = 4


class ModelError(ClassSRError):
    """A released model or a checkpoint is unknown, incomplete or damaged."""

    exit_code = 5


class BackendError(ClassSRError):
    """A runtime is not installed, or it failed."""

    exit_code = 6


class OutOfMemoryError(BackendError):
    """A runtime could not allocate memory for a batch; a smaller one may fit."""


class TrainingError(ClassSRError):
    """A training run cannot start or go on."""

    exit_code = 7

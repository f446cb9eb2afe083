"""All exceptions of the package. A message is one line: what, where, what to do."""

from __future__ import annotations


class NumaBenchError(Exception):
    """Base of all errors that are shown to the user without a traceback.

    `exit_code` is the exit code of the process when the error reaches the entry point.
    """

    exit_code = 2


class ConfigError(NumaBenchError):
    """An invalid setting, as one line that names the key, the value and the fix.

    All three are kept in `args`, so that the error survives pickling by a job launcher.
    """

    def __init__(self, key: str, value: object, fix: str) -> None:
        super().__init__(key, value, fix)
        self.key = key
        self.value = value
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.key}={_shown(self.value)}: {self.fix}"


class UnknownKeyError(NumaBenchError):
    """A key that is in no schema; the message is the key."""


class MachineError(NumaBenchError):
    """The machine cannot do what was asked for: no numactl, no permission, no such device."""


class ModelError(NumaBenchError):
    """A model of the user's that cannot be imported, built or run."""


class StoreError(NumaBenchError):
    """A study directory that cannot be read, written or resumed."""


class ReportError(NumaBenchError):
    """A profiler's report that cannot be read: missing, damaged, or not a report."""


class StudyFailed(NumaBenchError):  # noqa: N818 - an outcome, not a mistake
    """A run of a finished study failed. The study is complete on disk."""

    exit_code = 1


def _shown(value: object) -> str:
    """A value as the user would type it on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_shown(item) for item in value) + "]"
    return str(value)


def describe_exception(error: BaseException) -> str:
    """The type of an exception and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])

"""Errors that a user can cause. Each message says what is wrong, where, and what to do."""

from __future__ import annotations


class VesaliusError(Exception):
    """Something the user can put right: bad input, a missing file, a setting that cannot work.

    The command line prints the message as one line and exits with code 2; any other exception is a defect.

    Args:
        what: what is wrong, with the offending value.
        where: the file, line or setting it was found at.
        remedy: what the user can do about it.

    Attributes:
        is_told: whether another process of the same run prints it.
    """

    is_told = False

    def __init__(self, what: str, *, where: object | None = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        parts = [f"{where}: {what}" if where is not None else what]
        if remedy:
            parts.append(remedy)
        super().__init__(" – ".join(parts))


class InputError(VesaliusError):
    """A file or folder that was given is missing, unreadable or does not hold what it should."""


class SettingError(VesaliusError):
    """A setting has a value that cannot work, or would have no effect."""


class FolderError(VesaliusError):
    """A Vesalius folder (graph, case store, run) is missing, incomplete, or of another schema."""


class StoppedError(VesaliusError):
    """A cluster asked a command to stop: what it did is saved, and the same command goes on. It has an exit code of its own."""

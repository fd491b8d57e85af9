"""Errors that end a command with one clear block and an exit code instead of a traceback."""

from __future__ import annotations


class OstinatoError(Exception):
    """The base of all errors whose message is for the user. `exit_code` 1: the run failed."""

    exit_code = 1


class UserError(OstinatoError):
    """A mistake in the request; nothing was written. Names the place and the remedy."""

    exit_code = 2


class RefusedError(OstinatoError):
    """Refused to protect truth: damaged or missing files, other data, a newer format, taken over."""

    exit_code = 3


class Stopped(OstinatoError):
    """Stopped on request, saved; `--resume` goes on."""

    exit_code = 75

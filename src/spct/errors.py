"""Errors that stop a stage on purpose; the command line prints one line, no traceback."""


class StageStopped(RuntimeError):
    """A stage cannot go on with what it was given; the message names the counts and the way out."""

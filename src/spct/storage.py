"""What storage that fails means, told in one line: full, over quota, read-only, not ours.

Whatever was finished before stands, and nothing unfinished has its final name (``spct.artifact``);
so a stage that stops here goes on by the same command once there is room.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "the file is larger than allowed here",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no right to do that",
    errno.EPERM: "no right to do that",
}
ROOM = 64 * 1024  # bytes free; below it a write that failed is taken to have failed for that
RUST = "(os error {})"  # how safetensors tells an error number


def told(error: OSError) -> str | None:
    """One line that names file, reason and what to do; None for an error of another kind."""
    reason = REASONS.get(error.errno or 0)
    if reason is None:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{reason}; what was finished stands, so mend that and run the same command again"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, a library's own error for a full disk becomes the ``OSError`` it hides.

    PyTorch and safetensors raise errors without a number when a write to ``path`` fails.
    """
    try:
        yield
    except OSError as error:
        if error.errno in REASONS and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    except Exception as error:
        if (number := _number(error, path.parent)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def _number(error: Exception, folder: Path) -> int | None:
    """The error number behind an exception that has none; by its text, or by what room is left."""
    for number in REASONS:
        if RUST.format(number) in str(error):
            return number
    if type(error) is RuntimeError and _free(folder) < ROOM:
        return errno.ENOSPC
    return None


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize

"""SIGTERM as a request: a stage that trains keeps its state at the next step and ends.

A cluster sends it before it takes a machine back and SIGKILL some grace period later. Stages that
only sample need nothing of this: their finished parts stand.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM
"""How a process ends that was asked to: what a shell reports of one that SIGTERM killed."""


class Preempted(Exception):
    """The stage ended because it was asked to; the same command goes on from its state."""


class Notice:
    """Whether SIGTERM came; training loops look at it between steps."""

    asked = False

    def ask(self, *_: int | FrameType | None) -> None:
        """Take the signal. Launchers and schedulers repeat it, so more than one means no more."""
        self.asked = True


def heed() -> None:
    """Let SIGTERM end this process again where a launcher has left it ignored."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def notice() -> Iterator[Notice]:
    """Within, SIGTERM does not end the process but is noted; what came before applies after.

    A step that fails once it came (a server that got the signal too is gone) counts as preempted:
    its error becomes :class:`Preempted`. Outside the main thread, which alone gets signals, nothing
    is changed.
    """
    found = Notice()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = signal.signal(signal.SIGTERM, found.ask)
    try:
        yield found
    except Preempted:
        raise
    except Exception as error:
        if not found.asked:
            raise
        raise Preempted(f"ended by SIGTERM within a step ({error})") from error
    finally:
        signal.signal(signal.SIGTERM, before)

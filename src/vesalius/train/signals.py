"""A cluster's wish that a run should stop: remembered, and obeyed at the end of the step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What clusters send before they take a machine away. SIGINT is a person's, and stops at once."""


class StopSignals:
    """While entered, a stop signal does not end the process; `name` tells that one came.

    Once the run obeys, further ones are ignored for good, so that the process ends with its own exit code. Python takes signals in
    the main thread alone: elsewhere they keep what they do.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._is_obeyed = False

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in STOP_SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._is_obeyed else handler)

    def obey(self) -> str:
        """Returns what is to be said of the signal, which may have reached another process alone."""
        self._is_obeyed = True
        return self.name or "a signal to another process"

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name

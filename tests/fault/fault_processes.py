"""Children by fork: a case that kills itself costs milliseconds, not the start of an interpreter."""

import contextlib
import gc
import os
import pickle
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn


class ChildFailedError(AssertionError):
    """A child raised something, or did not end in time; the message is its traceback."""


class Child:
    """A forked process that runs one function and sends back what it returns.

    The parent's threads (DuckDB's, Arrow's) do not exist in the child, so the function has to open
    whatever it needs anew and must not touch the parent's connections.
    """

    def __init__(self, action: Callable[[], Any]) -> None:
        self._reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about exactly that, from 3.12 on
            self.pid = os.fork()
        if self.pid == 0:
            _run(action, writer)
        os.close(writer)

    def wait(self, timeout_s: float = 60) -> Any:
        """What the function returned; None if the child was killed by SIGKILL.

        Raises:
            ChildFailedError: It raised, or is still running.
        """
        sent = self._receive(time.monotonic() + timeout_s)
        _, status = os.waitpid(self.pid, 0)
        if sent is None:
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                return None
            raise ChildFailedError(f"a child ended with status {status} and said nothing")
        ok, value = pickle.loads(sent)  # noqa: S301 - from our own child
        if not ok:
            raise ChildFailedError(value)
        return value

    def kill(self) -> None:
        """End it at once, wherever it is."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _receive(self, deadline: float) -> bytes | None:
        """All that the child sends until it ends; None if that is nothing."""
        pieces = []
        try:
            while True:
                ready, _, _ = select.select([self._reader], [], [], max(deadline - time.monotonic(), 0))
                if not ready:
                    self.kill()
                    os.waitpid(self.pid, 0)
                    raise ChildFailedError("a child did not end in time: is it waiting for a lock?")
                piece = os.read(self._reader, 1 << 16)
                if not piece:
                    return b"".join(pieces) or None
                pieces.append(piece)
        finally:
            os.close(self._reader)


def kill_now() -> None:
    """End this process as a power cut would: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def _run(action: Callable[[], Any], writer: int) -> NoReturn:
    gc.freeze()  # what the parent made stays: to collect its connections here, without its threads, crashes
    try:
        try:
            answer = pickle.dumps((True, action()))
        except BaseException:  # noqa: BLE001 - it is handed to the parent
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)  # pytest's own clean-up belongs to the parent

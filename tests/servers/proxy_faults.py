"""What a proxy can do to what passes through it."""

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "answer",  # the proxy itself answers, with `status`
    "cut before",  # the connection is reset, the server never hears of it
    "cut after",  # the server did it, its answer is lost
    "truncate",  # half of the answer's body, then the end of the connection
    "hang before",  # no answer for `seconds`, then a reset; the server never hears of it
    "hang after",  # the same, and the server did it
    "delay",  # passed on after `seconds`
    "corrupt upload",  # one byte of what the client sends is another one
    "corrupt answer",  # one byte of what the server sends is another one
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is to happen to one request, or to one piece of a TCP stream.

    Attributes:
        status: Of an "answer".
        retry_after_s: Its header Retry-After; None: without.
        seconds: How long a hang or a delay lasts.
        at: Where the corrupted byte is, as a share of the body.
    """

    kind: Kind
    status: int = 503
    retry_after_s: int | None = None
    seconds: float = 600
    at: float = 0.6


def reset(connection: socket.socket) -> None:
    """End a connection so that the other side sees a reset, and a thread that reads from it wakes up."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)


def corrupted(data: bytes, at: float) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[min(int(len(data) * at), len(data) - 1)] ^= 0x20
    return bytes(changed)

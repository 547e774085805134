"""What passes between Trifocal and its decoding process: length-prefixed JSON on a socket, pictures in shared memory.

Nothing is unpickled and nothing that arrives is trusted: lengths are bounded, shapes are those declared beforehand, and
an error's text is reduced to one plain line.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from typing import Any, Final

from trifocal import errors
from trifocal.video.checks import one_line

__all__ = ["Hangup", "describe_error", "rebuild_error", "receive", "send", "slot_layout"]

_LENGTH: Final = 4
_LARGEST: Final = 64 * 1024**2
_PAGE: Final = 4096

_ERRORS: Final = {
    kind.code: kind
    for kind in (
        errors.VideoNotFound,
        errors.UnsupportedVideo,
        errors.UnreadableVideo,
        errors.VideoLimitExceeded,
        errors.DecoderFailed,
        errors.InvalidInput,
    )
}


class Hangup(Exception):
    """The other end is gone (`closed`), or does not keep to the protocol."""

    def __init__(self, what: str, *, closed: bool = False) -> None:
        """Say what happened."""
        super().__init__(what)
        self.closed = closed


def send(sock: socket.socket, message: dict[str, Any], *, fd: int | None = None) -> None:
    """Send one message, with a descriptor if given."""
    body = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    head = len(body).to_bytes(_LENGTH, "big")
    try:
        if fd is None:
            sock.sendall(head + body)
        else:
            socket.send_fds(sock, [head], [fd])
            sock.sendall(body)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Hangup("the other end is gone", closed=True) from error


def receive(sock: socket.socket, *, until: float = math.inf) -> tuple[dict[str, Any], int | None]:
    """The next message, and the descriptor that came with it.

    Args:
        sock: the socket.
        until: by `time.monotonic`, when the whole message must be there, however its parts drip in.

    Raises:
        Hangup: the other end closed, or sent what is not a message.
        TimeoutError: nothing came within the socket's timeout, or not all of it until `until`.
    """
    fds: list[int] = []
    try:
        head = b""
        while len(head) < _LENGTH:
            part, new, _, _ = socket.recv_fds(sock, _LENGTH - len(head), 1)
            fds += new
            if not part:
                raise Hangup("the other end is gone", closed=True)
            head += part
        length = int.from_bytes(head, "big")
        if length > _LARGEST:
            raise Hangup("a message is too long")
        body = bytearray()
        while len(body) < length:
            block = sock.recv(min(1 << 20, length - len(body)))
            if not block:
                raise Hangup("the other end is gone", closed=True)
            body += block
            if time.monotonic() > until:
                raise TimeoutError
        message = json.loads(body)
        if not isinstance(message, dict):
            raise Hangup("a message is not an object")
    except ConnectionResetError as error:
        _close(fds)
        raise Hangup("the other end is gone", closed=True) from error
    except (ValueError, RecursionError) as error:
        _close(fds)
        raise Hangup("what came is not a message") from error
    except BaseException:
        _close(fds)
        raise
    _close(fds[1:])
    return message, (fds[0] if fds else None)


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def describe_error(error: errors.TrifocalError) -> dict[str, Any]:
    """An error as a message."""
    return {"kind": "error", "code": error.code, "message": error.message, "remedy": error.remedy}


def rebuild_error(message: dict[str, Any]) -> errors.TrifocalError:
    """The error that a message describes; one that is not known is a failure of the decoder."""
    kind = _ERRORS.get(str(message.get("code")), errors.DecoderFailed)
    return kind(one_line(message.get("message")), remedy=one_line(message.get("remedy")))


def slot_layout(nbytes: list[int], *, each: int) -> tuple[list[list[int]], int]:
    """Where the buffers lie in the shared memory.

    Args:
        nbytes: size of a buffer of each consumer.
        each: buffers for each consumer.

    Returns:
        The offsets, `[consumer][slot]`, each at the begin of a page, and the total size.
    """
    offsets, at = [], 0
    for size in nbytes:
        pages = -(-size // _PAGE) * _PAGE
        offsets.append([at + i * pages for i in range(each)])
        at += each * pages
    return offsets, at

"""The protocol between the two processes: messages arrive whole, and nonsense is recognised."""

from __future__ import annotations

import os
import socket
import time

import pytest

from trifocal import errors
from trifocal.video.wire import Hangup, describe_error, rebuild_error, receive, send, slot_layout


def test_messages_and_descriptors_arrive() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, {"a": [1, 2.5, "é"]})
        assert receive(theirs) == ({"a": [1, 2.5, "é"]}, None)
        fd = os.memfd_create("test")
        send(ours, {"b": None}, fd=fd)
        message, got = receive(theirs)
        assert message == {"b": None}
        assert got is not None
        os.write(got, b"same")
        assert os.pread(fd, 4, 0) == b"same"
        os.close(got)
        os.close(fd)


@pytest.mark.parametrize("junk", [b"\xff" * 64, b"\0\0\0\x02[]", b"\0\0\0\x03{{{", b"\0\0\0\x02\xff\xff"])
def test_07_nonsense_is_recognised(junk: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(junk)
        with pytest.raises(Hangup) as caught:
            receive(theirs)
        assert not caught.value.closed


@pytest.mark.parametrize("part", [b"", b"\0\0", b"\0\0\0\x09{"])
def test_an_end_is_recognised(part: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(part)
        with pytest.raises(Hangup) as caught:
            receive(theirs)
        assert caught.value.closed


def test_06_a_message_that_drips_in_has_until_its_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        ours.sendall(b"\0\0\0\x09{")
        with pytest.raises(TimeoutError):
            receive(theirs, until=time.monotonic() - 1)


def test_09_errors_keep_their_class_and_lose_their_tricks() -> None:
    error = errors.UnreadableVideo("a.mp4 is empty", remedy="Copy it again.")
    again = rebuild_error(describe_error(error))
    assert type(again) is errors.UnreadableVideo
    assert str(again) == str(error)
    odd = rebuild_error({"code": "library_damaged", "message": "two\nlines\x1b[31m " + "x" * 9999, "remedy": 5})
    assert type(odd) is errors.DecoderFailed
    assert "\n" not in str(odd)
    assert "\x1b" not in str(odd)
    assert len(str(odd)) < 500


def test_buffers_do_not_overlap() -> None:
    offsets, total = slot_layout([1, 4096, 4097], each=2)
    assert offsets == [[0, 4096], [8192, 12288], [16384, 24576]]
    assert total == 32768

"""Video decoding in a child process, so that no file can hang, bloat or crash the worker."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Generator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import psutil

from .file import VideoError
from .frame_ring import FREE, FrameRing
from .frames import Eye, Library, OnMissing, VideoFrame, ignore_missing
from .spherical_metadata import Declared

POLL_S = 0.1
_START_S = 120.0  # that a child may take until it is ready, on a machine that is busy
_MOST_EARLY_BYTES = 1 << 20  # that are read of what a child printed before it was ready


class Decoder:
    """Samples frames as `sample_frames` does, in one persistent child, which is replaced when it has to be killed.

    A child that reads no packet and sends no frame for `timeout_s` seconds is killed (VideoError `decode_timeout`), as
    is one that grows beyond `memory_bytes` (`decode_memory`); one that dies by itself gives `decode_crashed`. It
    decodes up to `frame_ring.SLOTS` frames ahead. Not safe to share between threads.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 120.0,
        memory_bytes: int = 6 << 30,
        threads: int = 1,
        library: Library = "pyav",
    ) -> None:
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self.threads = threads
        self.library = library
        self._child: _Child | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the child, so that what keeps it from working shows before the first video.

        Raises:
            RuntimeError: it cannot work here, as where a package is missing; the message holds its traceback.
        """
        with suppress(VideoError):  # it was killed: the first video starts another
            self._living_child()

    @property
    def pid(self) -> int | None:
        """Process id of the child, if there is one."""
        return self._child.process.pid if self._child else None

    def sample_frames(
        self,
        path: str,
        every_s: float,
        height: int,
        *,
        max_frames: int | None = None,
        only: Collection[int] | None = None,
        snap_to_keyframes: bool = False,
        start_s: float = 0.0,
        end_s: float | None = None,
        eye: Eye = "both",
        on_missing: OnMissing = ignore_missing,
    ) -> Generator[VideoFrame]:
        """Yields frames as they are decoded; raises VideoError. Abandoning the iterator ends the child."""
        request = {"path": path, "every_s": every_s, "height": height, "max_frames": max_frames}
        request |= {"start_s": start_s, "end_s": end_s}
        request |= {"only": None if only is None else sorted(only)}
        request |= {"snap_to_keyframes": snap_to_keyframes, "eye": eye, "threads": self.threads}
        request |= {"decoder": self.library}
        child, whole = self._living_child(), False
        with _Watchdog(child.process, self.timeout_s, self.memory_bytes) as watchdog:
            try:
                ring = child.ask(request, height)
                while (message := _next_message(child.connection, watchdog))["kind"] == "frame":
                    frame = _frame(message, ring)
                    child.connection.send_bytes(FREE)
                    yield frame
                whole = True
            except (EOFError, OSError) as error:
                raise watchdog.explanation() from error
            finally:
                if not whole:
                    self.close()
        _raise_unless_end(message)
        for frame_index in message["missing"]:
            on_missing(frame_index)

    def close(self) -> None:
        """Ends the child. Safe to call at any time; the next video starts a new one."""
        child, self._child = self._child, None
        if child:
            child.end()

    def _living_child(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self.close()
            self._child = child = _Child()
            try:
                child.wait_until_ready()
            except BaseException:
                self.close()
                raise
        return self._child


class _Child:
    """The process, the socket to it, and the memory that pixels come through: without a name, so never left behind."""

    def __init__(self) -> None:
        self._memory = os.memfd_create("decoded-frames")
        self._early = os.memfd_create("stderr")  # until it is ready
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dap_engine.models.video.child", str(theirs.fileno()), str(self._memory)],
                pass_fds=[theirs.fileno(), self._memory],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._early,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )
        self.connection = Connection(ours.detach())

    def wait_until_ready(self) -> None:
        """Waits for its first message; raises RuntimeError with its traceback if an exception ends it before."""
        if not self.connection.poll(_START_S):
            raise VideoError("decode_timeout", f"the decoder was not ready within {_START_S:g} s")
        try:
            self.connection.recv_bytes()
        except (EOFError, OSError):
            if (status := self.process.wait()) > 0:
                text = os.pread(self._early, _MOST_EARLY_BYTES, 0).decode(errors="replace")
                raise RuntimeError(f"the video decoder does not start:\n{text}") from None
            raise _crash(status) from None

    def ask(self, request: dict[str, Any], height: int) -> FrameRing:
        """Makes room for frames of this height before the request goes out."""
        ring = FrameRing(self._memory, height)
        self.connection.send_bytes(json.dumps(request).encode())
        return ring

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()
        os.close(self._memory)
        os.close(self._early)


def _receive(connection: Connection, watchdog: _Watchdog) -> bytes:
    watchdog.expect()
    try:
        return connection.recv_bytes()
    finally:
        watchdog.rest()


def _next_message(connection: Connection, watchdog: _Watchdog) -> dict[str, Any]:
    """The next message that is no heartbeat."""
    while (message := json.loads(_receive(connection, watchdog)))["kind"] == "heartbeat":
        pass
    return message


def _frame(message: dict[str, Any], ring: FrameRing) -> VideoFrame:
    declared = message["declared"]
    return VideoFrame(
        frame_index=message["frame_index"],
        timestamp_s=message["timestamp_s"],
        display_aspect=message["display_aspect"],
        rgb=ring.slot(message["number"]).copy(),
        declared=Declared(**{**declared, "bounds": tuple(declared["bounds"])}) if declared else None,
    )


def _raise_unless_end(message: dict[str, Any]) -> None:
    if message["kind"] == "error":
        raise VideoError(message["code"], message["detail"])
    if message["kind"] == "bug":
        raise RuntimeError(f"the video decoder failed:\n{message['traceback']}")


class _Watchdog(threading.Thread):
    """Kills the child when it is silent for too long while awaited, or too big at any time."""

    def __init__(self, process: subprocess.Popen, timeout_s: float, memory_bytes: int) -> None:
        super().__init__(daemon=True, name="decoder-watchdog")
        self._process = process
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._deadline: float | None = None
        self._done = threading.Event()
        self._reason: VideoError | None = None

    def __enter__(self) -> _Watchdog:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def expect(self) -> None:
        """Starts the clock: the next message is the child's."""
        self._deadline = time.monotonic() + self._timeout_s

    def rest(self) -> None:
        """Stops the clock: it is the worker's turn."""
        self._deadline = None

    def explanation(self) -> VideoError:
        """Why the child is gone."""
        if self._reason:
            return self._reason
        return _crash(self._process.wait())

    def run(self) -> None:
        while not self._done.wait(POLL_S):
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self._reason = VideoError("decode_timeout", f"no frame and no progress for {self._timeout_s:g} s")
            with suppress(psutil.Error):  # already gone: the socket will tell
                if psutil.Process(self._process.pid).memory_info().rss > self._memory_bytes:
                    self._reason = VideoError("decode_memory", f"more than {self._memory_bytes / 2**30:.1f} GiB")
            if self._reason:
                self._process.kill()
                return


def _crash(status: int) -> VideoError:
    return VideoError("decode_crashed", f"the decoder died with status {status}")

"""The child process of models/video/decoder.py: reads requests and answers with frames over one socket."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from dataclasses import asdict
from multiprocessing.connection import Connection

from .file import VideoError
from .frame_ring import FREE, SLOTS, FrameRing
from .frames import sample_frames

PR_SET_PDEATHSIG = 1
HEARTBEAT_S = 0.5


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no decoder outlives its worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle
    connection, memory = Connection(int(sys.argv[1])), int(sys.argv[2])
    try:
        _send(connection, kind="ready")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # codecs complain about every broken packet
        while True:
            if (message := connection.recv_bytes()) != FREE:  # slots that the last video did not need
                _answer(connection, memory, json.loads(message))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the worker is gone or has had enough


def _answer(connection: Connection, memory: int, request: dict) -> None:
    try:
        ring = FrameRing(memory, request["height"])
        missing: list[int] = []
        frames = sample_frames(**request, on_packet=_Heartbeat(connection), on_missing=missing.append)
        for number, frame in enumerate(frames):
            if number >= SLOTS:
                connection.recv_bytes()  # the slot is free again
            ring.slot(number)[:] = frame.rgb
            _send(
                connection,
                kind="frame",
                number=number,
                frame_index=frame.frame_index,
                timestamp_s=frame.timestamp_s,
                display_aspect=frame.display_aspect,
                declared=asdict(frame.declared) if frame.declared else None,
            )
        _send(connection, kind="end", missing=missing)
    except VideoError as error:
        _send(connection, kind="error", code=error.code, detail=error.detail)
    except MemoryError:
        _send(connection, kind="error", code="decode_memory", detail="no memory for the decoder")
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - handed to the worker, which raises it
        _send(connection, kind="bug", traceback=traceback.format_exc())


class _Heartbeat:
    """Sends a sign of life while packets are read: a video may be hours long, on a slow disk."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last_s = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last_s > HEARTBEAT_S:
            self._last_s = time.monotonic()
            _send(self._connection, kind="heartbeat")


def _send(connection: Connection, **message: object) -> None:
    connection.send_bytes(json.dumps(message).encode())


if __name__ == "__main__":
    main()

"""The child process of models/decoder.py: reads requests and answers with frames over one socket."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection

from models.video import VideoError, sample_frames

PR_SET_PDEATHSIG = 1


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no decoder outlives its worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # codecs complain about every broken packet
    connection = Connection(int(sys.argv[1]))
    try:
        while True:
            _answer(connection, json.loads(connection.recv_bytes()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the worker is gone or has had enough


def _answer(connection: Connection, request: dict) -> None:
    try:
        for frame in sample_frames(**request):
            _tell(
                connection,
                kind="frame",
                frame_index=frame.frame_index,
                timestamp_s=frame.timestamp_s,
                display_aspect=frame.display_aspect,
                shape=frame.rgb.shape,
            )
            connection.send_bytes(frame.rgb.tobytes())
        _tell(connection, kind="end")
    except VideoError as error:
        _tell(connection, kind="error", code=error.code, detail=error.detail)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - handed to the worker, which raises it
        _tell(connection, kind="bug", traceback=traceback.format_exc())


def _tell(connection: Connection, **message: object) -> None:
    connection.send_bytes(json.dumps(message).encode())


if __name__ == "__main__":
    main()

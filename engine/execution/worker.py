"""The child process of a worker (`python -m … FD`): runs shards of one stage for its supervisor."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from .run_shard import ShardRunner


def main(descriptor: int) -> None:
    """Takes the step, then shards; tells which samples are in hand and what became of each shard."""
    _be_first_to_go()
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    connection = Connection(descriptor)
    step, run = pickle.loads(connection.recv_bytes())  # noqa: S301 - from our own parent process
    runner = ShardRunner(step, run, in_flight=connection.send)
    while True:
        try:
            shard, isolation = connection.recv()
        except EOFError:
            return
        connection.send(runner.run(shard, isolation))


def _be_first_to_go() -> None:
    """A system out of memory shall kill this process, not its supervisor, which will find out who is to blame."""
    with suppress(OSError):  # no such file but on Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def _end_with_supervisor() -> None:
    """Standard input ends with the supervisor, however that ends; so does this process, with all it has started."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))

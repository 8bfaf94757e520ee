"""A cluster's job server, through Ray's own client: with a bounded wait, the user's token, and errors in one line."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from ...engine.execution.placement import ClusterError

_RUN_DIR = "dap_run_dir"  # of a job's metadata
_ANSWER_WITHIN_S = 10.0
_ENDS_WITHIN_S = 4.0  # from the end of a run to that of its job
_TRY_FOR_S = 60.0
_TRY_EVERY_S = 2.0
_NOT_READY = "No available agent"  # says the head of a cluster that has just begun

T = TypeVar("T")


class JobServer:
    """The job server at an address such as http://HEAD:8265. Whatever it refuses is a ClusterError of one line."""

    def __init__(self, address: str) -> None:
        """Raises ClusterError if nothing answers there, or nothing that the user may speak to."""
        self._address = address
        url = urlsplit(address)
        try:
            port = url.port or (443 if url.scheme == "https" else 80)
            socket.create_connection((url.hostname or "", port), timeout=_ANSWER_WITHIN_S).close()
        except OSError as error:
            raise ClusterError(f"no job server at {address}: {error}") from error
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # else Ray's client prefers RAY_ADDRESS to what it is told
        token = _token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client: JobSubmissionClient = self._ask(lambda: JobSubmissionClient(address, headers=headers))

    def job_at_work(self, run_dir: str) -> str:
        """The id of a job that has been submitted for a run directory and does not end; empty if there is none."""
        end_s = time.monotonic() + _ENDS_WITHIN_S
        while True:
            jobs = self._ask(self._client.list_jobs)
            there = [job for job in jobs if (job.metadata or {}).get(_RUN_DIR) == run_dir]
            at_work = [job.submission_id or "" for job in there if not job.status.is_terminal()]
            if not at_work or time.monotonic() > end_s:
                return next(iter(at_work), "")
            time.sleep(_TRY_EVERY_S)

    def submit(self, entrypoint: str, job_id: str, run_dir: str, working_dir: Path, say: Callable[[str], None]) -> None:
        """Submits a job; a cluster that has no agent for it yet is asked again for a minute."""

        def ask() -> None:
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=job_id,
                runtime_env={"working_dir": str(working_dir)},
                metadata={_RUN_DIR: run_dir},
            )

        end_s, has_said = time.monotonic() + _TRY_FOR_S, False
        while True:
            try:
                return self._ask(ask)
            except ClusterError as error:
                if _NOT_READY not in str(error) or time.monotonic() > end_s:
                    raise
                if not has_said:
                    say(f"the cluster has no agent for a job yet: trying again for {_TRY_FOR_S:.0f} s")
                has_said = True
                time.sleep(_TRY_EVERY_S)

    def follow(self, job_id: str, write: Callable[[str], None]) -> int:
        """Hands on the log of a job until it ends; returns its exit code.

        Raises:
            ClusterError: the server did not answer for a minute.
        """
        seen, answered_s = 0, time.monotonic()

        async def tail() -> None:
            nonlocal seen, answered_s
            skip = seen  # a log that is asked for again begins at its beginning
            async for part in self._client.tail_job_logs(job_id):
                write(part[skip:])
                skip, seen, answered_s = max(0, skip - len(part)), seen + len(part[skip:]), time.monotonic()

        while True:
            try:
                asyncio.run(tail())
                job = self._client.get_job_info(job_id)
                answered_s = time.monotonic()
                if job.status.is_terminal():
                    return _exit_code(job)
            except (RuntimeError, OSError, aiohttp.ClientError) as error:
                if time.monotonic() - answered_s > _TRY_FOR_S:
                    raise ClusterError(f"{self._address}: does not answer any more: {_cause(error)}") from error
            time.sleep(_TRY_EVERY_S)

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except (RuntimeError, OSError, LookupError, ValueError, AuthenticationError) as error:
            raise ClusterError(f"{self._address}: {_cause(error)}") from error


def _token() -> str:
    """The user's token for Ray clusters, where Ray itself looks for it; empty if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.read_text().strip() if path.is_file() else ""


def _cause(error: Exception) -> str:
    """The first line of a message, and the last, if a traceback or an explanation lies between them."""
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"


def _exit_code(job: Any) -> int:
    """The exit code of a job that has ended: its command's, else 1; 128 + signal if a signal ended that."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    code = job.driver_exit_code or 1
    return code if code > 0 else 128 - code

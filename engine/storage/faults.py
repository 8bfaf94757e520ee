"""Storage that fails: which failures are transient, how long they are retried, and how they are reported."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

RETRY_FOR_S = 30.0  # from the first failure of an operation on; one that takes long itself gets three attempts at least
FIRST_PAUSE_S = 0.5  # doubled from pause to pause
LONGEST_PAUSE_S = 8.0
_LEAST_ATTEMPTS = 3

_DISK = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota used up",
    errno.EROFS: "read-only file system",
    errno.EIO: "the disk cannot be read or written",
}
_REFUSED = {errno.EACCES: "permission denied", errno.EPERM: "operation not permitted"}
_NETWORK_DISK = {errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH}
_AWS = re.compile(
    r"AWS Error (?P<kind>\w+)(?: \(HTTP status (?P<status>\d+)\))? during \w+ operation: (?P<text>.*)", re.S
)
_AWS_TRANSIENT = {
    "INTERNAL_FAILURE",
    "NETWORK_CONNECTION",
    "REQUEST_TIMEOUT",
    "SERVICE_UNAVAILABLE",
    "SLOW_DOWN",
    "THROTTLING",
}
_GOOGLE = re.compile(r"google::cloud::Status\((?P<kind>\w+): (?P<text>.*)", re.S)
_GOOGLE_TRANSIENT = {"ABORTED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
_GOOGLE_AROUND = re.compile(r" error_info=.*|.*(a last message of|error message was:) |\w+\(\) - CURL error \[\d+\]=")
_AWS_SILENT = {"NETWORK_CONNECTION", "REQUEST_TIMEOUT"}
_HTTP_TRANSIENT = {"408", "429", "500", "502", "503", "504"}
_MAX_LINE = 300

T = TypeVar("T")


class StorageError(OSError):
    """Storage that cannot be used; the message is one line that names the URI and the cause."""


class TransientError(OSError):
    """A failure that may be gone at the next attempt: it is retried."""


class ReplacedError(TransientError):
    """An object that was replaced while it was read: what was read is part of neither."""


class RetryPolicy:
    """Retries transient failures with exponential backoff and jitter, for half a minute.

    After one wait in vain it makes a single attempt a call until something succeeds: storage that is gone costs a run
    of many shards one wait, not one each. Where nobody knows whether the storage is there (`expected` is False) and it
    does not answer, even the first call makes one attempt, and those of the next seconds none.
    """

    def __init__(self, expected: bool = True) -> None:
        self._expected = expected
        self._exhausted = False
        self._silent_until_s, self._silence = 0.0, ""

    def run(self, operation: Callable[[], T], name: str) -> T:
        """The result of an operation on the object of this name.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: the operation was refused, or failed until there were no retries left.
        """
        first_failure_s, attempts = 0.0, 0
        if time.monotonic() < self._silent_until_s:
            raise StorageError(f"{name}: {self._silence}")
        while True:
            try:
                result = operation()
            except (FileNotFoundError, StorageError):
                self._expected = True  # it answers
                raise
            except (OSError, pa.ArrowException) as error:
                attempts += 1
                self._expected |= not is_silence(error)
                if not self._expected:
                    self._silent_until_s, self._silence = time.monotonic() + LONGEST_PAUSE_S, cause(error)
                    raise StorageError(f"{name}: {self._silence}") from error
                first_failure_s = first_failure_s or time.monotonic()
                if not is_transient(error):
                    raise StorageError(f"{name}: {cause(error)}") from error
                if not self._wait(attempts, first_failure_s):
                    tries = f"after {attempts} attempts" if attempts > 1 else "at once, after waiting in vain before"
                    raise StorageError(f"{name}: {cause(error)} (given up {tries})") from error
            else:
                self._exhausted, self._expected = False, True
                return result

    def _wait(self, attempts: int, first_failure_s: float) -> bool:
        """Pauses before the next attempt; False if there should be none."""
        pause_s = min(FIRST_PAUSE_S * 2 ** (attempts - 1), LONGEST_PAUSE_S) * random.SystemRandom().uniform(0.75, 1.25)
        over = time.monotonic() + pause_s - first_failure_s > RETRY_FOR_S
        if self._exhausted or (over and attempts >= _LEAST_ATTEMPTS):
            self._exhausted = True
            return False
        time.sleep(pause_s)
        return True


def is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed: the network, throttling, a server in trouble; never a refusal."""
    if isinstance(error, TransientError | TimeoutError | ConnectionError) or _errno(error) in _NETWORK_DISK:
        return True
    if found := _GOOGLE.search(str(error)):
        return found["kind"] in _GOOGLE_TRANSIENT
    found = _AWS.search(str(error))
    return bool(found) and (found["kind"] in _AWS_TRANSIENT or found["status"] in _HTTP_TRANSIENT)


def is_silence(error: Exception) -> bool:
    """Whether nothing answered at all."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if found := _GOOGLE.search(str(error)):
        return "CURL error" in found["text"]
    found = _AWS.search(str(error))
    return bool(found) and found["kind"] in _AWS_SILENT


def _errno(error: Exception) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def is_full(error: OSError) -> bool:
    """Whether the disk is full (or that is the cause of a StorageError): room may be made while one waits."""
    reason = error.__cause__ if isinstance(error, StorageError) else error
    return isinstance(reason, OSError) and reason.errno in (errno.ENOSPC, errno.EDQUOT)


def is_disk_fault(error: OSError) -> bool:
    """Whether the disk itself is full, read-only or broken."""
    return error.errno in _DISK


def cause(error: Exception) -> str:
    """The reason in one line, without names of internals."""
    if isinstance(error, OSError) and error.errno:
        return {**_DISK, **_REFUSED}.get(error.errno) or os.strerror(error.errno).lower()
    text = " ".join(str(error).split())
    if found := _AWS.search(text):
        sentence = re.sub(r"^curlCode: \d+, (.*; Details: )?", "", found["text"])
        kind = f"HTTP status {found['status']}" if found["status"] else found["kind"].lower().replace("_", " ")
        text = kind if sentence.startswith("No response body") else f"{kind}: {sentence}"
    elif found := _GOOGLE.search(text):
        text = _GOOGLE_AROUND.sub("", found["text"])
    return text[:_MAX_LINE] or type(error).__name__


@contextlib.contextmanager
def reported_as(name: str, place: Path) -> Iterator[None]:
    """Turns errors of the disk below `place` into a StorageError that names it.

    Errors of writing carry no file name; those of a full, read-only or broken disk are taken to be about `place`.
    """
    try:
        yield
    except (FileNotFoundError, StorageError):
        raise
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else ""
        about_here = Path(where).is_relative_to(place) if where else is_disk_fault(error)
        if about_here and error.errno in {**_DISK, **_REFUSED}:
            raise StorageError(f"{where or name}: {cause(error)}") from error
        raise

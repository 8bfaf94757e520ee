"""Reads of S3 in one request each. It says what it has read: size and ETag; and the next ones are of the same object.

pyarrow's client asks for the size of an object before it reads, and says no ETag with what it has read. This is AWS's
own client for Python, which finds credentials, profiles and endpoints as its users have them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from botocore import UNSIGNED
from botocore import exceptions as boto
from botocore.client import Config
from botocore.session import Session

from .faults import ReplacedError, TransientError


def s3_client(options: Mapping[str, Any], connect_s: float, silence_s: float) -> Any:
    """A client by the options of pyarrow's; it makes one attempt. Threads may share it, and processes may not."""
    endpoint = options["endpoint_override"]  # a URL from the environment, else a host
    if endpoint and "://" not in endpoint:
        endpoint = f"{options['scheme']}://{endpoint}"
    session = _session(os.getpid())
    is_known = options["access_key"] or session.get_credentials()
    config = Config(
        connect_timeout=connect_s,
        read_timeout=silence_s,
        retries={"total_max_attempts": 1},
        max_pool_connections=64,
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint else "auto"},
        signature_version=UNSIGNED if options["anonymous"] or not is_known else None,
    )
    return session.create_client(
        "s3",
        region_name=options["region"] or None,
        endpoint_url=endpoint or None,
        aws_access_key_id=options["access_key"] or None,
        aws_secret_access_key=options["secret_key"] or None,
        aws_session_token=options["session_token"] or None,
        verify=options["tls_ca_file_path"] or None,
        config=config,
    )


@cache
def _session(_process: int) -> Session:
    """One a process, as locks may be held when another is forked. It remembers what takes long to read."""
    return Session()


class S3Version:
    """One version of an object: that which the first `read` finds."""

    def __init__(self, client: Any, location: str) -> None:
        self._client, self._location = client, location
        self._tag, self.size = "", 0

    def read(self, offset: int, size: int | None) -> bytes:
        """Bytes from `offset` on: so many, or up to the end of the object; ReplacedError if it is another by now."""
        if size == 0:
            return b""
        bucket, _, key = self._location.partition("/")
        last, condition = "" if size is None else offset + size - 1, {"IfMatch": self._tag} if self._tag else {}
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key, Range=f"bytes={offset}-{last}", **condition)
            data = answer["Body"].read()
        except boto.ClientError as error:
            if _status(error) == 416:  # it ends before
                return b""
            raise _as_os_error(error, self._location) from error
        except boto.BotoCoreError as error:
            raise _as_os_error(error, self._location) from error
        self._tag, self.size = answer["ETag"], int(answer["ContentRange"].rpartition("/")[2])
        return data


def _status(error: boto.ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _as_os_error(error: boto.ClientError | boto.BotoCoreError, location: str) -> OSError:
    """As `faults` knows it: by pyarrow's words where a server has answered."""
    if isinstance(error, boto.ClientError):
        code, message = (error.response["Error"].get(name, "") for name in ("Code", "Message"))
        status = _status(error)
        if status == 404:
            return FileNotFoundError(f"{location}: no such object")
        if status == 412:
            return ReplacedError("replaced while it was read")
        kind = "ACCESS_DENIED" if status == 403 else f"{code} (HTTP status {status})"
        return OSError(f"AWS Error {kind} during GetObject operation: {message}")
    if isinstance(error, boto.IncompleteReadError | boto.ResponseStreamingError):
        return TransientError(f"bytes missing: {error}")
    if isinstance(error, boto.ConnectTimeoutError | boto.ReadTimeoutError):
        return TimeoutError(f"too slow: {error}")
    is_network = isinstance(error, boto.HTTPClientError | boto.ConnectionError)
    return ConnectionError(str(error)) if is_network else OSError(str(error))

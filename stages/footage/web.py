"""Videos of web servers: fetched whole, within limits of time and size, and from public addresses alone."""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import IPv6Address, ip_address
from pathlib import Path, PurePosixPath
from socket import socket
from typing import IO, Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ...engine.storage.faults import RetryPolicy, StorageError, TransientError
from ...engine.storage.place import WEB, without_secrets
from ...models.video.file import VideoError

_CHUNK_BYTES = 1 << 20
_MISSING = {404, 410}
_TRANSIENT = {408, 425, 429}  # and all that begin with 5


@dataclass(frozen=True)
class Fetch:
    """How videos are fetched from web servers (http and https, without a proxy).

    timeout_s: without a byte. max_gb: of one video. cache: a folder of the node that keeps what was fetched; without
    one, a video is deleted once it has been read. private_addresses: servers in networks that are not public may be
    asked, too.
    """

    timeout_s: float = 60.0
    max_gb: float = 50.0
    cache: str = ""
    private_addresses: bool = False

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.max_gb <= 0:
            raise ValueError("fetch: timeout_s and max_gb must be positive")


def is_on_web(uri: str) -> bool:
    """Whether a URI names something of a web server."""
    return uri.partition("://")[0].lower() in WEB


@contextmanager
def fetched(url: str, settings: Fetch) -> Iterator[str]:
    """A local copy of what a URL names, from the cache if it is there.

    Raises:
        VideoError: `file_too_large`.
        OSError: it is not there, or cannot be fetched.
    """
    suffix = PurePosixPath(urlsplit(url).path).suffix
    if not settings.cache:
        with tempfile.NamedTemporaryFile(suffix=suffix) as copy:
            _fetch(url, copy, settings)
            yield copy.name
        return
    kept = Path(settings.cache) / f"{hashlib.sha256(os.fsencode(url)).hexdigest()[:32]}{suffix}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=".unfinished-", delete=False) as copy:
            try:
                _fetch(url, copy, settings)
                os.replace(copy.name, kept)
            finally:
                with suppress(FileNotFoundError):  # it is in its place
                    os.unlink(copy.name)
    yield str(kept)


def _fetch(url: str, copy: IO[bytes], settings: Fetch) -> None:
    name = without_secrets(url)
    _retry_policy(urlsplit(url).netloc).run(lambda: _attempt(url, name, copy, settings), name)
    copy.flush()


@cache
def _retry_policy(_server: str) -> RetryPolicy:
    """One for each server: of one that does not answer, it is known for some seconds."""
    return RetryPolicy(expected=False)


def _attempt(url: str, name: str, copy: IO[bytes], settings: Fetch) -> None:
    copy.seek(0)
    copy.truncate()
    asked = request.Request(url, headers={"User-Agent": "dap-engine", "Accept-Encoding": "identity"})
    try:
        with _opener(settings.private_addresses).open(asked, timeout=settings.timeout_s) as response:
            _receive(response, copy, int(settings.max_gb * 1e9))
    except HTTPError as error:
        if error.code in _MISSING:
            raise FileNotFoundError(f"{name}: HTTP status {error.code}") from error
        kind = TransientError if error.code in _TRANSIENT or error.code >= 500 else StorageError
        raise kind(f"{name}: HTTP status {error.code}") from error
    except URLError as error:  # around what happened on the way to a response
        raise _plain(error.reason, name) from error
    except (ssl.SSLError, HTTPException) as error:
        raise _plain(error, name) from error


def _plain(error: Any, name: str) -> OSError:
    """An error that `RetryPolicy` can judge; those of TLS carry numbers of their own."""
    if isinstance(error, HTTPException):
        return TransientError(f"{name}: {error!r}")
    return (
        error
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
        else StorageError(f"{name}: {error}")
    )


def _receive(response: HTTPResponse, copy: IO[bytes], most_bytes: int) -> None:
    promised, received = response.length, 0
    if promised and promised > most_bytes:
        raise VideoError("file_too_large", f"{promised} bytes, where {most_bytes} are allowed")
    while chunk := response.read(_CHUNK_BYTES):
        received += len(chunk)
        if received > most_bytes:
            raise VideoError("file_too_large", f"more than the {most_bytes} bytes that are allowed")
        copy.write(chunk)
    if promised is not None and received < promised:
        raise TransientError(f"cut off after {received} of {promised} bytes")


@cache
def _opener(private_addresses: bool) -> request.OpenerDirector:
    """Follows redirects to web servers, and asks nothing else: no files, no FTP."""
    http, https = (HTTPConnection, HTTPSConnection) if private_addresses else (_PublicHTTP, _PublicHTTPS)

    class Http(request.HTTPHandler):
        def http_open(self, req: request.Request) -> HTTPResponse:
            return self.do_open(http, req)

    class Https(request.HTTPSHandler):
        def https_open(self, req: request.Request) -> HTTPResponse:
            return self.do_open(https, req)

    opener = request.OpenerDirector()
    for handler in (Http(), Https(), request.HTTPRedirectHandler(), request.UnknownHandler()):
        opener.add_handler(handler)
    for handler in (request.HTTPErrorProcessor(), request.HTTPDefaultErrorHandler()):
        opener.add_handler(handler)
    return opener


class _PublicHTTP(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _check_public(self.sock)


class _PublicHTTPS(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _check_public(self.sock)


def _check_public(connected: socket) -> None:
    """Looks at the address that answered, before anything is asked: names may lead to other ones at every look."""
    address = ip_address(connected.getpeername()[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if not address.is_global:
        connected.close()
        raise StorageError(f"{address} is no public address; extract.fetch.private_addresses=true allows it")

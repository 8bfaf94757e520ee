"""What pyarrow's object stores lack: a bounded wait, reads that are whole or fail, uploads that nothing cuts short."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import IO, Any, Protocol
from urllib.parse import parse_qsl, urlencode

import fsspec
import pyarrow as pa
from pyarrow import fs

from .faults import ReplacedError, RetryPolicy, StorageError
from .place import OPTIONS, WEB, Place

_CONNECT_S = 3.0
_SILENCE_S = 10.0  # without a single byte
_ONLY_IN_URIS = {"tls_verify_certificates", "smart_defaults"}  # options that pyarrow takes in no other way
_UPLOAD_BYTES = 80 << 20  # eight parts of an upload, sent side by side
_BUFFER_BYTES = 64 << 10
_KNOWN_OBJECTS = 10_000  # some hundred bytes each
_FIRST_READ_BYTES, _LONGEST_READ_BYTES = 256 << 10, 8 << 20


def open_store(place: Place) -> tuple[ObjectStore, str]:
    """The store that a place lies in, with the place's own options, and the path in it.

    Raises ValueError for a kind of store that is not read, and for a key that pyarrow cannot name.

    pyarrow's client for S3 repeats a request up to thirty times, which takes minutes where a server is silent; here
    it makes one attempt, that for GCS attempts of one second, and `RetryPolicy` repeats them.
    """
    if place.scheme in WEB:  # to be read from; without a listing
        web = fsspec.filesystem("http", block_size=_FIRST_READ_BYTES, cache_type="none")
        return ObjectStore(fs.PyFileSystem(_Web(web))), f"{place.root}/{place.path}".rstrip("/")
    check_store(place)
    options = dict(parse_qsl(place.options))
    if place.scheme in ("gs", "gcs"):
        options.setdefault("retry_limit_seconds", "1")
    filesystem, root = fs.FileSystem.from_uri(f"{place.root}/?{urlencode(options)}")
    location = f"{root.rstrip('/')}/{place.path}".rstrip("/")
    if not isinstance(filesystem, fs.S3FileSystem) or _ONLY_IN_URIS & set(options):
        return ObjectStore(filesystem), location
    from .s3_reads import S3Version, s3_client  # takes tenths of a second to import

    _, (found,) = filesystem.__reduce__()  # what pickles is the only way to have the options of a URI as arguments
    filesystem, client = _with_one_attempt(found), s3_client(found, _CONNECT_S, _SILENCE_S)
    return ObjectStore(filesystem, lambda location: S3Version(client, location)), location


def check_store(place: Place) -> None:
    """ValueError unless a place lies in a kind of store that is read, under a key that can be read."""
    if place.scheme not in OPTIONS:
        known = ", ".join(f"{scheme}://" for scheme in OPTIONS)
        raise ValueError(f"{place.scheme}:// is not read: fetch it to a disk, or to a store that is: {known}")
    check_key(place.path.rstrip("/"))


def check_key(key: str) -> None:
    """ValueError for a key that pyarrow refuses, or would take for another one."""
    if key and {"", ".", ".."} & set(key.split("/")):
        raise ValueError(f"{key!r}: a key with an empty part (//), or with . or .. for one, cannot be read")


def _with_one_attempt(options: Mapping[str, Any]) -> fs.S3FileSystem:
    changes = {
        "connect_timeout": _CONNECT_S,
        "request_timeout": _SILENCE_S,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=1),
        "allow_delayed_open": False,  # else an upload that cannot begin leaves an empty object
    }
    return fs.S3FileSystem(**{**options, **changes})


class _Web(fs.FSSpecHandler):
    """Files of a web server. pyarrow's own handler takes a server that does not answer for one without the file."""

    def open_input_file(self, path: str) -> pa.PythonFile:
        try:
            return pa.PythonFile(self.fs.open(path, mode="rb"), mode="r")
        except FileNotFoundError as error:
            cause = error.__cause__  # fsspec says so, too, where a server refuses or does not answer
            if cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404:
                raise
            raise ConnectionError(str(cause)) from error
        except OSError:
            raise
        except Exception as error:  # aiohttp's are no OSErrors
            raise OSError(str(error)) from error


class ObjectStore:
    """Objects of a store. What is put is there whole or not at all, whatever is killed or cut off."""

    is_local = False

    def __init__(self, filesystem: fs.FileSystem, look: Callable[[str], Version] | None = None) -> None:
        """`look` begins to read the object of a location; pyarrow does, without it."""
        self.filesystem = filesystem
        self._look = look or (lambda location: _Version(filesystem, location))
        self._known: dict[str, Future[_Version]] = {}
        self._lock = Lock()

    def open(self, location: str, retry_policy: RetryPolicy, name: str) -> IO[bytes]:
        """A readable, seekable stream; raises StorageError when the object is replaced while it is read."""
        return io.BufferedReader(ObjectFile(lambda: self._look(location), retry_policy, name), _BUFFER_BYTES)

    def read(self, location: str) -> bytes:
        """All bytes of an object."""
        return self._look(location).read(0, None)

    def read_part(self, location: str, offset: int, size: int) -> bytes:
        """Bytes of an object; fewer where it ends."""
        return self._look(location).read(offset, size)

    def peek(self, location: str, offset: int, size: int | None) -> bytes:
        """Bytes of an object, in one request once it is known; whether it is still the same is not looked after.

        By pyarrow, whose requests take a third of the processor time of botocore's.
        """
        return self._version(location).peek(offset, size)

    def _version(self, location: str) -> _Version:
        """An object as it was when it was first asked for here; of several threads one asks."""
        with self._lock:
            if len(self._known) >= _KNOWN_OBJECTS:
                self._known.clear()
            version = Future[_Version]()
            known = self._known.setdefault(location, version)
        if known is version:
            try:
                version.set_result(_Version(self.filesystem, location))
            except BaseException as error:  # noqa: BLE001 - all who wait are told
                with self._lock:
                    self._known.pop(location, None)
                version.set_exception(error)
        return known.result()

    def put(self, local: Path, location: str) -> None:
        """Uploads a local file.

        pyarrow completes an upload whenever its stream is closed or collected, though it be after an exception halfway.
        So nothing may raise there: Ctrl-C reaches the main thread alone, and a mapped file has no reading that fails.
        (`fs.copy_files` would do all of it outside of Python, but loses the errors of an upload's last part.)
        """
        with pa.memory_map(str(local)) as source, ThreadPoolExecutor(1) as thread:
            thread.submit(self._copy, source.read_buffer(), location).result()

    def _copy(self, data: pa.Buffer, location: str) -> None:
        with self.filesystem.open_output_stream(location) as sink:
            for offset in range(0, data.size, _UPLOAD_BYTES):
                sink.write(data.slice(offset, min(_UPLOAD_BYTES, data.size - offset)))
                sink.flush()  # else pyarrow holds it all in memory; once a part has failed, closing completes nothing


class ObjectFile(io.RawIOBase):
    """An object as a file: read ahead in growing ranges as long as it is read in order, with retries."""

    def __init__(self, look: Callable[[], Version], retry_policy: RetryPolicy, name: str) -> None:
        self._retry_policy, self._name = retry_policy, name
        self._position, self._start, self._ahead = 0, 0, _FIRST_READ_BYTES
        self._version, self._block = retry_policy.run(lambda: self._begin(look), name)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._version.size}[whence]
        if position < 0:
            raise ValueError(f"{self._name}: seek to {position}")
        self._position = position
        return position

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not self._ahead_of_here() and self._position < self._version.size:
            self._read_ahead(len(buffer))
        data = self._ahead_of_here()[: len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        data = bytes(self._ahead_of_here())
        if self._position + len(data) < self._version.size:
            data += self._fetch(self._position + len(data), None)
        self._position += len(data)
        return data

    def _ahead_of_here(self) -> memoryview:
        """What is here of the object from the position on."""
        begin = self._position - self._start
        return memoryview(self._block)[begin:] if begin >= 0 else memoryview(b"")

    def _read_ahead(self, wanted: int) -> None:
        in_order = self._block and self._position == self._start + len(self._block)
        self._ahead = min(self._ahead * 4, _LONGEST_READ_BYTES) if in_order else _FIRST_READ_BYTES
        self._start, self._block = self._position, self._fetch(self._position, max(wanted, self._ahead))

    def _begin(self, look: Callable[[], Version]) -> tuple[Version, bytes]:
        """The version and its first bytes: a look alone may ask the store for nothing, and is no answer of it."""
        version = look()
        return version, self._read(version, 0, _FIRST_READ_BYTES)

    def _fetch(self, offset: int, size: int | None) -> bytes:
        return self._retry_policy.run(lambda: self._read(self._version, offset, size), self._name)

    def _read(self, version: Version, offset: int, size: int | None) -> bytes:
        try:
            return version.read(offset, size)
        except ReplacedError as error:
            raise StorageError(f"{self._name}: {error}") from error


class Version(Protocol):
    """One version of an object."""

    size: int
    """In bytes, once something of it was read."""

    def read(self, offset: int, size: int | None) -> bytes:
        """Bytes from `offset` on: so many, or up to the end of the object; ReplacedError if it is another by now."""
        ...


class _Version:
    """One version of an object of a store that only pyarrow reads.

    pyarrow asks for the size of an object once, when it is opened; where a range comes back shorter, because the
    object was replaced, it fills up with whatever lay in memory. So each range is read, then looked after.
    """

    def __init__(self, filesystem: fs.FileSystem, location: str) -> None:
        self._filesystem, self._location = filesystem, location
        self._file = filesystem.open_input_file(location)
        self._tag = self._file.metadata().get("ETag")
        self.size = self._file.size()

    def read(self, offset: int, size: int | None) -> bytes:
        try:
            data = self.peek(offset, size)
        except OSError as error:
            if not self._is_current():
                raise ReplacedError("replaced while it was read") from error
            raise
        if data and not self._is_current():
            raise ReplacedError("replaced while it was read")
        return data

    def peek(self, offset: int, size: int | None) -> bytes:
        """The same, without a look afterwards."""
        left = max(self.size - offset, 0)
        size = left if size is None else min(size, left)
        return self._file.read_at(size, offset) if size else b""

    def _is_current(self) -> bool:
        try:
            with self._filesystem.open_input_file(self._location) as now:
                return now.metadata().get("ETag") == self._tag
        except FileNotFoundError:
            return False

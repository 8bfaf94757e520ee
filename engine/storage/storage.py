"""A folder on a local disk or an object store, through pyarrow.fs. What becomes visible is always whole.

Transient failures are retried for a bounded time; what fails for good is a StorageError that names the object's URI.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)
from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from .faults import RetryPolicy, StorageError, cause
from .hashing import LIVE, folder_files, hash_folder, hash_local
from .local_disk import LocalDisk
from .object_store import ObjectStore, check_key, open_store
from .place import WEB, Place, without_secrets
from .scratch import scratch_in, sweep

_SCRATCH = ".tmp"
_CHUNK_BYTES = 4 << 20
_INFOS_AT_ONCE = 10_000

T = TypeVar("T")


@dataclass(frozen=True)
class Output:
    """An object as committed: its path in the run, the sha256 of its content, its size in bytes."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What a listing says of an object: its size in bytes and when it was last written, in ns since 1970."""

    bytes: int
    mtime_ns: int


LISTED = pa.schema([("name", pa.string()), ("bytes", pa.int64()), ("mtime_ns", pa.int64())])


@dataclass(frozen=True)
class Storage:
    """Objects below one URI (a local path, s3://, gs://). Pickles as its URI.

    expected: whether it is known to be there; else one that gives no answer gets one try until it has given one.
    """

    uri: str
    expected: bool = True

    @cached_property
    def _root(self) -> tuple[LocalDisk | ObjectStore, str]:
        try:
            if self._place.is_local:
                return LocalDisk(), self._place.absolute().path
            return self._opening.run(lambda: open_store(self._place), self._place.public)
        except StorageError:
            raise
        except (OSError, pa.ArrowException, ValueError) as error:
            raise StorageError(f"{without_secrets(self.uri)}: cannot be opened: {cause(error)}") from error

    @property
    def _store(self) -> LocalDisk | ObjectStore:
        return self._root[0]

    @cached_property
    def _opening(self) -> RetryPolicy:
        return RetryPolicy(self.expected)  # one of its own: a store that can be opened has not answered yet

    @cached_property
    def _retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.expected)

    @cached_property
    def _place(self) -> Place:
        return Place.parse(self.uri)

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "expected": self.expected}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def is_local(self) -> bool:
        """Whether the objects are files of this machine."""
        return self._store.is_local

    @property
    def can_list(self) -> bool:
        """Whether it knows what lies in a folder: a web server does not."""
        return self._place.scheme not in WEB

    def locate(self, path: str) -> str:
        """The path as pyarrow's file system (or, if local, the operating system) knows it.

        Raises:
            StorageError: the path leads out of the storage.
        """
        if path.startswith("/") or ".." in path.split("/"):
            raise StorageError(f"{self._place.public}: {path!r} leads outside of it")
        try:
            check_key(path.rstrip("/"))
        except ValueError as error:
            raise StorageError(f"{self._place.public}: {error}") from error
        return f"{self._root[1]}/{path}"

    def address(self, path: str) -> str:
        """The path as another program names it: absolute if local, else a URI that keeps the storage's own options."""
        return self.locate(path) if self.is_local else str(self._place.below(path))

    def check_answers(self) -> None:
        """Raises StorageError, after one try, if nothing answers at all."""
        if not self.is_local:
            Storage(self.uri, expected=False).info("run.yaml")

    def info(self, path: str) -> Entry | None:
        """Size and time of an object, None if there is none."""
        location = self.locate(path)
        info = self._try(path, lambda: self._store.filesystem.get_file_info(location))
        return Entry(info.size, info.mtime_ns) if info.type == fs.FileType.File else None

    def size(self, path: str) -> int | None:
        """Size of an object in bytes, None if there is none."""
        info = self.info(path)
        return info.bytes if info else None

    def listing(self, folder: str) -> pa.Table:
        """All objects below a folder: name (path relative to it), bytes, mtime_ns, sorted by name; in one listing.

        Empty if there is no such folder. Some 40 bytes an object, of which there may be hundreds of thousands.
        """
        base = self.locate(folder).rstrip("/")
        selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
        infos = self._try(folder, lambda: self._store.filesystem.get_file_info(selector))
        some_at_a_time = (infos[first : first + _INFOS_AT_ONCE] for first in range(0, len(infos), _INFOS_AT_ONCE))
        tables = [_listed(some, len(base) + 1) for some in some_at_a_time]
        table = pa.concat_tables([LISTED.empty_table(), *tables])
        return table.take(pc.sort_indices(table["name"]))

    def entries(self, folder: str) -> dict[str, Entry]:
        """The objects of `listing` by name: for folders of moderate size."""
        names, *figures = (column.to_pylist() for column in self.listing(folder).columns)
        return dict(zip(names, map(Entry, *figures), strict=True))

    def list(self, folder: str) -> dict[str, int]:
        """Sizes of all objects below a folder, by path relative to it, sorted; empty if there is no such folder."""
        return {path: entry.bytes for path, entry in self.entries(folder).items()}

    def content(self, folder: str) -> dict[str, Entry]:
        """The objects of `entries` that are the content of a folder: all but what is `LIVE`."""
        return {name: entry for name, entry in self.entries(folder).items() if not name.startswith(LIVE)}

    def open(self, path: str) -> IO[bytes]:
        """A readable, seekable stream of an object.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it cannot be read; also while it is read, so that what was read is whole.
        """
        return self._store.open(self.locate(path), self._retry_policy, self._name(path))

    def read_bytes(self, path: str) -> bytes:
        """The whole object; raises FileNotFoundError."""
        location = self.locate(path)
        return self._try(path, lambda: self._store.read(location))

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """`size` bytes of an object from `offset` on; raises EOFError if it ends before."""
        location = self.locate(path)
        data = self._try(path, lambda: self._store.read_part(location, offset, size))
        if len(data) < size:
            raise EOFError(f"{self._name(path)}: ends {size - len(data)} bytes short of {offset}+{size}")
        return data

    def peek(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """Bytes of an object, fewer where it ends, whatever version is there now: for what shows that by its content.

        In one request, but for the first one of a process from a store that is not S3.
        """
        location = self.locate(path)
        return self._try(path, lambda: self._store.peek(location, offset, size))

    def read_many(self, paths: list[str]) -> list[bytes]:
        """Small objects, read side by side, in the order asked for."""
        return self._side_by_side(self.read_bytes, paths)

    def infos(self, paths: list[str]) -> list[Entry | None]:
        """`info` of several objects, in the order asked for."""
        return self._side_by_side(self.info, paths)

    def write_bytes(self, path: str, data: bytes) -> None:
        """Writes a whole object: readers see the old one or the new one."""
        with self.scratch() as folder:
            local = folder / "object"
            local.write_bytes(data)
            self._publish_file(local, path)

    def scratch(self) -> AbstractContextManager[Path]:
        """An empty local folder, gone afterwards; on a local storage it shares the disk, so publishing is a rename.

        A disk that is full, read-only or broken while it is used is a StorageError.
        """
        if not self.is_local:
            temporary = Path(tempfile.gettempdir())
            return scratch_in(temporary, str(temporary), temporary)
        root = Path(self.locate(""))
        return scratch_in(root / _SCRATCH, str(root), root)

    def clean_scratch(self) -> None:
        """Removes what this machine's killed processes left in the storage's scratch and in the temp folder."""
        sweep(Path(tempfile.gettempdir()))
        if self.is_local:
            sweep(Path(self.locate(_SCRATCH)))

    def publish(self, local: Path, path: str, sha256: str = "") -> Output:
        """Moves a finished local file or folder, whose hash may be known, to its place and says what is there now."""
        sha256 = sha256 or hash_local(local)
        if not local.is_dir():
            output = Output(path, sha256, local.stat().st_size)
            self._publish_file(local, path)
            return output
        files = {file.relative_to(local).as_posix(): file for file in folder_files(local)}
        output = Output(path, sha256, sum(file.stat().st_size for file in files.values()))
        for name, file in files.items():
            self._publish_file(file, f"{path}/{name}")
        for name in set(self.content(path)) - set(files):
            self.delete(f"{path}/{name}")
        return output

    def hash_object(self, path: str) -> str | None:
        """sha256 of what is stored under a path, file or folder, as `Output.sha256` states it; None if nothing is."""
        if self.is_local:
            local = Path(self.locate(path))
            return self._try(path, lambda: hash_local(local)) if local.exists() else None
        if self.size(path) is not None:
            return self._hash_remote(path)
        files = self.content(path)
        return hash_folder({name: self._hash_remote(f"{path}/{name}") for name in files}) if files else None

    def _hash_remote(self, path: str) -> str:
        digest = hashlib.sha256()
        with self.open(path) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def fetch_folder(self, path: str, to: Path) -> Path:
        """A local copy of a stored folder, whole or not there; a local one is handed out as it is."""
        if self.is_local:
            return Path(self.locate(path))
        with scratch_in(to.parent, str(to), to.parent) as unfinished:
            for name in self.content(path):
                target = unfinished / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with self.open(f"{path}/{name}") as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK_BYTES)
            unfinished.rename(to)
        return to

    def delete(self, path: str) -> None:
        """Removes an object; it is fine if there is none."""
        location = self.locate(path)
        with contextlib.suppress(FileNotFoundError):
            self._try(path, lambda: self._store.filesystem.delete_file(location))

    def delete_all(self, path: str) -> None:
        """Removes an object, or all objects of a folder; it is fine if there is nothing."""
        if self.size(path) is not None:
            self.delete(path)
        else:
            for name in self.list(path):
                self.delete(f"{path}/{name}")

    def _publish_file(self, local: Path, path: str) -> None:
        location = self.locate(path)
        self._try(path, lambda: self._store.put(local, location))

    def _side_by_side(self, look: Callable[[str], T], paths: list[str]) -> list[T]:
        if self.is_local:
            return [look(path) for path in paths]
        with ThreadPoolExecutor(32) as pool:
            return list(pool.map(look, paths))

    def _try(self, path: str, operation: Callable[[], T]) -> T:
        return self._retry_policy.run(operation, self._name(path))

    def _name(self, path: str) -> str:
        """The object's address as messages name it."""
        return self.locate(path) if self.is_local else self._place.below(path).public


def _listed(infos: list[fs.FileInfo], base: int) -> pa.Table:
    """The files among them; their names begin at `base`."""
    files = [info for info in infos if info.is_file]
    names, sizes = [info.path[base:] for info in files], [info.size for info in files]
    return pa.table([names, sizes, [info.mtime_ns for info in files]], schema=LISTED)

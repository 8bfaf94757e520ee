"""A folder on a local disk or an object store, through pyarrow.fs. What becomes visible is always whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

_SCRATCH = ".tmp"
_CHUNK_BYTES = 4 << 20


class StorageError(OSError):
    """Storage that cannot be used; the message names the URI."""


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


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_folder(files: dict[str, str]) -> str:
    """sha256 of a folder from the hashes of its files by relative path."""
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def folder_files(folder: Path) -> list[Path]:
    """All files below a local folder, sorted by relative path."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hash_local(path: Path) -> str:
    """sha256 of a local file or folder, as `Output.sha256` states it."""
    if path.is_dir():
        return hash_folder({p.relative_to(path).as_posix(): hash_file(p) for p in folder_files(path)})
    return hash_file(path)


@dataclass(frozen=True)
class Storage:
    """Objects below one URI (a local path, s3://, gs://). Pickles as its URI."""

    uri: str

    @cached_property
    def _root(self) -> tuple[fs.FileSystem, str]:
        try:
            if "://" not in self.uri:
                return fs.LocalFileSystem(), str(Path(self.uri).resolve())
            filesystem, path = fs.FileSystem.from_uri(self.uri)
            return filesystem, path.rstrip("/")
        except (OSError, pa.ArrowException, ValueError) as error:
            raise StorageError(f"{self.uri}: cannot be opened: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "uri", state["uri"])

    @property
    def is_local(self) -> bool:
        """Whether the objects are files of this machine."""
        return isinstance(self._root[0], fs.LocalFileSystem)

    def locate(self, path: str) -> str:
        """The path as pyarrow's file system (or, if local, the operating system) knows it."""
        return f"{self._root[1]}/{path}"

    def address(self, path: str) -> str:
        """The path as another program names it: absolute if local, else a URI that keeps the storage's own options."""
        if self.is_local:
            return self.locate(path)
        base, question, options = self.uri.partition("?")
        return f"{base.rstrip('/')}/{path}{question}{options}"

    def info(self, path: str) -> Entry | None:
        """Size and time of an object, None if there is none."""
        info = self._root[0].get_file_info(self.locate(path))
        return Entry(info.size, info.mtime_ns) if info.type == fs.FileType.File else None

    def size(self, path: str) -> int | None:
        """Size of an object in bytes, None if there is none."""
        info = self.info(path)
        return info.bytes if info else None

    def entries(self, folder: str) -> dict[str, Entry]:
        """All objects below a folder, by path relative to it, sorted; empty if there is no such folder. One listing."""
        base = self.locate(folder).rstrip("/")
        selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
        files = (info for info in self._root[0].get_file_info(selector) if info.type == fs.FileType.File)
        ordered = sorted(files, key=lambda info: info.path)
        return {info.path[len(base) + 1 :]: Entry(info.size, info.mtime_ns) for info in ordered}

    def list(self, folder: str) -> dict[str, int]:
        """Sizes of all objects below a folder, by path relative to it, sorted; empty if there is no such folder."""
        return {path: entry.bytes for path, entry in self.entries(folder).items()}

    def open(self, path: str) -> IO[bytes]:
        """A readable, seekable stream of an object; raises FileNotFoundError."""
        return self._root[0].open_input_file(self.locate(path))

    def read_bytes(self, path: str) -> bytes:
        """The whole object; raises FileNotFoundError."""
        with self._root[0].open_input_stream(self.locate(path)) as stream:
            return stream.readall()

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """`size` bytes of an object from `offset` on; raises EOFError if it ends before."""
        with self.open(path) as stream:
            stream.seek(offset)
            data = stream.read(size)
        if len(data) < size:
            raise EOFError(f"{self.address(path)}: ends {size - len(data)} bytes short of {offset}+{size}")
        return data

    def read_many(self, paths: list[str]) -> list[bytes]:
        """Small objects, read side by side, in the order asked for."""
        if self.is_local:
            return [Path(self.locate(path)).read_bytes() for path in paths]
        with ThreadPoolExecutor(32) as pool:
            return list(pool.map(self.read_bytes, paths))

    def write_bytes(self, path: str, data: bytes) -> None:
        """Writes a whole object: readers see the old one or the new one."""
        with self.scratch() as folder:
            local = folder / "object"
            local.write_bytes(data)
            self._publish_file(local, path)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty local folder, gone afterwards; on a local storage it shares the disk, so publishing is a rename."""
        if self.is_local:
            folder = Path(self.locate(_SCRATCH)) / f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
            folder.mkdir(parents=True)
        else:
            folder = Path(tempfile.mkdtemp(prefix="dap-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep_scratch(self) -> None:
        """Removes scratch folders of this machine's processes that were killed."""
        base = Path(self.locate(_SCRATCH))
        if not self.is_local or not base.is_dir():
            return
        for folder in base.iterdir():
            host, pid, _ = [*folder.name.rsplit("-", 2), "", ""][:3]
            if host == socket.gethostname() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, local: Path, path: str) -> Output:
        """Moves a finished local file or folder to its place and says what is there now."""
        if not local.is_dir():
            output = Output(path, hash_file(local), local.stat().st_size)
            self._publish_file(local, path)
            return output
        files = {file.relative_to(local).as_posix(): file for file in folder_files(local)}
        output = Output(path, hash_local(local), sum(file.stat().st_size for file in files.values()))
        for name, file in files.items():
            self._publish_file(file, f"{path}/{name}")
        for name in set(self.list(path)) - set(files):
            self.delete(f"{path}/{name}")
        return output

    def hash_object(self, path: str) -> str | None:
        """sha256 of what is stored under a path, file or folder, as `Output.sha256` states it; None if nothing is."""
        if self.is_local:
            local = Path(self.locate(path))
            return hash_local(local) if local.exists() else None
        if self.size(path) is not None:
            return self._hash_remote(path)
        files = self.list(path)
        return hash_folder({name: self._hash_remote(f"{path}/{name}") for name in files}) if files else None

    def _hash_remote(self, path: str) -> str:
        digest = hashlib.sha256()
        with self.open(path) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def fetch_folder(self, path: str, to: Path) -> Path:
        """A local copy of a stored folder; a local one is handed out as it is."""
        if self.is_local:
            return Path(self.locate(path))
        for name in self.list(path):
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read_bytes(f"{path}/{name}"))
        return to

    def delete(self, path: str) -> None:
        """Removes an object; it is fine if there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._root[0].delete_file(self.locate(path))

    def delete_all(self, path: str) -> None:
        """Removes an object, or all objects of a folder; it is fine if there is nothing."""
        if self.size(path) is not None:
            self.delete(path)
        else:
            for name in self.list(path):
                self.delete(f"{path}/{name}")

    def _publish_file(self, local: Path, path: str) -> None:
        target = self.locate(path)
        if self.is_local:
            _replace_durably(local, Path(target))
        else:
            self._upload(local, target)

    def _upload(self, local: Path, target: str) -> None:
        """An object store shows an object only when its upload is complete; a broken one leaves nothing."""
        with local.open("rb") as source, self._root[0].open_output_stream(target) as sink:
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)


def _replace_durably(local: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    local.chmod(0o644)  # some libraries leave files that others on the cluster could not read
    os.utime(local)  # its time is when it became visible, not when it was begun: a receipt must be the newer one
    descriptor = os.open(local, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    os.replace(local, target)
    directory = os.open(target.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)

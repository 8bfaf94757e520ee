"""Columns and their codecs. The same rows give the same bytes, and nothing is ever unpickled.

A tar column is a WebDataset shard (KEY.ext members, mtime 0, keys rising), a parquet column a small table whose first
field is the key, a folder column a directory of KEY.ext files. Readers need no schema: the suffix says the codec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from .folder import FolderWriter
from .keys import RisingKeys, UniqueKeys
from .parquet import ParquetWriter
from .sample import Row
from .tar import TarWriter

_MAX_JSON_BYTES = 4 << 20


class Writer(Protocol):
    """Takes rows with rising keys; `finish` returns the finished local file or folder."""

    def add(self, row: Row) -> None: ...

    def mark(self) -> Callable[[], None]:
        """Returns what takes back all rows added after this call."""
        ...

    def close(self) -> None:
        """Lets go of what is open, finished or not."""

    def finish(self) -> Path: ...


@dataclass(frozen=True)
class Column(ABC):
    """A named column and how a shard of it is encoded."""

    name: str

    suffix = ""

    def path(self, shard: str) -> str:
        """Place of a shard, relative to the run directory."""
        return f"{self.name}/{shard}{self.suffix}"

    @abstractmethod
    def writer(self, scratch: Path) -> Writer:
        """A writer that works inside the empty folder `scratch`."""


@dataclass(frozen=True)
class TarColumn(Column):
    """WebDataset shards. `fields` are the extensions of a sample; `json` ones take dicts, the others bytes."""

    fields: tuple[str, ...] = ()
    shuffled: bool = False  # keys need not rise: a packed shard, which nothing is joined to
    suffix = ".tar"

    def writer(self, scratch: Path) -> Writer:
        return TarWriter(scratch / "shard.tar", self.fields, UniqueKeys() if self.shuffled else RisingKeys())


@dataclass(frozen=True)
class ParquetColumn(Column):
    """Tables. `schema` is without the key, which is the first field and is named `key_name`."""

    schema: pa.Schema
    key_name: str = "key"
    suffix = ".parquet"

    def writer(self, scratch: Path) -> Writer:
        return ParquetWriter(scratch / "shard.parquet", pa.schema([(self.key_name, pa.string()), *self.schema]))


@dataclass(frozen=True)
class FolderColumn(Column):
    """Folders of KEY.ext files: videos, models, reports."""

    def writer(self, scratch: Path) -> Writer:
        return FolderWriter(scratch / "shard")

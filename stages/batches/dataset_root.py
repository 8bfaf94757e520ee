"""The root of a data set, on disk or on an object store."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic

from ...engine.storage.place import Place
from ...engine.storage.storage import Entry as Stored
from ...engine.storage.storage import Storage
from ...models.datasets.base import DataSet, DatasetError, Entry, Item
from ...models.datasets.catalogue import open_dataset


class DatasetRoot(Generic[Item]):
    """The items of a data set, panoramas of one by its name, below a folder or a URI. Pickles as these two.

    Of a store, the names are laid out in a temporary folder as empty files, in which the data set finds its panoramas.
    The files of one are fetched when it is read, and removed when another is. What a data set looks into to find its
    panoramas, shards, is fetched then, and stays.
    """

    def __init__(self, dataset: str | DataSet[Item], uri: str) -> None:
        self._dataset, self._uri = dataset, uri
        self._set: DataSet[Any] = open_dataset(dataset) if isinstance(dataset, str) else dataset
        place = Place.parse(uri)
        self._public = place.path if place.is_local else replace(place, options="").public  # paths follow it
        self._store = None if place.is_local else Storage(uri)
        self._temporary = None if place.is_local else TemporaryDirectory(prefix="dap-dataset-")
        self._folder = Path(self._temporary.name if self._temporary else place.path)
        self._listed: dict[str, Stored] = {}
        self._staying, self._fetched = set[str](), set[str]()

    def __reduce__(self) -> Any:
        return DatasetRoot, (self._dataset, self._uri)

    def __str__(self) -> str:
        return self._public

    def find(self, split: str | None = None) -> list[Entry]:
        """All items, or those of a split, in a fixed order; DatasetError if there is none."""
        self._listed = self._store.entries("") if self._store else {}
        for name in sorted(self._listed):
            if self._lay_out(name) and (name == split or self._set.looks_into(name)):
                self._fetch(name)
                self._staying.add(name)
        with self._naming_the_root():
            return self._set.find(self._folder, split)

    def read(self, entry: Entry) -> Item:
        """Reads one; DatasetError if a file of it is missing, damaged, or not what it should be."""
        if self._store:
            wanted = set(self._set.files(entry)) - self._staying
            for name in self._fetched - wanted:
                (self._folder / name).unlink(missing_ok=True)
            for name in wanted - self._fetched:
                self._fetch(name)
            self._fetched = wanted
        with self._naming_the_root():
            return self._set.read(self._folder, entry)

    def stats(self, entry: Entry) -> list[tuple[int, int]]:
        """Sizes and times in ns of the files that a panorama found is in; those that are there."""
        names = self._set.files(entry)
        if self._store:
            found = [self._listed[name] for name in names if name in self._listed]
            return [(one.bytes, one.mtime_ns) for one in found]
        files = [self._folder / name for name in names]
        return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]

    def _lay_out(self, name: str) -> bool:
        """Makes an empty file for an object; False where its key can name no file below the folder."""
        if {"", ".", ".."} & set(name.split("/")):
            return False
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:  # keys may be longer than names, and one may go on where another ends: `a`, `a/b`
            if error.errno in (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR):
                return False
            raise
        return True

    def _fetch(self, name: str) -> None:
        if not self._lay_out(name):
            return
        path = self._folder / name
        path.unlink()  # one that is gone is missing for the data set, too
        assert self._store
        with suppress(FileNotFoundError), self._store.open(name) as source, path.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 22)

    @contextmanager
    def _naming_the_root(self) -> Iterator[None]:
        try:
            yield
        except DatasetError as error:
            if self._store:
                error.args = (str(error).replace(str(self._folder), self._public),)
            raise

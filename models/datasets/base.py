"""Labelled panoramas of a data set on disk: finding them, and reading one with its true ray distance.

A data set is a name, a pattern of its image files, and functions that say where the depth of an image lies and how
the two are read. Whatever is wrong with a root, a list or a file is a `DatasetError`: one line that names it.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

import numpy as np

from ..data.images import resize_rgb
from ..support.files import list_lines

_SPACES = "names with spaces in double quotes, or with a tab between the two"
RANGE_M = 100.0
"""What is truly farther counts as beyond the range."""


class DatasetError(ValueError):
    """A root, list or file that is not what it should be; `code` is short and stable, as those of drops."""

    def __init__(self, path: Path | str, problem: str, code: str = "bad_dataset") -> None:
        super().__init__(f"{path}: {problem}")
        self.code = code


@dataclass(frozen=True)
class Entry:
    """An item as found: where its files lie below the root, and its split, empty where there is none."""

    key: str
    image: str
    depth: str
    split: str = ""
    camera: str = ""  # of perspective pictures, where a file says what they were taken with


@dataclass(frozen=True)
class Labelled:
    """A labelled panorama: image (H, W, 3) uint8, depth (H, W) in metres (nan missing, inf beyond), scene type."""

    key: str
    rgb: np.ndarray
    depth_m: np.ndarray
    scene: str


Item = TypeVar("Item")


class DataSet(ABC, Generic[Item]):
    """A kind of data set; an object holds no root, so that one serves any."""

    name: str

    @abstractmethod
    def find(self, root: Path, split: str | None = None) -> list[Entry]:
        """All items below the root, or those of a split, in a fixed order; raises DatasetError if there is none."""

    def files(self, entry: Entry) -> list[str]:
        """The files below the root that an item is read from."""
        return [entry.image, entry.depth, *([entry.camera] if entry.camera else [])]

    def looks_into(self, name: str) -> bool:
        """Whether a file is read already to find items."""
        return False

    @abstractmethod
    def read(self, root: Path, entry: Entry) -> Item:
        """Reads one; raises DatasetError if a file of it is missing, damaged, or not what it should be."""


class PanoramaSet(DataSet[Labelled]):
    """A data set of labelled panoramas."""


@dataclass(frozen=True)
class FileSet(PanoramaSet):
    """Panoramas as pairs of files. A split is one of the set's own, or a list file.

    A list holds a pair `IMAGE DEPTH` a line, relative to the root; names with spaces in double quotes, or with a tab
    between the two. It is looked for in the root, then as a path from here; no file hides a split of the set's own.
    """

    name: str
    scene: str
    pattern: str  # of the images below the root
    depth_of: Callable[[Path, PurePosixPath], str]  # the root and an image below it, to the depth below the root
    read_rgb: Callable[[Path], np.ndarray]
    read_depth_m: Callable[[Path], np.ndarray]  # raw distances in metres; nan where missing
    sees_far: bool = False  # a distance over RANGE_M, or inf, says: beyond the range (inf); else it is a fault (nan)
    has_truth: Callable[[np.ndarray], np.ndarray] | None = None  # image to (H, W): False where its depth is void
    splits: tuple[str, ...] = ()  # the set's own
    split_of: Callable[[PurePosixPath], str] | None = None  # an image below the root to one of them

    def find(self, root: Path, split: str | None = None) -> list[Entry]:
        if not root.is_dir():
            raise DatasetError(root, "no such folder")
        if split and split not in self.splits and (listed := list_file(root, split)):
            found = [self._entry(image, depth) for image, depth in listed_pairs(listed)]
        else:
            found = [entry for entry in self._all(root) if split in (None, entry.split)]
        if not found:
            own = f"; its own splits are {', '.join(self.splits)}" if self.splits else ""
            raise DatasetError(root, f"no panorama of the split {split!r}, which is no list file, either{own}")
        return sorted({entry.key: entry for entry in found}.values(), key=lambda entry: entry.key)

    def _all(self, root: Path) -> Iterator[Entry]:
        images = [path.relative_to(root) for path in root.glob(self.pattern)]
        if not images:
            raise DatasetError(
                root, f"holds no panorama of {self.name}: expected {self.pattern} there{locked_below(root)}"
            )
        for image in sorted(map(PurePosixPath, images)):
            yield self._entry(image, self.depth_of(root, image))

    def _entry(self, image: PurePosixPath, depth: str) -> Entry:
        return Entry(key_of(image), str(image), depth, self.split_of(image) if self.split_of else "")

    def read(self, root: Path, entry: Entry) -> Labelled:
        rgb, depth_m = self.read_rgb(root / entry.image), self.read_depth_m(root / entry.depth)
        rgb = _fitted(rgb, depth_m, root / entry.image, root / entry.depth)
        depth_m = _within_range(depth_m, self.sees_far)
        if self.has_truth:
            depth_m[~self.has_truth(rgb)] = np.nan
        return Labelled(entry.key, rgb, depth_m, self.scene)


def locked_below(root: Path) -> str:
    """The folders below that may not be read, as the end of a message: globbing passes over them in silence."""
    locked: list[str] = []
    for _ in os.walk(root, onerror=lambda error: locked.append(str(error.filename))):
        pass
    return f"; permission denied: {', '.join(sorted(locked)[:3])}" if locked else ""


def _fitted(rgb: np.ndarray, depth_m: np.ndarray, image: Path, depth: Path) -> np.ndarray:
    """The image at the depth map's size; both must be whole panoramas."""
    for path, (height, width) in ((image, rgb.shape[:2]), (depth, depth_m.shape)):
        if width != 2 * height:
            raise DatasetError(path, f"is {width}×{height}, and no panorama of twice its height", "bad_shape")
    return resize_rgb(rgb, *depth_m.shape)


def _within_range(depth_m: np.ndarray, sees_far: bool) -> np.ndarray:
    """Distances in metres with nan where missing, and inf beyond the range for a data set that sees that far."""
    depth_m = depth_m.astype(np.float32)
    depth_m[~(depth_m > 0)] = np.nan
    depth_m[depth_m > RANGE_M] = np.inf if sees_far else np.nan
    return depth_m


def key_of(image: PurePosixPath) -> str:
    """A sample key that stays when the root moves: the end of the path in plain letters, and a hash of it all."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", str(image.with_suffix("")))[-80:].strip("-")
    return f"{name or 'panorama'}-{hashlib.sha256(os.fsencode(image)).hexdigest()[:10]}"


def list_file(root: Path, split: str) -> Path | None:
    """The list of pairs that a split names, in the root or from here; None if it names no file."""
    return next((path for path in (root / split, Path(split)) if path.is_file()), None)


def listed_pairs(path: Path) -> Iterator[tuple[PurePosixPath, str]]:
    """Image and depth of every line of a list; raises DatasetError for one that is no pair below the root."""
    try:
        lines = list_lines(path.read_bytes())
    except OSError as error:
        raise DatasetError(path, f"cannot be read: {error.strerror}", "bad_list") from error
    except ValueError as error:
        raise DatasetError(path, "is no text", "bad_list") from error
    for number, line in lines:
        parts = _columns(line)
        if len(parts) != 2:
            raise DatasetError(
                f"{path}:{number}",
                "expected a pair IMAGE DEPTH (names with spaces in double quotes, or a tab between the two)",
                "bad_list",
            )
        for part in map(PurePosixPath, parts):
            if part.is_absolute() or ".." in part.parts:
                raise DatasetError(f"{path}:{number}", f"{part} leads out of the root", "bad_list")
        yield PurePosixPath(parts[0]), parts[1]


def _columns(line: str) -> list[str]:
    if "\t" in line:
        return [part.strip() for part in line.split("\t")]
    return next(csv.reader([line], delimiter=" ", skipinitialspace=True)) if '"' in line else line.split()

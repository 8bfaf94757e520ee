"""Loose files given on the command line: images as they are, videos as sampled frames."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....models.data.pictures import PICTURE_SUFFIXES, is_picture, read_picture
from ....models.inference.device import choose_device
from ....models.support.files import FileError
from ....models.video.decoder import Decoder
from ....models.video.file import open_video
from ....stages.footage.listing import VIDEO_SUFFIXES
from ...errors import UsageError

MIN_SIDE, MAX_HEIGHT = 16, 8192
_SUFFIXES = PICTURE_SUFFIXES | VIDEO_SUFFIXES


class UnreadableError(UsageError):
    """One of the files given, which cannot be read; the others may be."""


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video: (H, W, 3) uint8, and where it comes from."""

    file: str
    rgb: np.ndarray
    timestamp_s: float | None = None

    @property
    def name(self) -> str:
        """A file name stem for what is made of it."""
        return frame_name(self.file, self.timestamp_s)

    def entry(self) -> dict[str, Any]:
        """The beginning of its entry in a JSON document."""
        return {"file": self.file} | ({} if self.timestamp_s is None else {"timestamp_s": self.timestamp_s})


def frame_name(file: str, timestamp_s: float | None) -> str:
    """A file name stem for what is made of an image, or of a video's frame; those of a video sort by time."""
    stem = Path(file).stem
    return stem if timestamp_s is None else f"{stem}-{timestamp_s:09.3f}s"


def files_in(paths: Sequence[str]) -> list[str]:
    """The paths, in place of each folder the pictures and videos in it; UsageError for one that holds none."""
    files = []
    for path in paths:
        files += _of_folder(Path(path)) if os.path.isdir(path) else [path]
    return files


def _of_folder(folder: Path) -> list[str]:
    found = [str(file) for file in sorted(folder.iterdir()) if file.suffix.lower() in _SUFFIXES and file.is_file()]
    if not found:
        raise UsageError(f"{folder}: is a folder that holds no picture and no video")
    return found


def check_files(files: Sequence[str]) -> None:
    """Raises UsageError for the first that is no file."""
    for file in files:
        if os.path.isdir(file):
            raise UsageError(f"{file}: is a folder; name the files in it")
        if not (os.path.exists(file) or _is_hidden(file)):
            raise UsageError(f"{file}: no such file")


def _is_hidden(file: str) -> bool:
    """Whether a folder on the way does not let us see if there is such a file; reading it will tell."""
    try:
        os.stat(file)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def check_distinct_names(files: Sequence[str]) -> None:
    """Raises UsageError if what is made of two files would have one name."""
    by_stem: dict[str, str] = {}
    for file in files:
        if (other := by_stem.setdefault(Path(file).stem, file)) is not file:
            raise UsageError(f"{other} and {file} would both be written as {Path(file).stem}: give them apart")


def check_sampling(every_s: float, height: int) -> None:
    """Raises UsageError for a distance of frames, or a height, that no video can have."""
    if not (every_s > 0 and math.isfinite(every_s)) or not MIN_SIDE <= height <= MAX_HEIGHT:
        raise UsageError(f"--every must be positive, and --height {MIN_SIDE} to {MAX_HEIGHT}")


def read_pictures(file: str, every_s: float, height: int) -> Iterator[Picture]:
    """The image of a file, or the frames of a video; raises UnreadableError if it cannot be read."""
    try:
        if is_picture(file):
            yield Picture(file, read_picture(file))
            return
        with Decoder() as decoder:
            for frame in decoder.sample_frames(file, every_s, height):
                yield Picture(file, frame.rgb, frame.timestamp_s)
    except FileError as error:
        raise UnreadableError(f"{file}: {error.code}: {error.detail}") from error


def expected_pictures(file: str, every_s: float) -> int:
    """About how many pictures a file will give: what a video's header says, which may be wrong; at least 1."""
    if is_picture(file):
        return 1
    try:
        with open_video(file) as (container, stream):
            seconds = (container.duration or 0) / 1e6
            return max(1, round(seconds * min(1 / every_s, float(stream.average_rate or math.inf))))
    except FileError:
        return 1


def check_device(name: str) -> None:
    """Raises UsageError unless torch can use the device."""
    try:
        torch.empty(0, device=choose_device(name))
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}") from error

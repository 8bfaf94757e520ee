"""Horizon validation of loose files: images and videos, as people try them on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from models.decoder import Decoder
from models.projection import check_panorama
from models.video import VideoError, read_header

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
IMAGE_FORMATS = "image2,jpeg_pipe,png_pipe,webp_pipe"


def inspect_file(path: str | os.PathLike[str], *, every_s: float = 2.0, height: int = 512) -> list[dict[str, Any]]:
    """Judges an image, or every sampled frame of a video. A file that cannot be read is one entry with its code.

    Entries: file, valid, reasons (codes), roll_deg, pitch_deg (None: not estimated), the measurements of
    `models.projection.PanoramaCheck`; frames of videos also frame_index and timestamp_s.
    """
    path = os.fspath(path)
    entries: list[dict[str, Any]] = []
    try:
        if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES:
            entries.append(_entry(path, read_image(path)))
        else:
            entries.extend(_inspect_video(path, every_s, height))
    except VideoError as error:
        entries.append(_unreadable(path, error))
    return entries


def read_image(path: str) -> np.ndarray:
    """Pixels of a JPEG, PNG or WebP as uint8 RGB (H, W, 3). Bombs are refused by their header; raises VideoError."""
    read_header(path, IMAGE_FORMATS)
    bgr = cv2.imread(path, cv2.IMREAD_COLOR)
    if bgr is None:
        raise VideoError("unreadable", "not a picture")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _inspect_video(path: str, every_s: float, height: int) -> Iterator[dict[str, Any]]:
    with Decoder() as decoder:
        for frame in decoder.sample_frames(path, every_s, height):
            where = {"frame_index": frame.frame_index, "timestamp_s": frame.timestamp_s}
            yield _entry(path, frame.rgb, frame.display_aspect) | where


def _entry(path: str, rgb: np.ndarray, display_aspect: float | None = None) -> dict[str, Any]:
    check = check_panorama(rgb, display_aspect)
    verdict = {"file": path, "valid": check.valid, "reasons": list(check.reasons), "roll_deg": None, "pitch_deg": None}
    return verdict | check.measurements()


def _unreadable(path: str, error: VideoError) -> dict[str, Any]:
    reason = {"reasons": [error.code], "detail": error.detail}
    return {"file": path, "valid": False, "roll_deg": None, "pitch_deg": None, **reason}

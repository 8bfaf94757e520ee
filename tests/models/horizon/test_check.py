"""Loose files: every file gives at least one entry, whatever it is."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from dap_engine.models.horizon.check import PanoramaCheck, check_file
from dap_engine.models.horizon.projection import ProjectionMeasures, measure_projection
from dap_engine.models.horizon.tilt import Tilt
from tests.footage import panorama, perspective, write_video


def entries_of(path: Path | str, every_s: float = 2.0, max_tilt_deg: float | None = 15.0) -> list[dict[str, Any]]:
    return [checked.entry for checked in check_file(path, every_s, 512, PanoramaCheck(max_tilt_deg))]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_pictures(tmp_path, suffix):
    good, bad = tmp_path / f"good.{suffix}", tmp_path / f"bad.{suffix}"
    cv2.imwrite(str(good), panorama(192))
    cv2.imwrite(str(bad), perspective(192))
    (entry,) = entries_of(good, max_tilt_deg=None)
    assert entry["valid"]
    assert entry["reasons"] == []
    assert entry["file"] == str(good)
    assert -180 < entry["roll_deg"] <= 180
    assert -90 <= entry["pitch_deg"] <= 90
    (entry,) = entries_of(str(bad))
    assert not entry["valid"]
    assert "open_seam" in entry["reasons"]


def test_a_video_has_an_entry_per_sampled_frame(tmp_path):
    video = write_video(tmp_path / "v.mp4", [panorama(128)] * 25)
    entries = entries_of(video, every_s=1.0, max_tilt_deg=None)
    assert [entry["timestamp_s"] for entry in entries] == pytest.approx([0, 1, 2], abs=2e-3)
    assert all(entry["valid"] for entry in entries)
    json.dumps(entries, allow_nan=False)


def projection(**measured: float) -> ProjectionMeasures:
    """A flawless panorama but for what is given."""
    return replace(measure_projection(panorama(128)), **measured)


def reasons_of(reasons: tuple[str, ...], tilt: Tilt, max_tilt_deg: float | None = 15.0) -> tuple[str, ...]:
    """The verdict where the network says `tilt`."""
    checker = PanoramaCheck(max_tilt_deg, SimpleNamespace(estimate=lambda rgb: tilt))  # type: ignore[arg-type]
    return checker.check(panorama(64), projection(valid=not reasons, reasons=reasons)).reasons


def test_a_panorama_that_leans_too_far_is_tilted():
    leaning = Tilt(12, 12, likely_tilt_deg=16.5, confidence=0.99, p_partial=0, p_perspective=0)
    assert reasons_of((), leaning) == ("tilted",)
    assert reasons_of((), leaning, 17.0) == reasons_of((), leaning, None) == ()
    assert reasons_of((), replace(leaning, likely_tilt_deg=14.5)) == ()


def test_what_is_clearly_something_else_is_not_looked_at_for_tilt():
    stereo = PanoramaCheck().check(panorama(64), projection(valid=False, reasons=("stereo_top_bottom",)))
    assert (stereo.reasons, stereo.tilt) == (("stereo_top_bottom",), None)
    assert stereo.measurements()["roll_deg"] is None


def test_an_open_seam_is_named_by_what_the_network_sees():
    level = Tilt(0.0, 0.0, 0.0, 0.99, p_partial=0.6, p_perspective=0.3)
    assert reasons_of(("open_seam",), level) == ("partial", "open_seam")
    assert reasons_of(("open_seam",), replace(level, p_perspective=0.7)) == ("perspective", "open_seam")
    assert reasons_of(("perspective", "open_seam"), level) == ("perspective", "open_seam")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "half.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.txt").write_text("hello")
    codes = {
        path.name: entries_of(path)[0]["reasons"]
        for path in (tmp_path / "pointer.jpg", tmp_path / "half.png", tmp_path / "empty.mp4", tmp_path / "notes.txt")
    }
    assert codes == {
        "pointer.jpg": ["unreadable"],
        "half.png": ["unreadable"],
        "empty.mp4": ["empty_file"],
        "notes.txt": ["unreadable"],
    }
    assert entries_of(tmp_path / "none.jpg")[0]["reasons"] == ["missing_file"]


@pytest.mark.parametrize("side", [16000, 65535])
def test_an_image_bomb_is_refused_by_its_header(tmp_path, side):
    jpg = bytearray(simplejpeg.encode_jpeg(panorama(64), quality=80))
    start = jpg.index(b"\xff\xc0")
    jpg[start + 5 : start + 9] = side.to_bytes(2) * 2
    (tmp_path / "bomb.jpg").write_bytes(jpg)
    assert entries_of(tmp_path / "bomb.jpg")[0]["reasons"] == ["too_large"]


def test_a_picture_of_too_many_pixels_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "huge.png"), np.zeros((9000, 16000), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert entries_of(tmp_path / "huge.png")[0]["reasons"] == ["too_large"]


def test_a_picture_of_many_megabytes_is_read(tmp_path):
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (2048, 4096, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    assert (tmp_path / "noise.png").stat().st_size > 20e6
    assert "aspect" in entries_of(tmp_path / "noise.png")[0]

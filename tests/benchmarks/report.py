"""`dap report` of a run of 10,000 frames: its time and size, beside small pictures of every frame and label."""

import io
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import simplejpeg
import yaml

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.jobs.__main__ import main
from dap_engine.models.data.depth_png import decode_depth_m
from tests.benchmarks import rehearsal
from tests.benchmarks.measure import Result

FRAMES, SHARDS, HEIGHT = 10_000, 80, 256
_SMALL = (160, 80)


def benchmark(repeats: int) -> Iterator[Result]:
    """Frames, tags, labels, scores and a selection by stand-ins; measured once, as it takes minutes to make them."""
    with TemporaryDirectory() as folder:
        recipe, run_dir = Path(folder) / "report.yaml", Path(folder) / "run"
        recipe.write_text(yaml.safe_dump(rehearsal.recipe(FRAMES, SHARDS, HEIGHT), sort_keys=False))
        _dap("run", str(recipe), "--run-dir", str(run_dir), "--until", "select-1")
        bare_s = _small_pictures_s(RunDir(str(run_dir)))
        began_s = time.perf_counter()
        _dap("report", "--run-dir", str(run_dir), "--out", f"{folder}/site")
        report_s = time.perf_counter() - began_s
        size = sum(path.stat().st_size for path in Path(folder, "site").rglob("*") if path.is_file())
    yield Result(
        f"report of {FRAMES:,} frames of {HEIGHT}×{2 * HEIGHT}",
        "a small picture of every frame and label, one process",
        f"{report_s / bare_s:.2f}",
        "within 2 min, 50 MB",
        f"{report_s:.0f} s against {bare_s:.0f} s; {size / 1e6:.0f} MB",
    )


def _dap(*words: str) -> None:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
        if main([*words]):
            raise RuntimeError(said.getvalue())


def _small_pictures_s(run: RunDir) -> float:
    """Decodes, shrinks and encodes; the frames by a decoder that shrinks as it decodes."""
    began_s = time.perf_counter()
    for receipt in run.receipts("frames").values():
        for row in run.rows(receipt):
            rgb = simplejpeg.decode_jpeg(row.fields["jpg"], min_height=_SMALL[1], min_width=_SMALL[0])
            simplejpeg.encode_jpeg(cv2.resize(rgb, _SMALL, interpolation=cv2.INTER_AREA), 80)
    for receipt in run.receipts("labels-1").values():
        for row in run.rows(receipt):
            depth_m = cv2.resize(decode_depth_m(row.fields["depth.png"]), _SMALL, interpolation=cv2.INTER_AREA)
            simplejpeg.encode_jpeg(cv2.applyColorMap(depth_m.clip(0, 255).astype("uint8"), cv2.COLORMAP_TURBO), 80)
    return time.perf_counter() - began_s

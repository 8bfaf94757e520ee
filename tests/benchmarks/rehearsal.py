"""The paper's full run, rehearsed on one machine: dap2m's steps with stand-ins for every network, on tiny pictures.

    python -m tests.benchmarks.rehearsal --run-dir runs/rehearsal                            0.17M frames, 1,300 shards
    python -m tests.benchmarks.rehearsal --run-dir runs/rehearsal --frames 1700000 --shards 13000
    python -m tests.benchmarks.rehearsal --run-dir runs/rehearsal --frames 2600 --shards 20 --s3     counts requests

The run is killed with all its processes every `--kill-every-s` seconds, and begun again by the same command, until it
is done or its time is over (`--give-up-after-s`). Of a run that is done, `dap verify` reads all. With `--s3`, the run
lies on an S3 server on loopback, which is slow: for small ones, whose requests are counted. What is printed goes into
BENCHMARKS.md by hand.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import psutil
import simplejpeg
import yaml
from pyarrow import fs

from dap_engine.engine import Column, Row, Sample, SourceStage, StageContext, TarColumn
from dap_engine.models.tagging.tagger import Tagger
from dap_engine.stages.score import Score
from dap_engine.stages.tag import Tag
from tests.benchmarks.table import describe_machine

HEIGHT, FRAMES_A_VIDEO, PICTURES = 32, 7, 256  # height in rows
_LOOK_EVERY_S = 1.0


@dataclass
class MadeFrames(SourceStage):
    """What `extract` would write of videos with seven frames each: noise, smooth as a panorama is."""

    frames: int
    total_shards: int
    height: int = HEIGHT

    name = "made-frames"

    @property
    def writes(self) -> Column:
        return TarColumn("frames", ("jpg", "json"))

    def shards(self) -> Sequence[str]:
        return [f"{number:06d}" for number in range(self.total_shards)]

    def source(self, shard: str) -> Iterator[Sample]:
        number = int(shard)
        for frame in range(number * self.frames // self.total_shards, (number + 1) * self.frames // self.total_shards):
            yield Sample(f"v{frame // FRAMES_A_VIDEO:09d}-{frame % FRAMES_A_VIDEO:08d}", {"frame": frame})

    def process(self, batch: list[Sample]) -> Iterator[Row]:
        for sample in batch:
            video_id, _, index = sample.key.partition("-")
            facts = {"video_id": video_id, "frame_index": int(index), "timestamp_s": float(index), "shot": 0}
            shape = {"width": 2 * self.height, "height": self.height, "hash": f"{sample['frame']:064x}"}
            split = "val" if int(video_id[1:]) % 200 == 0 else "train"
            picture = _picture(sample["frame"] % PICTURES, self.height)
            yield Row(sample.key, {"jpg": picture, "json": {**facts, **shape, "split": split}})


@cache
def _picture(number: int, height: int) -> bytes:
    coarse = np.random.Generator(np.random.PCG64(number)).uniform(0, 255, (4, 8, 3)).astype(np.float32)
    rgb = cv2.resize(coarse, (2 * height, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), 90)


def label(rgb: np.ndarray) -> np.ndarray:
    """A labeler: the brighter the nearer, in metres."""
    return 1 + (255 - rgb.mean(axis=2, dtype=np.float32)) / 8


class _Scene:
    def prepare(self, rgb: np.ndarray) -> float:
        return float(rgb[0, 0, 0]) / 16 - 8

    def log_odds(self, prepared: list[float]) -> list[float]:
        return prepared


class _Scorer:
    def score(self, rgbs: list[np.ndarray], depths_m: list[np.ndarray]) -> list[float]:
        return [float(depth_m.mean()) for depth_m in depths_m]


@dataclass
class StandInTag(Tag):
    """`tag`, by the first pixel."""

    def setup(self, context: StageContext) -> None:
        self._tagger = Tagger("stand-in", _Scene(), self.threshold)


@dataclass
class StandInScore(Score):
    """`score`, by the mean distance."""

    model: str | None = "stand-in"  # pyright: ignore[reportIncompatibleVariableOverride]

    def assets(self) -> dict[str, str]:
        return {}

    def check(self) -> None:
        """There is no model to look for."""

    def setup(self, context: StageContext) -> None:
        self._scorer = _Scorer()  # pyright: ignore[reportAttributeAccessIssue]


def recipe(frames: int, shards: int, height: int = HEIGHT) -> dict:
    """dap2m's steps from frames to the last training; of each scene it selects as large a share as there."""
    here, top = "tests.benchmarks.rehearsal", round(frames * 0.18)
    network = {"config": {"image_height": height, "head_channels": [8, 8, 8, 8], "head_features": 8}}
    training = {"steps": 2, "backbone_lr": 1e-4, "decoder_lr": 1e-4}
    batches = {"image_height": height, "batch_size": 4, "num_workers": 0}
    labeler = {"step": "label", "model": f"python:{here}:label", "batch_size": 16}
    final = {"network": network, "training": training, "batches": batches}
    return {
        "name": "rehearsal",
        "executor": "ray",
        "steps": {
            "frames": {"step": f"{here}:MadeFrames", "frames": frames, "total_shards": shards, "height": height},
            "tag": {"step": f"{here}:StandInTag"},
            "label-1": {**labeler, "round": 1},
            "score-1": {"step": f"{here}:StandInScore"},
            "select-1": {"step": "select", "round": 1, "top": {"indoor": top, "outdoor": top}},
            "pack-selected": {
                "step": "pack",
                "train": "selected",
                "sources": [{"images": "frames", "labels": "labels-1", "selection": "selection-1"}],
            },
            "labeler-2": {"step": "train", "model": "labeler-2", "data": "train-selected", **final},
            "label-2": {**labeler, "round": 2},
            "pack-final": {"step": "pack", "train": "final", "sources": [{"images": "frames", "labels": "labels-2"}]},
            "dap": {"step": "train", "model": "dap", "data": "train-final", **final},
        },
    }


def main() -> None:
    """Runs, kills, begins again, verifies, and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=170_000)
    parser.add_argument("--shards", type=int, default=1_300)
    parser.add_argument("--kill-every-s", type=float, default=600.0)
    parser.add_argument("--give-up-after-s", type=float, default=2 * 3600.0)
    parser.add_argument("--s3", action="store_true", help="on an S3 server on loopback, whose requests are counted")
    options = parser.parse_args()
    options.run_dir.mkdir(parents=True, exist_ok=True)
    file = options.run_dir.parent / f"{options.run_dir.name}.yaml"
    file.write_text(yaml.safe_dump(recipe(options.frames, options.shards), sort_keys=False))
    with _counting_s3() if options.s3 else nullcontext((str(options.run_dir), Counter[str]())) as (place, requests):
        _rehearse([sys.executable, "-m", "dap_engine.jobs"], str(file), place, options)
        print(describe_machine())
        files = [path for path in options.run_dir.rglob("*") if path.is_file()]
        if options.s3:
            each = ", ".join(f"{count / options.shards:.0f} {kind}" for kind, count in sorted(requests.items()))
            print(f"{requests.total():,} requests, verifying included; for each shard of frames: {each}")
        else:
            print(f"{len(files):,} files, {sum(path.stat().st_size for path in files) / 2**30:.2f} GiB")


def _rehearse(dap: list[str], recipe_file: str, run_dir: str, options: argparse.Namespace) -> None:
    began_s, kills, peak_bytes, done = time.monotonic(), 0, 0, False
    while not done and (left_s := began_s + options.give_up_after_s - time.monotonic()) > 0:
        kill_after_s = min(options.kill_every_s, left_s)
        seconds, bytes_held, code = _run([*dap, "run", recipe_file, "--run-dir", run_dir], kill_after_s)
        peak_bytes, done, kills = max(peak_bytes, bytes_held), code == 0, kills + (code is None)
        print(f"{'killed' if code is None else f'ended with {code}'} after {seconds:.0f} s", flush=True)
        if code:
            raise SystemExit(code)
    took_s = time.monotonic() - began_s
    how = f"{took_s / 60:.1f} min, killed {kills} times{'' if done else ', not done'}"
    print(f"{options.frames:,} frames in {options.shards:,} shards: {how}; driver {peak_bytes / 2**20:.0f} MiB at most")
    if not done:
        return
    began_s = time.monotonic()
    said = subprocess.run([*dap, "verify", "--run-dir", run_dir, "--json"], capture_output=True, text=True, check=False)
    verified = json.loads(said.stdout)
    print(f"verify {time.monotonic() - began_s:.0f} s: ok {verified['ok']}, {verified['samples']}")


@contextmanager
def _counting_s3() -> Iterator[tuple[str, Counter[str]]]:
    """The URI of an empty run on an S3 server, and the requests that it gets, by method."""
    from moto.server import ThreadedMotoServer

    from tests.engine.storage.faulty_s3 import Fault, FaultyS3, Request

    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    store = fs.S3FileSystem(endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True)
    store.create_dir("rehearsal")
    proxy, requests = FaultyS3(f"{host}:{port}"), Counter[str]()

    def count(request: Request) -> Fault:
        requests[request.method] += 1
        return Fault.NONE

    proxy.fault = count
    yield f"s3://rehearsal/run?endpoint_override={quote(proxy.endpoint)}&scheme=http", requests
    proxy.go_away()
    server.stop()


def _run(command: list[str], kill_after_s: float) -> tuple[float, int, int | None]:
    """Seconds, the driver's largest resident memory, and the exit code; None if it was killed for the time's sake."""
    with subprocess.Popen(command, start_new_session=True) as process:
        began_s, most, watched = time.monotonic(), 0, psutil.Process(process.pid)
        while process.poll() is None:
            time.sleep(_LOOK_EVERY_S)
            try:
                most = max(most, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            if time.monotonic() - began_s > kill_after_s:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return time.monotonic() - began_s, most, None
        return time.monotonic() - began_s, most, process.wait()


if __name__ == "__main__":
    main()

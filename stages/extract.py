"""Videos to panoramas: a frame every few seconds, kept if it is a whole equirectangular picture."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import unquote, urlsplit

import pyarrow.fs
import simplejpeg

from engine.assets import RUN_SCHEME
from engine.columns import Column, TarColumn
from engine.stage import Drop, Row, Sample, Stage
from models.decoder import Decoder
from models.horizon import HorizonJudge, Judgement
from models.projection import check_panorama
from models.tilt import EMBEDDED_WEIGHTS, Tilt, TiltEstimator, levelled
from models.video import VideoError, VideoFrame

MIN_CONFIDENCE = 0.95  # of an estimate that a panorama is turned by: an expected error below 20°
MIN_VALID_SHARE = 0.5  # of the frames judged; below, the video itself is no panorama and its good frames are chance
HOPELESS_AFTER = 30  # frames judged and none valid: the rest is not decoded
RETRYABLE = frozenset(
    {"decode_timeout", "decode_memory", "decode_crashed", "unreachable"}
)  # may be the machine's fault


@dataclass
class Extract(Stage):
    """Reads the plan, writes `frames`: JPEGs of (height, 2 * height) with their origin and measurements."""

    every_s: float = 2.0
    height: int = 512
    max_frames: int | None = None
    max_tilt_deg: float | None = None  # None: the tilt is not looked at
    level: bool = False  # turns tilted panoramas upright instead of dropping them
    jpeg_quality: int = 95
    timeout_s: float = 120.0
    memory_gb: float = 6.0
    threads: int = 1

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 2
    sample_limit_s: ClassVar[float] = 6 * 3600.0  # a sample is a whole video; the decoder watches over each frame

    def __post_init__(self) -> None:
        if self.every_s <= 0 or self.height < 32 or not 1 <= self.jpeg_quality <= 100:
            raise ValueError("extract: every_s must be positive, height at least 32, jpeg_quality 1 to 100")
        if self.timeout_s <= 0 or self.memory_gb <= 0 or self.threads < 1:
            raise ValueError("extract: timeout_s and memory_gb must be positive, threads at least 1")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError("extract: max_frames must be at least 1")
        if self.max_tilt_deg is not None and not 0 < self.max_tilt_deg <= 180:
            raise ValueError("extract: max_tilt_deg must be above 0 and at most 180")
        if self.level and self.max_tilt_deg is None:
            raise ValueError("extract: level needs max_tilt_deg, beyond which a panorama is turned upright")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("plan",)

    @property
    def writes(self) -> Column:
        return TarColumn(name="frames", fields=("jpg", "json"))

    def assets(self) -> dict[str, str]:
        tilt = {"tilt": str(EMBEDDED_WEIGHTS)} if self.max_tilt_deg else {}
        return {"run": RUN_SCHEME, **tilt}  # videos may have been made by the run itself

    def setup(self, assets: Mapping[str, str]) -> None:
        self._run_uri = assets["run"]
        self._decoder = Decoder(
            timeout_s=self.timeout_s, memory_bytes=int(self.memory_gb * 2**30), threads=self.threads
        )
        estimator = TiltEstimator(Path(assets["tilt"])) if self.max_tilt_deg else None
        self._horizon = HorizonJudge(self.max_tilt_deg, estimator) if estimator else None

    def teardown(self) -> None:
        if decoder := getattr(self, "_decoder", None):
            decoder.close()

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            try:
                yield from self._video(sample.key, sample["plan"])
            except VideoError as error:
                yield Drop(sample.key, error.code, error.detail, retryable=error.code in RETRYABLE)

    def _video(self, video_id: str, plan: Mapping[str, Any]) -> Iterator[Row | Drop]:
        """Judges the whole video before the first row goes out: a late decoding error takes back nothing."""
        with tempfile.TemporaryFile() as scratch:
            outcomes = self._judge_frames(video_id, plan, scratch)
            if drop := _verdict(video_id, outcomes):
                yield drop
            else:
                yield from (outcome if isinstance(outcome, Drop) else outcome.row(scratch) for outcome in outcomes)

    def _judge_frames(self, video_id: str, plan: Mapping[str, Any], scratch: IO[bytes]) -> list[_Kept | Drop]:
        outcomes: list[_Kept | Drop] = []
        with local_copy(plan["uri"], self._run_uri) as path:
            for frame in self._decoder.sample_frames(path, self.every_s, self.height, max_frames=self.max_frames):
                outcomes.append(self._judge(video_id, frame, plan, scratch))
                if len(outcomes) >= HOPELESS_AFTER and all(isinstance(outcome, Drop) for outcome in outcomes):
                    break
        return outcomes

    def _judge(self, video_id: str, frame: VideoFrame, plan: Mapping[str, Any], scratch: IO[bytes]) -> _Kept | Drop:
        key = f"{video_id}-{frame.frame_index:08d}"
        check = check_panorama(frame.rgb, frame.display_aspect)
        judgement = self._horizon.judge(frame.rgb, check) if self._horizon else Judgement(check.reasons, check, None)
        upright = self._to_level_by(judgement)
        if not (judgement.valid or upright):
            return Drop(key, judgement.reasons[0], " ".join(judgement.reasons[1:]))
        rgb = levelled(frame.rgb, upright) if upright else frame.rgb
        jpg = simplejpeg.encode_jpeg(rgb, quality=self.jpeg_quality, colorspace="RGB", colorsubsampling="420")
        offset = scratch.seek(0, 2)
        scratch.write(jpg)
        return _Kept(key, offset, len(jpg), _metadata(video_id, frame, judgement, plan))

    def _to_level_by(self, judgement: Judgement) -> Tilt | None:
        """The estimate to turn a panorama upright by, if it is tilted, that is wanted, and the estimate is sure."""
        tilt = judgement.tilt
        wanted = self.level and judgement.reasons == ("tilted",)
        return tilt if wanted and tilt and tilt.confidence >= MIN_CONFIDENCE else None


@dataclass(frozen=True)
class _Kept:
    """A frame that waits for its video's verdict; the JPEG waits on disk, so that memory stays flat."""

    key: str
    offset: int
    length: int
    metadata: dict[str, Any]

    def row(self, scratch: IO[bytes]) -> Row:
        scratch.seek(self.offset)
        return Row(self.key, {"jpg": scratch.read(self.length), "json": self.metadata})


def _metadata(video_id: str, frame: VideoFrame, judgement: Judgement, plan: Mapping[str, Any]) -> dict[str, Any]:
    """`horizon` is what was measured before the frame was levelled, if it was."""
    height, width = frame.rgb.shape[:2]
    return {
        "video_id": video_id,
        "split": plan["split"],
        "frame_index": frame.frame_index,
        "timestamp_s": frame.timestamp_s,
        "width": width,
        "height": height,
        "horizon": {**judgement.measurements(), "levelled": not judgement.valid},
    }


def _verdict(video_id: str, outcomes: list[_Kept | Drop]) -> Drop | None:
    """A drop of the whole video where too few frames are valid, with the most frequent reason."""
    if not outcomes:
        return Drop(video_id, "no_frames")
    drops = [outcome for outcome in outcomes if isinstance(outcome, Drop)]
    if len(drops) <= (1 - MIN_VALID_SHARE) * len(outcomes):
        return None
    code, count = Counter(drop.code for drop in drops).most_common(1)[0]
    detail = next(drop.detail for drop in drops if drop.code == code)
    return Drop(video_id, code, f"{count} of {len(outcomes)} frames; {detail}".rstrip("; "))


@contextmanager
def local_copy(uri: str, run_uri: str) -> Iterator[str]:
    """A local path of the object: its own for paths and file URIs, a temporary download for s3:// and gs://.

    `run:NAME` is an object of the run directory at `run_uri`.
    """
    if uri.startswith(RUN_SCHEME):
        base, question, options = run_uri.partition("?")  # options of the storage, such as its endpoint
        uri = f"{base.rstrip('/')}/{uri.removeprefix(RUN_SCHEME)}{question}{options}"
    parts = urlsplit(uri)
    if "://" not in uri or parts.scheme == "file":
        yield unquote(parts.path) if "://" in uri else uri
        return
    suffix = os.path.splitext(parts.path)[1]
    with tempfile.NamedTemporaryFile(suffix=suffix) as copy:
        _download(uri, copy)
        copy.flush()
        yield copy.name


def _download(uri: str, copy: IO[bytes]) -> None:
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
        with filesystem.open_input_stream(path) as stream:
            shutil.copyfileobj(stream, copy, 1 << 22)
    except FileNotFoundError as error:
        raise VideoError("missing_file", uri) from error
    except OSError as error:
        raise VideoError("unreachable", f"{uri}: {str(error).splitlines()[0]}") from error

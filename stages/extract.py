"""Videos to panoramas: a frame every few seconds, kept if it is a whole equirectangular picture and something new."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ..engine.records.column import Column, TarColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.step import Stage, StageContext
from ..models.frames.yaw_hash import HASH_BITS
from ..models.video.decoder import Decoder
from ..models.video.file import VideoError
from ..models.video.frames import Eye, Library, OnMissing, spread
from .batches.checks import ChecksPanoramas, measured
from .batches.model_failure import model_failures_end_the_run
from .footage.fetch import local_copy
from .footage.web import Fetch

if TYPE_CHECKING:
    from ..models.frames.selection import SelectedFrame
    from ..models.frames.summary import VideoSummary

CANDIDATES = 2  # frames looked at for each of `max_frames`, so that some may be dropped
RETRYABLE = frozenset(
    {"decode_timeout", "decode_memory", "decode_crashed", "unreachable", "permission_denied"}
)  # maybe the machine's fault


@dataclass
class Extract(ChecksPanoramas, Stage):
    """Reads the plan, writes `frames`: JPEGs of (height, 2 * height) with their origin and measurements.

    every_s: seconds between frames. snap_to_keyframes: take the nearest key frames, which decodes nothing else.
    max_frames: of a video at most, spread over all of it. near_duplicate_bits: of 255; frames whose yaw-invariant
    hashes differ by no more are `near_duplicate`, still ones `frozen` (None: none is). stereo: `left_eye` keeps the
    left eye of stereo panoramas. timeout_s, memory_gb: of the decoder, without a frame and in all. threads: of the
    decoder. decoder: `decord` reads by decord2, which gives the same frames or none of a video. fetch: of videos on web
    servers.
    """

    every_s: float = 2.0
    snap_to_keyframes: bool = False
    max_frames: int | None = None
    near_duplicate_bits: int | None = 16
    stereo: Literal["drop", "left_eye"] = "drop"
    timeout_s: float = 120.0
    memory_gb: float = 6.0
    threads: int = 1
    decoder: Library = "pyav"
    fetch: Fetch = field(default_factory=Fetch)

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 5
    sample_limit_s: ClassVar[float] = 6 * 3600.0  # a sample is a whole video; the decoder watches over each frame

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every_s <= 0:
            raise ValueError("extract: every_s must be positive")
        if self.timeout_s <= 0 or self.memory_gb <= 0 or self.threads < 1:
            raise ValueError("extract: timeout_s and memory_gb must be positive, threads at least 1")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError("extract: max_frames must be at least 1")
        if self.near_duplicate_bits is not None and not 0 <= self.near_duplicate_bits < HASH_BITS:
            raise ValueError(f"extract: near_duplicate_bits must be at least 0 and below {HASH_BITS}")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("plan",)

    @property
    def writes(self) -> Column:
        return TarColumn(name="frames", fields=("jpg", "json"))

    def settings(self) -> dict[str, Any]:
        left_out = {"fetch"} | ({"decoder"} if self.decoder == "pyav" else set())
        return {name: value for name, value in super().settings().items() if name not in left_out}

    def setup(self, context: StageContext) -> None:
        self._run_uri = context.storage.address("")  # videos may have been made by the run itself
        self._decoder = Decoder(
            timeout_s=self.timeout_s,
            memory_bytes=int(self.memory_gb * 2**30),
            threads=self.threads,
            library=self.decoder,
        )
        self._decoder.start()
        self.start_checks(context.assets)

    def teardown(self) -> None:
        if decoder := getattr(self, "_decoder", None):
            decoder.close()

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            try:
                with model_failures_end_the_run():
                    yield from self._video(sample.key, sample["plan"])
            except VideoError as error:
                yield Drop(sample.key, error.code, error.detail, retryable=error.code in RETRYABLE)

    def _video(self, video_id: str, plan_row: Mapping[str, Any]) -> Iterator[Row | Drop]:
        """Reads the whole video before it yields: after a late decoding error there is nothing to take back."""
        with local_copy(plan_row["uri"], self._run_uri, self.fetch) as path, tempfile.TemporaryFile() as scratch:
            outcomes, summary = self._read(path, "left" if self._one_eye else "both", video_id, plan_row, scratch)
            if self._one_eye and summary.eye:  # stereo that the file does not declare, but its pictures show
                outcomes, summary = self._read(path, summary.eye, video_id, plan_row, scratch)
            if summary.drop:
                yield Drop(video_id, *summary.drop)
                return
            kept = np.array([one.key for one in outcomes if isinstance(one, _Kept)])
            wanted = set(spread(kept, self.max_frames).tolist())
            for outcome in outcomes:
                if isinstance(outcome, Drop):
                    yield outcome
                elif outcome.key in wanted:
                    yield outcome.row(scratch)

    @property
    def _one_eye(self) -> bool:
        return self.stereo == "left_eye"

    def _read(
        self, path: str, eye: Eye, video_id: str, plan_row: Mapping[str, Any], scratch: IO[bytes]
    ) -> tuple[list[_Kept | Drop], VideoSummary]:
        """The outcome of every frame; ends early where the rest of the video need not be read."""
        from ..models.frames.summary import VideoSummary

        outcomes, summary, missing = [], VideoSummary(), list[int]()
        with closing(self._frames(path, eye, plan_row, missing.append)) as frames:
            for selected in frames:
                summary.add(selected.code, selected.detail)
                outcomes.append(self._outcome(selected, video_id, plan_row, scratch))
                if summary.is_hopeless or (self._one_eye and eye == "left" and summary.eye):
                    break
        outcomes += [Drop(_key(video_id, frame_index), "not_decoded") for frame_index in missing]
        return sorted(outcomes, key=lambda outcome: outcome.key), summary

    def _frames(
        self, path: str, eye: Eye, plan_row: Mapping[str, Any], on_missing: OnMissing
    ) -> Generator[SelectedFrame]:
        from ..models.frames.selection import FrameSelector

        analyzer = self.analyzer(eye)
        most = CANDIDATES * self.max_frames if self.max_frames else None
        decoding = self._decoder.sample_frames(
            path,
            self.every_s,
            self.height,
            max_frames=most,
            snap_to_keyframes=self.snap_to_keyframes,
            start_s=plan_row.get("start_s") or 0.0,
            end_s=plan_row.get("end_s"),
            eye=eye,
            on_missing=on_missing,
        )
        with closing(decoding) as frames:  # also after an error: the decoder is free for the next video
            yield from FrameSelector(self.near_duplicate_bits).select(map(analyzer.analyze, frames))

    def _outcome(
        self, selected: SelectedFrame, video_id: str, plan_row: Mapping[str, Any], scratch: IO[bytes]
    ) -> _Kept | Drop:
        analyzed = selected.analyzed
        key = _key(video_id, analyzed.frame.frame_index)
        if selected.code:
            return Drop(key, selected.code, selected.detail)
        jpg = self.encode_kept(analyzed)
        offset = scratch.seek(0, 2)
        scratch.write(jpg)
        return _Kept(key, offset, len(jpg), _metadata(selected, video_id, plan_row))


@dataclass(frozen=True)
class _Kept:
    """A frame that is kept if its video is; its JPEG lies in the scratch file, so that memory does not grow."""

    key: str
    offset: int
    length: int
    metadata: dict[str, Any]

    def row(self, scratch: IO[bytes]) -> Row:
        scratch.seek(self.offset)
        return Row(self.key, {"jpg": scratch.read(self.length), "json": self.metadata})


def _key(video_id: str, frame_index: int) -> str:
    return f"{video_id}-{frame_index:08d}"


def _metadata(selected: SelectedFrame, video_id: str, plan_row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "video_id": video_id,
        "split": plan_row["split"],
        "frame_index": selected.analyzed.frame.frame_index,
        "timestamp_s": selected.analyzed.frame.timestamp_s,
        "shot": selected.shot,
        **measured(selected.analyzed),
    }

"""What is known of a video without decoding it: how long it is, and a hash that tells whether it has changed.

Headers are read by ranges, also from object stores; a video of hours costs a few requests. Files are not trusted: the
driver opens them in a child process, and on Ray the stage runs in a child process anyway.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import IO, Any, ClassVar

import av
import pyarrow as pa
from av.container import InputContainer
from av.error import FFmpegError

from ...engine.child_process import ChildError, ChildProcess, Parent
from ...engine.records.column import Column, ParquetColumn
from ...engine.records.sample import Row, Sample
from ...engine.steps.step import SourceStage, StageContext
from ...engine.storage.place import Place
from ...models.video.file import VIDEO_FORMATS
from .fetch import open_place, resolved

_SAMPLES, _SAMPLE_BYTES = 3, 64 << 10  # at the beginning, in the middle, at the end: what a new recording changes
_AT_ONCE = 16  # mostly they wait for storage
_START_S, _EACH_S = 30.0, 2.0  # that a child may take
_LONGEST_S = 7 * 24 * 3600.0  # a header that claims more is not believed
_LATE_S = 1.0  # a start that is worth a look
_OPTIONS = {"format_whitelist": VIDEO_FORMATS, "analyzeduration": "100000"}


@dataclass(frozen=True)
class VideoInfo:
    """Of one video. seconds: None if unknown; bytes: -1 if unknown; content: a hash of samples of its bytes."""

    seconds: float | None = None
    bytes: int = -1
    content: str = ""


def read_video_info(uri: str) -> VideoInfo:
    """Opens a path or URI. Of what cannot be read nothing is known: extraction will give the reason."""
    try:
        with open_place(Place.parse(uri)) as file:
            size = file.seek(0, 2)
            return VideoInfo(_seconds(file), size, _content(file, size))
    except OSError:
        return VideoInfo()


def read_video_infos(uris: Sequence[str]) -> list[VideoInfo]:
    """The same of many, several at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(read_video_info, uris))


def read_video_infos_in_child(uris: Sequence[str]) -> list[VideoInfo]:
    """The same in a child process; of a file that makes it crash or hang nothing is known."""
    try:
        with ChildProcess(_send_all, list(uris), log=subprocess.DEVNULL) as child:
            return [VideoInfo(**info) for info in child.receive(_START_S + _EACH_S * len(uris))]
    except ChildError as error:
        if error.code == "raised":
            raise RuntimeError(f"the headers of videos cannot be read:\n{error.traceback}") from error
    if len(uris) <= 1:
        return [VideoInfo()] * len(uris)
    half = len(uris) // 2  # one of the files is the cause: the halves are tried by themselves
    return read_video_infos_in_child(uris[:half]) + read_video_infos_in_child(uris[half:])


def _send_all(parent: Parent, uris: Sequence[str]) -> None:
    parent.send([asdict(info) for info in read_video_infos(uris)])


def _seconds(file: IO[bytes]) -> float | None:
    if file.seek(0, 2) == 0:
        return None
    file.seek(0)
    try:
        with av.open(file, mode="r", metadata_errors="ignore", options=_OPTIONS) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                return None
            if stream.duration and stream.time_base:
                seconds = float(stream.duration * stream.time_base)
            else:
                seconds = (container.duration or 0) / av.time_base
            if container.format.name.startswith("matroska"):
                seconds -= _late_s(container, stream)
            return round(seconds, 3) if 0 < seconds < _LONGEST_S else None
    except FFmpegError:
        return None


def _late_s(container: InputContainer, stream: av.VideoStream) -> float:
    """When the first picture is shown, if that is late: a Matroska's length counts from zero on."""
    first = next((packet.pts for packet in container.demux(stream) if packet.pts is not None), 0)
    late_s = float(first * (stream.time_base or 1))
    return late_s if late_s > _LATE_S else 0.0


def _content(file: IO[bytes], size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    for number in range(_SAMPLES):
        file.seek(max(0, size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
        digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]


@dataclass
class ReadVideoInfo(SourceStage):
    """Videos to `video-info`. `work` holds their URIs by key, by shard. The plan deletes the output when it has it."""

    name: ClassVar[str] = "read-video-info"
    batch_size: ClassVar[int] = 32  # type: ignore[misc] - not a recipe's setting

    work: Mapping[str, Mapping[str, str]]

    @property
    def writes(self) -> Column:
        schema = pa.schema([("seconds", pa.float64()), ("bytes", pa.int64()), ("content", pa.string())])
        return ParquetColumn("video-info", schema)

    def settings(self) -> dict[str, Any]:
        return {"work": hashlib.sha256(json.dumps(self.work, sort_keys=True).encode()).hexdigest()}

    def setup(self, context: StageContext) -> None:
        self._run_uri = context.storage.address("")

    def shards(self) -> Sequence[str]:
        return sorted(self.work)

    def source(self, shard: str) -> Iterator[Sample]:
        return (Sample(key, {"video": {"uri": uri}}) for key, uri in sorted(self.work[shard].items()))

    def process(self, batch: list[Sample]) -> Iterator[Row]:
        infos = read_video_infos([resolved(sample["video"]["uri"], self._run_uri) for sample in batch])
        return (Row(sample.key, asdict(info)) for sample, info in zip(batch, infos, strict=True))

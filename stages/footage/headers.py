"""What can be told of a video without decoding it: how long it is, and whether it is still the same file.

Headers are read by ranges, also from object stores; a video of hours costs a few requests. Files are strangers here: in
the driver they are opened in a child process, on Ray in a worker, whose stage runs in a child anyway.
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
import pyarrow.fs
from av.error import FFmpegError

from ...engine.child_process import ChildError, ChildProcess, Parent
from ...engine.records.column import Column, ParquetColumn
from ...engine.records.sample import Row, Sample
from ...engine.steps.step import SourceStage, StageContext
from ...models.video.file import VIDEO_FORMATS
from .fetch import local_path, resolved

_SAMPLES, _SAMPLE_BYTES = 3, 64 << 10  # at the beginning, in the middle, at the end: what a new recording changes
_AT_ONCE = 16  # mostly they wait for storage
_START_S, _EACH_S = 30.0, 2.0  # that a child may take
_LONGEST_S = 7 * 24 * 3600.0  # beyond, a header is taken for wrong
_OPTIONS = {"format_whitelist": VIDEO_FORMATS, "analyzeduration": "100000"}


@dataclass(frozen=True)
class VideoInfo:
    """Of one video; seconds: None, and bytes -1, where it does not say. content: a hash of samples of its bytes."""

    seconds: float | None = None
    bytes: int = -1
    content: str = ""


def probe(uri: str) -> VideoInfo:
    """Opens a path or URI. What cannot be read has no info: extraction will say why."""
    try:
        with _open(uri) as file:
            size = file.seek(0, 2)
            return VideoInfo(_seconds(file), size, _content(file, size))
    except (OSError, ValueError):  # pyarrow's errors are both
        return VideoInfo()


def probe_all(uris: Sequence[str]) -> list[VideoInfo]:
    """The info of each, several at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(probe, uris))


def probe_apart(uris: Sequence[str]) -> list[VideoInfo]:
    """The same in a child process; what makes that crash or hang has no info."""
    try:
        with ChildProcess(_send_all, list(uris), log=subprocess.DEVNULL) as child:
            return [VideoInfo(**info) for info in child.receive(_START_S + _EACH_S * len(uris))]
    except ChildError as error:
        if error.code == "raised":
            raise RuntimeError(f"the headers of videos cannot be read:\n{error.traceback}") from error
    if len(uris) <= 1:
        return [VideoInfo()] * len(uris)
    half = len(uris) // 2  # one of them is to blame; the halves will show which
    return probe_apart(uris[:half]) + probe_apart(uris[half:])


def _send_all(parent: Parent, uris: Sequence[str]) -> None:
    parent.send([asdict(info) for info in probe_all(uris)])


def _open(uri: str) -> IO[bytes]:
    if (path := local_path(uri)) is not None:
        return open(path, "rb")
    filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    return filesystem.open_input_file(path)  # type: ignore[return-value] - reads, seeks and closes like a file


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
            return round(seconds, 3) if 0 < seconds < _LONGEST_S else None
    except FFmpegError:
        return None


def _content(file: IO[bytes], size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    for number in range(_SAMPLES):
        file.seek(max(0, size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
        digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]


@dataclass
class ProbeFootage(SourceStage):
    """Videos to `probes`: their info. `work` holds their URIs by key, by shard; it is gone once they are planned."""

    name: ClassVar[str] = "probe-footage"
    batch_size: ClassVar[int] = 32  # type: ignore[misc] - not a recipe's setting

    work: Mapping[str, Mapping[str, str]]

    @property
    def writes(self) -> Column:
        schema = pa.schema([("seconds", pa.float64()), ("bytes", pa.int64()), ("content", pa.string())])
        return ParquetColumn("probes", schema)

    def settings(self) -> dict[str, Any]:
        return {"work": hashlib.sha256(json.dumps(self.work, sort_keys=True).encode()).hexdigest()}

    def setup(self, context: StageContext) -> None:
        self._run_uri = context.storage.address("")

    def shards(self) -> Sequence[str]:
        return sorted(self.work)

    def source(self, shard: str) -> Iterator[Sample]:
        return (Sample(key, {"video": {"uri": uri}}) for key, uri in sorted(self.work[shard].items()))

    def process(self, batch: list[Sample]) -> Iterator[Row]:
        facts = probe_all([resolved(sample["video"]["uri"], self._run_uri) for sample in batch])
        return (Row(sample.key, asdict(one)) for sample, one in zip(batch, facts, strict=True))

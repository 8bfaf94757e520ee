"""The parts of a pipelined stage side by side: threads read and decode ahead of the model, and encode behind it.

Batches stay in order and few: enough for every thread, and whoever is slowest is waited for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from ..records.sample import Drop, Row, Sample
from ..steps.step import PipelinedStage

_READ_AHEAD = 2  # batches, not yet decoded

T = TypeVar("T")


def read_ahead(batches: Iterator[T], idle: Callable[[], None]) -> Generator[T, None, None]:
    """The batches, read in a thread of their own; `idle` is called before one that is not there yet is waited for."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="read")
    try:
        coming = deque(thread.submit(next, batches, None) for _ in range(_READ_AHEAD))
        while True:
            if not coming[0].done():
                idle()
            batch = coming.popleft().result()
            if batch is None:
                return
            coming.append(thread.submit(next, batches, None))
            yield batch
    finally:
        thread.shutdown(cancel_futures=True)


@dataclass
class Finished:
    """A batch that has been through the stage: what was made of its samples, or what one of its parts raised."""

    samples: list[Sample]
    made: list[Row | Drop]
    error: BaseException | None = None


@dataclass
class _Batch:
    samples: list[Sample]
    parts: list[Future[Any]]  # one a sample: its decoding, later its encoding


class Pipeline:
    """Takes batches and hands them out as they are finished, in order. Only its caller's thread predicts."""

    def __init__(self, stage: PipelinedStage, threads: int, changed: Callable[[], None]) -> None:
        """`changed` is called before a batch begins to be worked on, and after it has been."""
        self._stage, self._changed = stage, changed
        self._most = 1 + threads // stage.batch_size  # batches ahead of the model, and as many behind
        self._ahead, self._behind = deque[_Batch](), deque[_Batch]()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=stage.name)

    def take(self, samples: list[Sample]) -> Iterator[Finished]:
        """Begins with a batch; yields what is finished by then."""
        batch = _Batch(samples, [])
        self._ahead.append(batch)
        self._changed()
        batch.parts = [self.submit(self._stage.decode, sample) for sample in samples]
        if len(self._ahead) > self._most:
            self._predict()
        yield from self._finished(self._most)

    def flush(self) -> Iterator[Finished]:
        """Yields all batches that were taken."""
        while self._ahead:
            self._predict()
            yield from self._finished(self._most)
        yield from self._finished(0)

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Calls a function in one of the threads."""
        return self._threads.submit(function, *arguments)

    def in_flight(self) -> list[Sequence[str]]:
        """The keys of the batches that are not finished."""
        return [[sample.key for sample in batch.samples] for batch in (*self._behind, *self._ahead)]

    def close(self) -> None:
        """Waits for what the threads are doing, and ends them."""
        self._threads.shutdown(cancel_futures=True)

    def _predict(self) -> None:
        """Takes the first batch from ahead of the model to behind it; what it raises comes out when it is its turn."""
        batch = self._ahead[0]
        try:
            decoded, started_s = [part.result() for part in batch.parts], time.monotonic()
            results = self._stage.predict_decoded(decoded)
            self._stage.predict_seconds += time.monotonic() - started_s
            pairs = zip(batch.samples, results, strict=True)
            parts = [self.submit(self._stage.encode_result, sample, result) for sample, result in pairs]
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - it is the batch's; who takes it judges
            parts = [Future[Any]()]
            parts[0].set_exception(error)
        self._ahead.popleft()
        self._behind.append(_Batch(batch.samples, parts))

    def _finished(self, most: int) -> Iterator[Finished]:
        """Batches that are encoded; waits until at most so many are behind the model."""
        while self._behind and (len(self._behind) > most or all(part.done() for part in self._behind[0].parts)):
            batch = self._behind[0]
            error = next(filter(None, (part.exception() for part in batch.parts)), None)
            self._behind.popleft()
            self._changed()
            yield Finished(batch.samples, [] if error else [part.result() for part in batch.parts], error)

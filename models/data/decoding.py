"""From shards to batches of pixels: workers decode into memory that they share with the process that trains."""

import mmap
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .augment import draw
from .depth_png import decode_units
from .images import resize_rgb
from .order import PADDING
from .shards import ShardSet, Stored

_READS = 16
"""Samples that a process has asked its storage for at a time, beyond the batch it decodes."""

_BATCHES_AHEAD = 2
"""Batches that a worker may have decoded, or be decoding, before they are asked for."""


@dataclass(frozen=True)
class Decoded:
    """A batch as it is decoded: rgb (B, H, W, 3) uint8; depth (B, H, W) in units of the PNG, whose bits int16 holds.

    `drawn` is what its augmentation is to be, (B,) of `AUGMENTATION`, or None for none. The pixels lie in memory
    that is written to again: they stand until the next batch is asked for.
    """

    keys: list[str]
    sources: list[str]
    rgb: Tensor
    units: Tensor
    drawn: np.ndarray | None


class SharedBatches:
    """Places for batches, in nameless memory that forked processes share: what is decoded there is not sent."""

    def __init__(self, places: int, batch_size: int, height: int) -> None:
        pixels = places * batch_size * height * 2 * height
        self._memory = torch.frombuffer(mmap.mmap(-1, 5 * pixels), dtype=torch.uint8)
        rgb, units = self._memory[: 3 * pixels], self._memory[3 * pixels :]
        self.rgb = rgb.view(places, batch_size, height, 2 * height, 3)
        self.units = units.view(torch.int16).view(places, batch_size, height, 2 * height)

    def __len__(self) -> int:
        return len(self.rgb)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Has CUDA devices copy from here by themselves."""
        cudart: Any = torch.cuda.cudart()
        torch.cuda.check_error(cudart.cudaHostRegister(self._memory.data_ptr(), self._memory.numel(), 0))
        try:
            yield
        finally:
            torch.cuda.check_error(cudart.cudaHostUnregister(self._memory.data_ptr()))


@dataclass(frozen=True)
class Recipe:
    """What becomes of a sample, but for (epoch, number): its size, and how it is augmented; 0 is not at all."""

    height: int
    seed: int
    strength: float

    def drawn(self, epoch: int, number: int) -> np.ndarray:
        """The augmentation of a sample in an epoch, from nothing else."""
        rng = np.random.Generator(np.random.PCG64([self.seed, epoch, number]))
        return draw(self.strength, self.height, rng)


def decode_into(sample: Stored, rgb: np.ndarray, units: np.ndarray) -> None:
    """Decodes at the size of rgb (H, W, 3) uint8 and units (H, W) uint16; ValueError names a sample that is damaged."""
    height, width = units.shape
    if sample.jpg is None or sample.depth_png is None:
        raise ValueError(f"sample {sample.key} has no {'jpg' if sample.jpg is None else 'depth.png'}")
    try:
        if simplejpeg.decode_jpeg_header(sample.jpg)[:2] == (height, width):
            simplejpeg.decode_jpeg(sample.jpg, buffer=rgb)
        else:
            decoded = simplejpeg.decode_jpeg(sample.jpg, min_height=height, min_width=width)
            np.copyto(rgb, resize_rgb(decoded, height, width))
        found = decode_units(sample.depth_png, out=units)
    except ValueError as error:
        raise ValueError(f"sample {sample.key}: {error}") from error
    if found is not units:
        np.copyto(units, cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def decoded_batches(
    samples: ShardSet, numbers: np.ndarray, epoch: int, recipe: Recipe, num_workers: int, pinned: bool
) -> Iterator[Decoded]:
    """The batches of these samples (batches, B), in order, decoded by `num_workers` processes, or by this one for 0."""
    places = SharedBatches(1 + _BATCHES_AHEAD * num_workers, numbers.shape[1], recipe.height)
    loader = DataLoader(
        _Batches(samples, numbers, epoch, recipe, places),
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
        prefetch_factor=_BATCHES_AHEAD if num_workers else None,
        multiprocessing_context="fork" if num_workers else None,  # which shares the memory and the index
        generator=torch.Generator().manual_seed(0),  # else the loader would draw from the global one
    )
    with places.pinned() if pinned else nullcontext():
        for place, keys, sources, drawn in loader:
            yield Decoded(keys, sources, places.rgb[place], places.units[place], drawn)


@dataclass
class _Batches(IterableDataset[tuple[int, list[str], list[str], np.ndarray | None]]):
    """Every n-th batch, in the n-th worker. Batch k goes to place k modulo their number.

    The loader has a worker begin batch k + ahead·workers when it hands out batch k, so that what is being written
    never lies where the last batch that was handed out does.
    """

    samples: ShardSet
    numbers: np.ndarray
    epoch: int
    recipe: Recipe
    places: SharedBatches

    def __iter__(self) -> Iterator[tuple[int, list[str], list[str], np.ndarray | None]]:
        worker = get_worker_info()
        mine = range(worker.id, len(self.numbers), worker.num_workers) if worker else range(len(self.numbers))
        samples = self.samples.reopened() if worker else self.samples
        with ThreadPoolExecutor(_READS) as pool:
            stored = _read_ahead(samples, self.numbers[mine].ravel(), pool)
            for batch in mine:
                yield self._decode(batch, [next(stored) for _ in self.numbers[batch]])

    def _decode(self, batch: int, stored: list[Stored]) -> tuple[int, list[str], list[str], np.ndarray | None]:
        place = batch % len(self.places)
        rgb, units = self.places.rgb[place].numpy(), self.places.units[place].numpy().view(np.uint16)
        for at, sample in enumerate(stored):
            if sample is _NOTHING:
                rgb[at], units[at] = 0, 0
            else:
                decode_into(sample, rgb[at], units[at])
        drawn = None
        if self.recipe.strength > 0:
            drawn = np.array([self.recipe.drawn(self.epoch, number) for number in self.numbers[batch].tolist()])
        return place, [sample.key for sample in stored], [sample.source for sample in stored], drawn


_NOTHING = Stored("", "", None, None)
"""What fills up a last batch: without any pixel of known depth, so that it counts for nothing."""


def _read_ahead(samples: ShardSet, numbers: np.ndarray, pool: ThreadPoolExecutor) -> Iterator[Stored]:
    """The samples in order, several of them on their way at a time."""
    pending: deque[Future[Stored]] = deque()
    for number in numbers.tolist():
        pending.append(pool.submit(_read, samples, number))
        if len(pending) > _READS:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _read(samples: ShardSet, number: int) -> Stored:
    return _NOTHING if number == PADDING else samples.read(number)


def _as_it_is(item: Any) -> Any:
    return item


def _one_thread(_worker: int) -> None:
    cv2.setNumThreads(0)  # OpenCV's own threads do not survive a fork

"""From shards to batches of pixels: workers decode into memory that they share with the process that trains."""

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import cv2
import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .augment import draw
from .augment_settings import SourceAugment
from .depth_png import MISSING, decode_units
from .images import resize_rgb
from .order import BatchOrder, Mixture
from .shards import NOTHING, Facts, Stored

_BATCHES_AHEAD = 2
"""Batches that a worker may have decoded, or be decoding, before they are asked for."""


@dataclass(frozen=True)
class Decoded:
    """A batch as it is decoded: rgb (B, H, W, 3) uint8; depth (B, H, W) in units of the PNG, whose bits int16 holds.

    `present` (B,) is false where there is no image: in a place that stays empty, or of a sample that could not be
    decoded; `damaged` says what is wrong with those. `drawn` is what the augmentation is to be, (B,) of `AUGMENTATION`,
    or None for none. With CutMix, `rgb`, `units` and `drawn` go on with images to paste, and `pasted` (B,) is the place
    of the one for an image, or −1. The pixels lie in memory that is written to again: they stand until the next batch
    is asked for.
    """

    facts: list[Facts]
    present: list[bool]
    damaged: list[str]
    rgb: Tensor
    units: Tensor
    drawn: np.ndarray | None
    pasted: np.ndarray | None = None


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
    """What becomes of a sample, but for (epoch, number): its size, and how it is augmented; 0 is not at all.

    Sources may have a strength of their own, and a chance of CutMix.
    """

    height: int
    seed: int
    strength: float
    by_source: Mapping[str, SourceAugment] = field(default_factory=dict)

    def drawn(self, epoch: int, number: int, source: str = "") -> np.ndarray:
        """The augmentation of a sample in an epoch, from nothing else."""
        rng = np.random.Generator(np.random.PCG64([self.seed, epoch, number]))
        own = self.by_source.get(source)
        return draw(own.strength if own else self.strength, self.height, rng)

    @property
    def cutmix(self) -> dict[str, float]:
        """The chance of CutMix by source, where there is one."""
        return {name: own.cutmix for name, own in self.by_source.items() if own.cutmix}


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


class Samples(Protocol):
    """Where samples are read from."""

    @property
    def sizes(self) -> list[int]:
        """Samples of each shard."""
        ...

    def mixture(self, weights: Mapping[str, float]) -> Mixture:
        """The mixture of these sources; ValueError if they cannot be mixed so."""
        ...

    def pasted(self, chances: Mapping[str, float], numbers: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Of samples of any shape, those that CutMix pastes into them, or PADDING; ValueError if there can be none."""
        ...

    def stored(self, order: BatchOrder, numbers: np.ndarray, worker: int, workers: int) -> Iterator[Stored]:
        """Those of every `workers`-th of the batches `numbers` (batches, B), from the `worker`-th on, in order."""
        ...


def decoded_batches(
    samples: Samples, order: BatchOrder, recipe: Recipe, num_workers: int, pinned: bool
) -> Iterator[Decoded]:
    """The rest of the order's epoch, decoded by `num_workers` processes, or by this one for 0."""
    numbers = order.numbers()
    if recipe.cutmix:
        numbers = np.concatenate([numbers, samples.pasted(recipe.cutmix, numbers, recipe.seed, order.epoch)], axis=1)
    places = SharedBatches(1 + _BATCHES_AHEAD * num_workers, numbers.shape[1], recipe.height)
    loader = DataLoader(
        _Batches(samples, order, numbers, recipe, places),
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
        prefetch_factor=_BATCHES_AHEAD if num_workers else None,
        multiprocessing_context="fork" if num_workers else None,  # which shares the memory and the index
        generator=torch.Generator().manual_seed(0),  # else the loader would draw from the global one
    )
    with places.pinned() if pinned else nullcontext():
        for place, images, drawn, pasted, facts, present, damaged in loader:
            rgb, units = places.rgb[place, :images], places.units[place, :images]
            yield Decoded(facts, present, damaged, rgb, units, drawn, pasted)


_Batch = tuple[int, int, np.ndarray | None, np.ndarray | None, list[Facts], list[bool], list[str]]
"""Its place and number of images, then drawn, pasted, facts, present and damaged of `Decoded`."""


@dataclass
class _Batches(IterableDataset[_Batch]):
    """Every n-th batch, in the n-th worker. Batch k goes to place k modulo their number.

    The loader has a worker begin batch k + ahead·workers when it hands out batch k, so that what is being written
    never lies where the last batch that was handed out does.
    """

    samples: Samples
    order: BatchOrder
    numbers: np.ndarray
    recipe: Recipe
    places: SharedBatches

    def __iter__(self) -> Iterator[_Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        epoch, stored = self.order.epoch, self.samples.stored(self.order, self.numbers, worker, workers)
        for batch in range(worker, len(self.numbers), workers):
            yield self._decode(batch % len(self.places), epoch, list(islice(stored, self.numbers.shape[1])))

    def _decode(self, place: int, epoch: int, stored: list[Stored]) -> _Batch:
        rgb, units = self.places.rgb[place].numpy(), self.places.units[place].numpy().view(np.uint16)
        present, damaged, pasted = [], [], None
        if self.recipe.cutmix:
            size = len(stored) // 2
            at = np.array([sample is not NOTHING for sample in stored[size:]])
            pasted = np.where(at, size - 1 + at.cumsum(), -1)
            stored = [*stored[:size], *(sample for sample in stored[size:] if sample is not NOTHING)]
        for at, sample in enumerate(stored):
            present.append(sample is not NOTHING)
            try:
                if present[at]:
                    decode_into(sample, rgb[at], units[at])
            except ValueError as error:
                present[at] = False
                damaged.append(str(error))
            if not present[at]:
                rgb[at], units[at] = 0, MISSING
        drawn = None
        if self.recipe.strength > 0 or self.recipe.by_source:
            drawn = np.array([self.recipe.drawn(epoch, sample.number, sample.source) for sample in stored])
        size = len(stored) if pasted is None else len(pasted)
        return place, len(stored), drawn, pasted, [sample.facts for sample in stored[:size]], present[:size], damaged


def _as_it_is(item: Any) -> Any:
    return item


def _one_thread(_worker: int) -> None:
    cv2.setNumThreads(0)  # OpenCV's own threads do not survive a fork

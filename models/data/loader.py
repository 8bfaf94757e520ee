"""Batches of panoramas with depth from packed shards, for Lightning: seeded, equal on all ranks, resumable."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from torch.utils.data import DataLoader, Dataset

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

from lightning.pytorch import LightningDataModule  # noqa: E402

from .augment import augment  # noqa: E402
from .depth_png import BEYOND_RANGE, MISSING, UNITS_PER_METRE, decode_units  # noqa: E402
from .images import pixel_values, resize_rgb  # noqa: E402
from .order import PADDING, BatchOrder, Draw  # noqa: E402
from .shards import Opener, ShardRef, ShardSet, open_local  # noqa: E402


@dataclass(frozen=True)
class Panorama:
    """One decoded sample: image (H, W, 3) uint8 and depth (H, W) in the units of the depth PNG."""

    key: str
    source: str
    rgb: np.ndarray
    units: np.ndarray


def decode(sample: dict[str, Any], height: int) -> Panorama:
    """Decodes a sample of a shard at height × 2·height; ValueError naming its key if a member is absent or damaged."""
    key = sample["__key__"]
    try:
        rgb = simplejpeg.decode_jpeg(sample["jpg"], min_height=height, min_width=2 * height)
        units = decode_units(sample["depth.png"])
    except KeyError as error:
        raise ValueError(f"sample {key} has no {error.args[0]}") from None
    except ValueError as error:
        raise ValueError(f"sample {key}: {error}") from error
    if units.shape != (height, 2 * height):
        units = cv2.resize(units, (2 * height, height), interpolation=cv2.INTER_NEAREST_EXACT)
    source = sample["json"].get("source", "labelled")
    return Panorama(key, source, resize_rgb(rgb, height, 2 * height), units)


def padding(height: int) -> Panorama:
    """What fills up a last batch: without any pixel of known depth, so that it counts for nothing."""
    return Panorama("", "", np.zeros((height, 2 * height, 3), np.uint8), np.zeros((height, 2 * height), np.uint16))


def collate(panoramas: list[Panorama]) -> dict[str, Any]:
    """A batch: pixel_values (B, 3, H, W); depth_m, valid, beyond_range (B, H, W); lists key and source.

    `depth_m` is 0 where it is not `valid`.
    """
    units = torch.from_numpy(np.stack([panorama.units for panorama in panoramas]))
    beyond_range = units == BEYOND_RANGE
    valid = (units != MISSING) & ~beyond_range
    return {
        "pixel_values": pixel_values([panorama.rgb for panorama in panoramas]),
        "depth_m": torch.where(valid, units.float() / UNITS_PER_METRE, 0.0),
        "valid": valid,
        "beyond_range": beyond_range,
        "key": [panorama.key for panorama in panoramas],
        "source": [panorama.source for panorama in panoramas],
    }


@dataclass
class PanoramaDataset(Dataset[Panorama]):
    """Decodes and augments the drawn samples; what comes out depends on (seed, draw) alone."""

    samples: ShardSet
    image_height: int
    seed: int
    augment: float = 0.0
    """Strength of the photometric augmentation; 0 is no augmentation at all, not even turns."""

    def __getitem__(self, draw: Draw) -> Panorama:
        if draw.number == PADDING:
            return padding(self.image_height)
        panorama = decode(self.samples[draw.number], self.image_height)
        if self.augment <= 0:
            return panorama
        rng = np.random.Generator(np.random.PCG64([self.seed, draw.epoch, draw.number]))
        rgb, units = augment(panorama.rgb, panorama.units, self.augment, rng)
        return Panorama(panorama.key, panorama.source, rgb, units)


class PanoramaLoader:
    """Iterates the batches of one rank; its state counts what was handed out, not what workers have fetched ahead.

    Lightning saves `state_dict` with its checkpoints (that of rank 0: it is equal on all), and calls
    `sampler.set_epoch` before every epoch. Without Lightning, each iteration to the end goes on to the next epoch.
    """

    def __init__(self, dataset: PanoramaDataset, order: BatchOrder, num_workers: int = 0):
        self.dataset, self.num_workers = dataset, num_workers
        self.sampler = self.batch_sampler = order  # the names under which Lightning looks for it

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.sampler.batch >= len(self.sampler):
            self.sampler.set_epoch(self.sampler.epoch + 1)
        for batch in self._batches():
            self.sampler.batch += 1
            yield batch

    def _batches(self) -> DataLoader[Any]:
        return DataLoader(
            self.dataset,
            batch_sampler=self.sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=_one_thread,
            generator=torch.Generator().manual_seed(0),  # else the loader would draw from the global one
            pin_memory=torch.cuda.is_available(),
        )

    def state_dict(self) -> dict[str, Any]:
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state)


def _one_thread(_worker: int) -> None:
    cv2.setNumThreads(0)  # OpenCV's own threads do not survive a fork


class PanoramaDataModule(LightningDataModule):
    """Training and validation loaders over packed shards, for the rank and world of the trainer."""

    def __init__(
        self,
        train: Sequence[ShardRef],
        validation: Sequence[ShardRef],
        *,
        image_height: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        augment: float = 1.0,
        opener: Opener = open_local,
    ):
        super().__init__()
        self.train, self.validation = train, validation
        self.image_height, self.batch_size, self.num_workers = image_height, batch_size, num_workers
        self.seed, self.augment, self.opener = seed, augment, opener

    def train_dataloader(self) -> PanoramaLoader:
        return self.loader(training=True, **self._ranks())

    def val_dataloader(self) -> PanoramaLoader | list[PanoramaLoader]:
        return self.loader(training=False, **self._ranks()) if self.validation else []

    def loader(self, *, training: bool, rank: int = 0, world_size: int = 1) -> PanoramaLoader:
        """The loader of one rank."""
        shards = self.train if training else self.validation
        samples = ShardSet(shards, self.opener)
        dataset = PanoramaDataset(samples, self.image_height, self.seed, self.augment if training else 0.0)
        sizes = [shard.samples for shard in shards]
        order = BatchOrder(
            sizes, batch_size=self.batch_size, seed=self.seed, training=training, rank=rank, world_size=world_size
        )
        return PanoramaLoader(dataset, order, self.num_workers)

    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

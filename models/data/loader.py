"""Batches of panoramas with depth from packed shards, for Lightning: seeded, equal on all ranks, resumable."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before lightning, which imports torchvision where it is installed

from lightning.pytorch import LightningDataModule  # noqa: E402

from .augment import cut_mask, photometric, turn  # noqa: E402
from .augment_settings import SourceAugment  # noqa: E402
from .decoding import Decoded, Recipe, Samples, decoded_batches  # noqa: E402
from .depth_png import BEYOND_RANGE, MISSING, UNITS_PER_METRE  # noqa: E402
from .order import BatchOrder, Mixture  # noqa: E402
from .pixel_values import normalise  # noqa: E402
from .shards import Facts  # noqa: E402


@torch.no_grad()
def finish(batch: Decoded, device: torch.device) -> dict[str, Any]:
    """Moves a batch to a device, and augments and normalises it there.

    pixel_values (B, 3, H, W); depth_m, valid, beyond_range (B, H, W); present (B,), and the list damaged, as `Decoded`
    has them: what is not present is black and has no truth; lists key, source, scene, spread, as `Stored` has them.
    `depth_m` is 0 where it is not `valid`. With CutMix, cut (B, H, W): where another image was pasted, with its truth.
    """
    rgb, units = _moved(batch.rgb, device), _moved(batch.units, device)
    if batch.drawn is not None:
        rgb, units = turn(rgb, batch.drawn), turn(units, batch.drawn)
    rgb_bchw = rgb.permute(0, 3, 1, 2).contiguous()
    if batch.drawn is not None:
        at_once = len(rgb_bchw) if device.type == "cuda" else 1  # which stays in a CPU's caches
        parts = zip(rgb_bchw.split(at_once), np.array_split(batch.drawn, len(rgb_bchw) // at_once), strict=True)
        rgb_bchw = torch.cat([photometric(part, drawn) for part, drawn in parts])
    cut = {}
    if batch.pasted is not None and batch.drawn is not None:
        rgb_bchw, units, cut["cut"] = pasted(rgb_bchw, units, batch.pasted, batch.drawn)
    units = units.int() & 0xFFFF
    beyond_range = units == BEYOND_RANGE
    valid = (units != MISSING) & ~beyond_range
    return {
        "pixel_values": normalise(rgb_bchw.float().div_(255)),
        "depth_m": torch.where(valid, units.float() / UNITS_PER_METRE, 0.0),
        "valid": valid,
        "beyond_range": beyond_range,
        **{name: [getattr(facts, name) for facts in batch.facts] for name in Facts._fields},
        "present": torch.tensor(batch.present, device=device),
        "damaged": batch.damaged,
        **cut,
    }


def pasted(rgb_bchw: Tensor, units: Tensor, of: np.ndarray, drawn: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """CutMix (arXiv 1905.04899): the first len(of) images and maps, parts of them being those of image `of`, and where.

    −1 is for none. Both images are augmented, each in its own way, before.
    """
    cut = torch.zeros(len(of), *units.shape[1:], dtype=torch.bool, device=units.device)
    for at, other in enumerate(of.tolist()):
        if other >= 0:
            cut[at] = cut_mask(drawn["cut"][at], units.shape[1])
            rgb_bchw[at] = rgb_bchw[other].where(cut[at], rgb_bchw[at])
            units[at] = units[other].where(cut[at], units[at])
    return rgb_bchw[: len(of)], units[: len(of)], cut


def _moved(pixels: Tensor, device: torch.device) -> Tensor:
    """A copy on the device; it is complete, though what the device had to do before may not be."""
    if device.type != "cuda":
        return pixels.to(device)
    aside, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(aside):
        moved = pixels.to(device, non_blocking=True)
    aside.synchronize()  # the next batch may be decoded to where this one lies
    moved.record_stream(current)
    return moved


class PanoramaLoader:
    """Iterates the batches of one rank, on its device; its state counts what was handed out, not what is fetched ahead.

    Lightning saves `state_dict` with its checkpoints (that of rank 0: it is equal on all), and calls
    `sampler.set_epoch` before every epoch. Without Lightning, each iteration to the end goes on to the next epoch.
    """

    def __init__(
        self,
        samples: Samples,
        order: BatchOrder,
        recipe: Recipe,
        num_workers: int = 0,
        device: str | torch.device = "cpu",
    ):
        self.samples, self.recipe, self.num_workers, self.device = samples, recipe, num_workers, torch.device(device)
        self.sampler = self.batch_sampler = order  # the names under which Lightning looks for it

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.decoded():
            yield finish(batch, self.device)

    def decoded(self) -> Iterator[Decoded]:
        """The batches as their workers leave them, in this process's memory."""
        if self.sampler.batch >= len(self.sampler):
            self.sampler.set_epoch(self.sampler.epoch + 1)
        pinned = self.device.type == "cuda"
        for batch in decoded_batches(self.samples, self.sampler, self.recipe, self.num_workers, pinned):
            self.sampler.batch += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state)


class PanoramaDataModule(LightningDataModule):
    """Training and validation loaders over packed shards, for the rank, world and device of the trainer.

    `batch_size` is that of all ranks together. `augment` is the strength of the photometric augmentation; 0 is no
    augmentation at all, not even turns. `mixture` gives each source of the training samples its weight in every batch;
    without it, they come as they are. Sources may have an augmentation of their own.
    """

    def __init__(
        self,
        train: Samples,
        validation: Samples,
        *,
        image_height: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        augment: float = 1.0,
        mixture: Mapping[str, float] | Mixture | None = None,
        augment_by_source: Mapping[str, SourceAugment] | None = None,
    ):
        super().__init__()
        self.train, self.validation = train, validation
        self.image_height, self.batch_size, self.num_workers = image_height, batch_size, num_workers
        self.seed, self.augment = seed, augment
        self.mixture = mixture if isinstance(mixture, Mixture) else train.mixture(mixture) if mixture else None
        self.augment_by_source = augment_by_source or {}
        train.pasted({name: own.cutmix for name, own in self.augment_by_source.items()}, np.empty(0, int), seed, 0)

    def train_dataloader(self) -> PanoramaLoader:
        return self.loader(training=True, **self._placement())

    def val_dataloader(self) -> PanoramaLoader | list[PanoramaLoader]:
        return self.loader(training=False, **self._placement()) if self.validation.sizes else []

    def validation_batches(self, limit: int) -> Iterator[dict[str, Any]]:
        """Those of this rank, of at most `limit` samples at equal distances; 0: all. None where nothing is held out."""
        if self.validation.sizes:
            yield from self.loader(training=False, limit=limit, **self._placement())

    def examples(self, count: int) -> Iterator[dict[str, Any]]:
        """Some samples to look at, always the same: of the validation, or else of the training. One at a time."""
        samples = self.validation if self.validation.sizes else self.train
        order = BatchOrder(samples.sizes, batch_size=1, seed=self.seed, training=False, limit=count)
        device = self._placement().get("device", "cpu")
        return iter(PanoramaLoader(samples, order, Recipe(self.image_height, self.seed, 0.0), device=device))

    def loader(
        self,
        *,
        training: bool,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
        limit: int = 0,
    ) -> PanoramaLoader:
        """The loader of one rank."""
        samples = self.train if training else self.validation
        recipe = Recipe(self.image_height, self.seed, 0.0)
        if training:
            recipe = Recipe(self.image_height, self.seed, self.augment, self.augment_by_source)
        order = BatchOrder(
            samples.sizes,
            batch_size=self.batch_size,
            seed=self.seed,
            training=training,
            rank=rank,
            world_size=world_size,
            mixture=self.mixture if training else None,
            limit=limit,
        )
        return PanoramaLoader(samples, order, recipe, self.num_workers, device)

    def _placement(self) -> dict[str, Any]:
        if self.trainer is None:
            return {}
        trainer = self.trainer
        return {"rank": trainer.global_rank, "world_size": trainer.world_size, "device": trainer.strategy.root_device}

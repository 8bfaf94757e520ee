"""Which sample is seen when: an order that depends on nothing but (seed, epoch) and the size of the global batch.

Batch k of an epoch is the same samples for any number of ranks and workers; rank r takes its r-th part. So every rank
has equally many batches of equal size, and a place in the epoch is one number for all ranks. Where ranks cannot share
a batch evenly, the last places of it stay empty.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler

WINDOW = 16
"""Shards whose samples are mixed with each other; packed shards are shuffled globally before."""

PADDING = -1
"""Number of a sample that only fills a place: it counts for nothing."""


def shuffled(shard_sizes: Sequence[int], seed: int, epoch: int, again: int = 0) -> np.ndarray:
    """A permutation of all sample numbers that visits shards window by window, so that few need to be open.

    `again` counts the permutations of one epoch.
    """
    rng = np.random.Generator(np.random.PCG64([seed, epoch, again] if again else [seed, epoch]))
    members = np.split(np.arange(sum(shard_sizes)), np.cumsum(shard_sizes)[:-1])
    shards = rng.permutation(len(shard_sizes)).tolist()
    windows = (shards[at : at + WINDOW] for at in range(0, len(shards), WINDOW))
    return np.concatenate([rng.permutation(np.concatenate([members[s] for s in window])) for window in windows])


@dataclass(frozen=True)
class Mixture:
    """A share for each source: `sources` (samples,) says which one a sample is of, `shares` sum to 1."""

    sources: np.ndarray
    shares: tuple[float, ...]

    def order(self, length: int, shard_sizes: Sequence[int], seed: int, epoch: int) -> np.ndarray:
        """`length` sample numbers, of which every stretch holds the shares, to less than two samples of a source.

        Sample j of a source with share w has its turn at (j + ½) / w. A source comes in the order of the shuffle; one
        that has been seen whole comes again, in another.
        """
        turns, numbers = [], []
        for source, share in enumerate(self.shares):
            count = int(np.ceil(length * share)) + 1 if share else 0
            numbers.append(self._repeated(source, count, shard_sizes, seed, epoch))
            turns.append((np.arange(count) + 0.5) / (share or 1.0))
        return np.concatenate(numbers)[np.argsort(np.concatenate(turns), kind="stable")][:length]

    def _repeated(self, source: int, count: int, shard_sizes: Sequence[int], seed: int, epoch: int) -> np.ndarray:
        parts, missing = [np.empty(0, np.int64)], count
        while missing > 0:
            whole = shuffled(shard_sizes, seed, epoch, len(parts) - 1)
            parts.append(whole[self.sources[whole] == source][:missing])
            missing -= len(parts[-1])
        return np.concatenate(parts)


class BatchOrder(Sampler[list[int]]):
    """One rank's part of batches of `batch_size` samples of all ranks together, from a cursor (epoch, batch) on.

    In training the order is shuffled anew every epoch, and what does not fill a batch is left out. With a mixture, an
    epoch is as long as without, and sources come as often as their shares say. In validation every sample comes
    exactly once, in order, and the last batch is filled with `PADDING`; with a `limit`, only so many samples do, at
    equal distances.
    """

    def __init__(
        self,
        shard_sizes: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        training: bool,
        rank: int = 0,
        world_size: int = 1,
        mixture: Mixture | None = None,
        limit: int = 0,
    ):
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} does not exist in a world of {world_size}")
        self.shard_sizes, self.batch_size = list(shard_sizes), batch_size
        self.seed, self.training, self.rank, self.world_size = seed, training, rank, world_size
        self.mixture, self.limit = mixture, limit
        self.epoch = self.batch = 0
        if len(self) == 0:
            raise ValueError(f"{self.samples} samples do not fill one batch of {batch_size}")

    @property
    def samples(self) -> int:
        return sum(self.shard_sizes)

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever the cursor stands; equal on all ranks."""
        return self.samples // self.batch_size if self.training else -(-len(self._picked()) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.numbers().tolist())

    def numbers(self) -> np.ndarray:
        """The samples (batches, ⌈batch_size / ranks⌉) of this rank that are left of the epoch."""
        batches = self._order()[: len(self) * self.batch_size].reshape(len(self), self.batch_size)
        empty = np.full((len(self), -self.batch_size % self.world_size), PADDING)
        places = np.concatenate([batches, empty], axis=1)
        return places.reshape(len(self), self.world_size, -1)[self.batch :, self.rank]

    def _order(self) -> np.ndarray:
        if self.training and self.mixture:
            return self.mixture.order(self.samples, self.shard_sizes, self.seed, self.epoch)
        if self.training:
            return shuffled(self.shard_sizes, self.seed, self.epoch)
        padding = np.full(len(self) * self.batch_size - len(self._picked()), PADDING)
        return np.concatenate([self._picked(), padding])

    def _picked(self) -> np.ndarray:
        count = min(self.limit or self.samples, self.samples)
        return np.arange(count) * self.samples // max(count, 1)

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of an epoch, but stays where it is if that epoch has begun. Lightning calls it."""
        if epoch != self.epoch:
            self.epoch, self.batch = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """The cursor, and what the order depends on; equal on all ranks."""
        return {"epoch": self.epoch, "batch": self.batch, "order": self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a cursor; ValueError if it was taken from another order (another seed, batch or data set)."""
        if state["order"] != self._identity():
            raise ValueError(f"cannot resume order {state['order']} with {self._identity()}")
        self.epoch, self.batch = state["epoch"], state["batch"]

    def _identity(self) -> dict[str, Any]:
        identity = {"seed": self.seed, "samples": self.samples, "global_batch_size": self.batch_size}
        return identity | ({"mixture": list(self.mixture.shares)} if self.mixture else {})

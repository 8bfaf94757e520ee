"""Shards streamed by webdataset's pipeline: as many batches on all ranks, epochs of exact length."""

from collections import Counter
from typing import Any

import pytest

from dap_engine.models.data.loader import PanoramaDataModule
from dap_engine.models.data.shards import LocalFiles, ShardRef
from dap_engine.models.data.streaming import ShardStream
from tests.models.panoramas import HEIGHT, write_shard

SIZES = [5, 1, 8, 4]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardRef, ...]:
    folder = tmp_path_factory.mktemp("shards")
    return tuple(write_shard(folder / f"s{n}.tar", samples, seed=n) for n, samples in enumerate(SIZES))


def _module(shards: tuple[ShardRef, ...], **changes: Any) -> PanoramaDataModule:
    stream = ShardStream(shards, LocalFiles())
    settings = {"image_height": HEIGHT, "batch_size": 2, "seed": 7, "augment": 1.0} | changes
    return PanoramaDataModule(stream, stream, **settings)


def _keys(loader: Any) -> list[str]:
    return [key for batch in loader for key in batch["key"]]


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 1), (2, 2)])
def test_ranks_have_equally_many_batches_of_shards_of_their_own(
    shards: tuple[ShardRef, ...], world_size: int, num_workers: int
) -> None:
    module = _module(shards, num_workers=num_workers)
    loaders = [module.loader(training=True, rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(2):
        seen = [_keys(loader) for loader in loaders]
        assert {len(keys) for keys in seen} == {18 // 2 * -(-2 // world_size)}
        of_ranks = [{key.partition("-")[0] for key in keys} for keys in seen]
        assert len(of_ranks) == 1 or of_ranks[0].isdisjoint(of_ranks[1])
    assert world_size > 1 or Counter(seen[0]).keys() == {
        f"s{s}-{n:03d}" for s, size in enumerate(SIZES) for n in range(size)
    }


def test_of_a_batch_that_ranks_cannot_share_evenly_places_stay_empty(shards: tuple[ShardRef, ...]) -> None:
    module = _module(shards, batch_size=5)
    first, second = (_keys(module.loader(training=True, rank=rank, world_size=2)) for rank in range(2))
    assert all(first)
    assert [bool(key) for key in second] == [True, True, False] * 3


def test_epochs_differ_and_repeat(shards: tuple[ShardRef, ...]) -> None:
    one, other = (_module(shards).loader(training=True) for _ in range(2))
    first, second = _keys(one), _keys(one)
    assert first != second
    assert [_keys(other), _keys(other)] == [first, second]


def test_a_resumed_epoch_has_as_many_steps_left(shards: tuple[ShardRef, ...]) -> None:
    loader = _module(shards).loader(training=True)
    loader.load_state_dict(loader.state_dict() | {"batch": 3})
    assert len(list(loader)) == 18 // 2 - 3


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 1), (3, 2)])
def test_validation_sees_every_sample_once(shards: tuple[ShardRef, ...], world_size: int, num_workers: int) -> None:
    module = _module(shards, num_workers=num_workers)
    ranks = [_keys(module.loader(training=False, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len({len(keys) for keys in ranks}) == 1
    assert sorted(key for keys in ranks for key in keys if key) == sorted(
        f"s{s}-{n:03d}" for s, size in enumerate(SIZES) for n in range(size)
    )


def test_too_few_shards_are_refused_at_the_start(shards: tuple[ShardRef, ...]) -> None:
    ShardStream(shards, LocalFiles()).check_shared(2, 2)
    with pytest.raises(ValueError, match="4 shards cannot be streamed by 2 ranks with 3 workers each"):
        ShardStream(shards, LocalFiles()).check_shared(2, 3)


def test_sources_are_not_mixed(shards: tuple[ShardRef, ...]) -> None:
    with pytest.raises(ValueError, match="needs the reader `indexed`"):
        _module(shards, mixture={"labelled": 1.0})

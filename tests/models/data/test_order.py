from collections import Counter
from itertools import chain

import pytest

from dap_engine.models.data.order import PADDING, WINDOW, BatchOrder, shuffled

UNEVEN = [7, 1, 12, 3, 9]


def _order(rank: int = 0, world_size: int = 1, *, batch_size: int = 4, training: bool = True, seed: int = 0):
    return BatchOrder(UNEVEN, batch_size=batch_size, seed=seed, training=training, rank=rank, world_size=world_size)


def _numbers(order: BatchOrder) -> list[list[int]]:
    return list(order)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_rank_has_equally_many_full_batches_and_no_sample_twice(world_size: int) -> None:
    ranks = [_numbers(_order(rank, world_size)) for rank in range(world_size)]
    assert {len(batches) for batches in ranks} == {32 // (4 * world_size)}
    assert {len(batch) for batches in ranks for batch in batches} == {4}
    counts = Counter(number for batches in ranks for batch in batches for number in batch)
    assert max(counts.values()) == 1
    assert set(counts) <= set(range(32))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_sees_every_sample_once_and_fills_up_with_padding(world_size: int) -> None:
    ranks = [_numbers(_order(rank, world_size, training=False, batch_size=5)) for rank in range(world_size)]
    assert {len(batch) for batches in ranks for batch in batches} == {5}
    assert len({len(batches) for batches in ranks}) == 1
    numbers = sorted(n for batches in ranks for batch in batches for n in batch if n != PADDING)
    assert numbers == list(range(32))


@pytest.mark.parametrize("world_size", [2, 4])
def test_global_batches_do_not_depend_on_the_number_of_ranks(world_size: int) -> None:
    alone = _numbers(_order(batch_size=8))
    ranks = [_numbers(_order(rank, world_size, batch_size=8 // world_size)) for rank in range(world_size)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == alone


def test_epochs_and_seeds_differ_and_repeat() -> None:
    order = _order()
    first = _numbers(order)
    order.set_epoch(1)
    assert _numbers(order) != first
    order.set_epoch(0)
    assert _numbers(order) == first
    assert _numbers(_order(seed=1)) != first


def test_a_shuffle_is_a_permutation_that_keeps_few_shards_open() -> None:
    sizes = [5] * (3 * WINDOW)
    numbers = shuffled(sizes, seed=0, epoch=0)
    assert sorted(numbers) == list(range(sum(sizes)))
    shards_of_a_window = {int(number) // 5 for number in numbers[: 5 * WINDOW]}
    assert len(shards_of_a_window) == WINDOW
    assert [n // 5 for n in numbers[:5]] != [numbers[0] // 5] * 5  # samples of a window are mixed


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_cursor_of_rank_0_resumes_every_rank(world_size: int) -> None:
    undisturbed = [_numbers(_order(rank, world_size, batch_size=2)) for rank in range(world_size)]
    first = _order(0, world_size, batch_size=2)
    first.batch = 3
    for rank in range(world_size):
        resumed = _order(rank, world_size, batch_size=2)
        resumed.load_state_dict(first.state_dict())
        assert _numbers(resumed) == undisturbed[rank][3:]


def test_lightnings_call_at_the_start_of_the_resumed_epoch_keeps_the_place() -> None:
    order = _order()
    order.load_state_dict(_order().state_dict() | {"epoch": 2, "batch": 3})
    order.set_epoch(2)
    assert order.batch == 3
    order.set_epoch(3)
    assert (order.epoch, order.batch) == (3, 0)


def test_a_cursor_of_another_order_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot resume"):
        _order(seed=1).load_state_dict(_order().state_dict())


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fill"):
        _order(batch_size=33)

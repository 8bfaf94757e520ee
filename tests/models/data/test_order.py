from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.models.data.order import PADDING, WINDOW, BatchOrder, Mixture, shuffled

UNEVEN = [7, 1, 12, 3, 9]


def _order(rank: int = 0, world_size: int = 1, *, batch_size: int = 4, training: bool = True, seed: int = 0):
    return BatchOrder(UNEVEN, batch_size=batch_size, seed=seed, training=training, rank=rank, world_size=world_size)


def _numbers(order: BatchOrder) -> list[list[int]]:
    return list(order)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_rank_has_equally_many_places_and_every_sample_comes_once(world_size: int) -> None:
    ranks = [_numbers(_order(rank, world_size)) for rank in range(world_size)]
    assert {len(batches) for batches in ranks} == {32 // 4}
    assert {len(batch) for batches in ranks for batch in batches} == {-(-4 // world_size)}
    counts = Counter(number for batches in ranks for batch in batches for number in batch)
    assert counts.pop(PADDING, 0) == 8 * (-4 % world_size)
    assert counts == Counter(range(32))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_sees_every_sample_once_and_fills_up_with_padding(world_size: int) -> None:
    ranks = [_numbers(_order(rank, world_size, training=False, batch_size=5)) for rank in range(world_size)]
    assert {len(batch) for batches in ranks for batch in batches} == {-(-5 // world_size)}
    assert len({len(batches) for batches in ranks}) == 1
    numbers = sorted(n for batches in ranks for batch in batches for n in batch if n != PADDING)
    assert numbers == list(range(32))


@pytest.mark.parametrize("world_size", range(2, 9))
def test_batches_do_not_depend_on_the_number_of_ranks(world_size: int) -> None:
    """Where they do not divide by it, the last places stay empty: of a batch of 8 on 3 ranks, one; on 5, two."""
    alone = _numbers(_order(batch_size=8))
    ranks = [_numbers(_order(rank, world_size, batch_size=8)) for rank in range(world_size)]
    together = [list(chain(*parts)) for parts in zip(*ranks, strict=True)]
    assert [batch[:8] for batch in together] == alone
    assert all(batch[8:] == [PADDING] * (-8 % world_size) for batch in together)


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


SOURCES = np.array([0] * 20 + [1] * 8 + [2] * 4)


def _mixed(shares: tuple[float, ...], rank: int = 0, world_size: int = 1, batch_size: int = 8) -> BatchOrder:
    mixture = Mixture(SOURCES, shares)
    return BatchOrder(
        UNEVEN, batch_size=batch_size, seed=3, training=True, rank=rank, world_size=world_size, mixture=mixture
    )


@pytest.mark.parametrize("shares", [(0.25, 0.5, 0.25), (0.5, 0.0, 0.5), (0.125, 0.125, 0.75)])
def test_every_batch_holds_the_mixture(shares: tuple[float, ...]) -> None:
    """Though a source comes several times an epoch, and another is not seen whole."""
    order = _mixed(shares)
    for epoch in range(3):
        order.set_epoch(epoch)
        for batch in order:
            assert np.bincount(SOURCES[batch], minlength=3).tolist() == [int(8 * share) for share in shares]


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any), st.integers(0, 100), st.integers(1, 100))
def test_every_stretch_of_an_epoch_holds_the_mixture(weights: list[int], begin: int, length: int) -> None:
    shares = tuple(weight / sum(weights) for weight in weights)
    stretch = Mixture(SOURCES, shares).order(200, UNEVEN, 0, 0)[begin : begin + length]
    counts = np.bincount(SOURCES[stretch], minlength=3)
    assert all(abs(count - length * share) < 2 for count, share in zip(counts, shares, strict=True))


def test_a_source_comes_whole_before_it_comes_again() -> None:
    numbers = Mixture(SOURCES, (0.0, 0.5, 0.5)).order(32, UNEVEN, 0, 0)
    few = [number for number in numbers if SOURCES[number] == 2]
    passes = [few[at : at + 4] for at in range(0, 16, 4)]
    assert [sorted(one) for one in passes] == [[28, 29, 30, 31]] * 4
    assert len({tuple(one) for one in passes}) > 1


def test_a_mixture_depends_on_no_rank_and_is_resumed_exactly() -> None:
    shares = (0.25, 0.5, 0.25)
    alone = _numbers(_mixed(shares))
    ranks = [_numbers(_mixed(shares, rank, 2)) for rank in range(2)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == alone
    resumed = _mixed(shares)
    resumed.load_state_dict(_mixed(shares).state_dict() | {"batch": 2})
    assert _numbers(resumed) == alone[2:]
    with pytest.raises(ValueError, match="cannot resume"):
        _mixed((0.5, 0.25, 0.25)).load_state_dict(resumed.state_dict())

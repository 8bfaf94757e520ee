"""What ranks that train together know of each other; one process is one rank."""

import re
from typing import Any

from torch import Tensor, distributed

_LOST_PEER = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|socket|barrier timeout", re.I)


def world_size() -> int:
    """The number of ranks."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def sum_over_ranks(local_sum: Tensor) -> Tensor:
    """The sum of all ranks' values, equal on all; to gradients, the other ranks' are constants.

    So the gradient of a loss that is made of such sums is itself a sum over ranks. DDP takes the mean: a rank's loss
    goes to `backward` times the `world_size`.
    """
    if world_size() == 1:
        return local_sum
    total = local_sum.detach().clone()
    distributed.all_reduce(total)
    return local_sum + (total - local_sum.detach())


def of_all_ranks(items: list[Any]) -> list[Any]:
    """Those of all ranks, one rank after another."""
    if world_size() == 1:
        return items
    gathered: list[Any] = [None] * world_size()
    distributed.all_gather_object(gathered, items)
    return [item for of_rank in gathered for item in of_rank]


def is_of_a_lost_peer(error: BaseException) -> bool:
    """Whether a rank fails because another one is gone or silent: what gloo, NCCL and torch's store raise then."""
    return isinstance(error, distributed.DistError | ConnectionError) or bool(_LOST_PEER.search(str(error)))

"""The table of rates that comes along: what a sample of each kind of step costs, and how that is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml


@dataclass(frozen=True)
class Rate:
    """Of one sample: seconds of one core, without what a network takes on a card, and bytes of output.

    `where` says on what machine and by what it was measured. With `by_pixels`, both are of 512×1024 and go with pixels.
    """

    where: str
    cpu_s: float
    bytes: float = 0.0
    by_pixels: bool = False

    def at(self, height: int) -> Rate:
        """The same for panoramas of another height."""
        if not self.by_pixels:
            return self
        times = (height / 512) ** 2
        return Rate(self.where, self.cpu_s * times, self.bytes * times, by_pixels=False)


@dataclass(frozen=True)
class Rates:
    """The whole table: steps by kind, networks, and how sure each kind of knowledge is."""

    steps: dict[str, Rate]
    cpu_flops: float  # a second and core, of a network on CPUs
    cpu_flops_where: str
    card_share: float  # of a card's peak that a network reaches
    card_share_where: str
    set_up_s: float  # of a worker
    generators: dict[str, dict[str, float]]  # parameters, blocks and width of transformers, and tokens of a prompt
    decode_cpu_s_per_megapixel: float
    decoded_for_one: float  # frames, at most
    second_core: float  # the rate of a decoder with two threads and more over that with one
    tokens: int  # of a vision-language model, beside those of the picture
    sure: dict[str, str]


@cache
def rates() -> Rates:
    """Reads the table."""
    document: dict[str, Any] = yaml.safe_load(
        resources.files("dap_engine.jobs.cost").joinpath("rates.yaml").read_text()
    )
    steps = {kind: Rate(**rate) for kind, rate in document.pop("steps").items()}
    return Rates(steps=steps, **document)

"""A cluster in words: `8x(8 H100, 192 CPU)`; of several kinds, `2x(64 CPU) + 4x(8 A100, 128 CPU, 1000 GiB)`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...engine.execution.placement import Machine
from ...stages.training.cards import PEAK_FLOPS
from ..errors import UsageError

_KIND = re.compile(r"(?:(\d+)\s*x\s*)?\(([^()]+)\)")
_PART = re.compile(r"(\d+)\s*([A-Za-z0-9]+)")
_GIB = 2**30
_GIB_PER_CPU = 8  # where it is not said


@dataclass(frozen=True)
class Nodes:
    """Nodes by Ray's names of resources, and the card in them; empty if there is none."""

    machines: tuple[Machine, ...]
    card: str

    @property
    def cpus(self) -> float:
        """Cores of all nodes together."""
        return sum(machine["CPU"] for machine in self.machines)

    @property
    def gpus(self) -> float:
        """Cards of all nodes together."""
        return sum(machine["GPU"] for machine in self.machines)

    @property
    def peak_flops(self) -> float:
        """Operations a second of a card."""
        return PEAK_FLOPS[self.card] if self.card else 0.0


def parse_nodes(text: str) -> Nodes:
    """Raises UsageError for what is no cluster. Memory that is not given is taken for 8 GiB a core."""
    machines: list[Machine] = []
    cards: set[str] = set()
    for kind in text.split("+"):
        match = _KIND.fullmatch(kind.strip())
        if not match:
            raise UsageError(f'--nodes {text!r}: write it as "8x(8 H100, 192 CPU)", several kinds with + between them')
        node, names = _node(text, match[2])
        cards |= names
        machines += [node] * int(match[1] or 1)
    if len(cards) > 1:
        raise UsageError(f"--nodes {text!r}: one kind of card, not {' and '.join(sorted(cards))}")
    return Nodes(tuple(machines), next(iter(cards), ""))


def _node(text: str, parts: str) -> tuple[Machine, set[str]]:
    node, cards = {"CPU": 0.0, "GPU": 0.0, "memory": 0.0}, set[str]()
    for part in parts.split(","):
        match = _PART.fullmatch(part.strip())
        if not match:
            raise UsageError(f"--nodes {text!r}: {part.strip()!r} is no number of something")
        count, name = int(match[1]), match[2]
        if name == "CPU":
            node["CPU"] += count
        elif name == "GiB":
            node["memory"] += count * _GIB
        elif name in PEAK_FLOPS:
            node["GPU"] += count
            cards.add(name)
        else:
            raise UsageError(f"--nodes {text!r}: {name} is none of CPU, GiB, {', '.join(PEAK_FLOPS)}")
    if not node["CPU"]:
        raise UsageError(f"--nodes {text!r}: a node has CPUs")
    return node | {"memory": node["memory"] or node["CPU"] * _GIB_PER_CPU * _GIB}, cards

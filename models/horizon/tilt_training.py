"""Training of the tilt network: seeded, on the CPU, a few hundred steps a minute on one core."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .tilt_network import KINDS, TiltNetwork, network_input
from .tilt_pictures import TiltPictures

_BATCH = (*(0,) * 24, *(1,) * 6, *(2,) * 3)  # kinds
_KIND_WEIGHT = 0.5
_WEIGHT_DECAY = 0.02
_MAX_GRADIENT = 2.0
REPORT_EVERY = 100

Log = Callable[[str], None]
Batch = tuple[Tensor, Tensor, Tensor]  # of `_batch`


def train_tilt(
    pictures: TiltPictures, steps: int, *, seed: int, peak_lr: float, start: TiltNetwork | None = None, log: Log = print
) -> TiltNetwork:
    """The network after `steps` batches, from `start` or from scratch."""
    generator = np.random.Generator(np.random.PCG64(seed))
    with torch.random.fork_rng(devices=[]):  # first weights and dropout draw from torch's global generator
        torch.manual_seed(seed)
        network = (start or TiltNetwork()).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=peak_lr, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, steps))
        losses: list[float] = []
        for step, batch in enumerate(_batches(pictures, steps, generator), 1):
            losses.append(_step(network, optimizer, *batch))
            schedule.step()
            if step % REPORT_EVERY == 0 or step == steps:
                log(f"step {step} of {steps}: loss {np.mean(losses[-REPORT_EVERY:]):.3f}")
    return network.eval()


def _lr_factor(step: int, steps: int) -> float:
    """A linear rise over the first tenth, and a cosine down to zero over all of it."""
    return min(1.0, (step + 1) / (0.1 * steps)) * (1 + math.cos(math.pi * step / steps)) / 2


def _batches(pictures: TiltPictures, count: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Each drawn while the network learns from the one before."""
    with ThreadPoolExecutor(1) as drawing:
        ahead = drawing.submit(_batch, pictures, rng)
        for _ in range(count - 1):
            batch, ahead = ahead.result(), drawing.submit(_batch, pictures, rng)
            yield batch
        yield ahead.result()


def _batch(pictures: TiltPictures, rng: np.random.Generator) -> Batch:
    """Inputs (B, 6, H, W), up vectors (B, 3), kinds (B,)."""
    drawn = [pictures.draw(KINDS[kind], rng) for kind in _BATCH]
    inputs = torch.from_numpy(np.stack([network_input(picture) for picture, _ in drawn]))
    return inputs, torch.from_numpy(np.stack([up for _, up in drawn])).float(), torch.tensor(_BATCH)


def _step(network: TiltNetwork, optimizer: torch.optim.Optimizer, inputs: Tensor, up: Tensor, kinds: Tensor) -> float:
    with torch.autocast("cpu", torch.bfloat16):  # half the time on processors that know it
        evidence, logits = network(inputs)
    whole = kinds == 0
    loss = von_mises_fisher_nll(evidence[whole], up[whole]).mean() + _KIND_WEIGHT * F.cross_entropy(logits, kinds)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT)
    optimizer.step()
    return loss.item()


def von_mises_fisher_nll(evidence: Tensor, up: Tensor) -> Tensor:
    """Negative log density (B,) of unit vectors (B, 3) under the distribution with natural parameter κμ = `evidence`.

    On the sphere, p(x) = κ / (4π sinh κ) · exp(κ μ·x) (Mardia & Jupp, 9.3.4); written without overflow.
    """
    kappa = evidence.norm(dim=-1).clamp_min(1e-4)
    log_sinh = kappa + torch.log1p(-torch.exp(-2 * kappa)) - math.log(2)
    return math.log(4 * math.pi) + log_sinh - kappa.log() - (evidence * up).sum(dim=-1)

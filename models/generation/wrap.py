"""Makes the left and the right border of generated panoramas meet, whatever network removes the noise.

Padding, as DiT360 does (arXiv 2510.11712): the first column of latent tokens stands once more behind the last, the last
before the first, each with its own place. Both stay equal to what they repeat, so that they may be added anew at every
step. Rolling: at every step the latents are turned by another angle, so that their border is never in one place.
Decoders see what lies across the border in all their convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Wrap = Literal["auto", "padding", "rolling"]
"""Auto: padding for networks of tokens with places, such as FLUX, and rolling for all others."""

_GOLDEN = 0.6180339887498949  # of a turn, from step to step: no angle comes again


class WrapAround:
    """Hooks into a denoiser of pictures: a transformer of tokens with `img_ids`, or any network of (B, C, h, w)."""

    def __init__(self, denoiser: nn.Module, wrap: Wrap) -> None:
        """Raises TypeError where padding is asked of a network that has no tokens with places."""
        if wrap == "padding" and "img_ids" not in signature(denoiser.forward).parameters:
            raise TypeError(f"{type(denoiser).__name__} has no tokens with places to pad: set wrap to rolling or auto")
        self._wrap = wrap
        self._steps: dict[float, int] = {}
        self._undo: Callable[[Tensor], Tensor] = torch.clone
        denoiser.register_forward_pre_hook(self._before, with_kwargs=True)
        denoiser.register_forward_hook(self._after)

    def begin(self) -> None:
        """A picture begins: steps are counted anew."""
        self._steps.clear()

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict]:
        name = next((name for name in ("hidden_states", "sample") if name in kwargs), None)
        latents = kwargs[name] if name else args[0]
        if latents.ndim == 4 and self._wrap != "padding":
            changed = latents.roll(self._shift(args, kwargs, latents.shape[-1]), -1)
        elif latents.ndim == 3 and "img_ids" in kwargs:
            changed, kwargs = self._tokens(latents, args, kwargs)
        else:
            raise ValueError(f"latents of the shape {tuple(latents.shape)} cannot be wrapped around by {self._wrap}")
        return ((changed, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: changed})

    def _tokens(self, latents: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Of (B, rows * columns, C) with their places (rows * columns, 3)."""
        ids = kwargs["img_ids"]
        columns = int(ids[:, 2].max()) + 1
        grid, places = latents.unflatten(1, (-1, columns)), ids.unflatten(0, (-1, columns))
        if self._wrap == "rolling":
            return grid.roll(self._shift(args, kwargs, columns), 2).flatten(1, 2), kwargs
        grid = torch.cat([grid[:, :, -1:], grid, grid[:, :, :1]], 2)
        places = torch.cat([places[:, -1:], places, places[:, :1]], 1)
        self._undo = lambda found: found.unflatten(1, (-1, columns + 2))[:, :, 1:-1].flatten(1, 2)
        return grid.flatten(1, 2), {**kwargs, "img_ids": places.flatten(0, 1)}

    def _shift(self, args: tuple[Any, ...], kwargs: dict[str, Any], columns: int) -> int:
        """How far to turn at the timestep of this call; sets what turns the result back."""
        time = torch.as_tensor(kwargs["timestep"] if "timestep" in kwargs else args[1])
        step = self._steps.setdefault(float(time.flatten()[0]), len(self._steps))
        shift = round(_GOLDEN * step % 1 * columns)
        rolls_tokens = "img_ids" in kwargs

        def turned_back(found: Tensor) -> Tensor:
            if rolls_tokens:
                return found.unflatten(1, (-1, columns)).roll(-shift, 2).flatten(1, 2)
            return found.roll(-shift, -1)

        self._undo = turned_back
        return shift

    def _after(self, _: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (self._undo(output[0]), *output[1:])
        output.sample = self._undo(output.sample)
        return output


def wrap_convolutions(decoder: nn.Module) -> None:
    """Has every convolution of (B, C, h, w) look across the left and right border, as if the picture went on there."""
    for layer in decoder.modules():
        if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple) and layer.padding[1]:
            rows, columns = layer.padding
            layer.padding = (rows, 0)
            layer.register_forward_pre_hook(
                lambda _, args, columns=columns: (pad(args[0], (columns, columns, 0, 0), "circular"),)
            )

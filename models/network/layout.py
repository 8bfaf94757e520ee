"""Checkpoints of other code bases: how they name the tensors of a network here, and files of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..support.files import check_readable
from ..support.model_checks import pointer_or

_AROUND = ("state_dict", "model_state_dict", "model", "module")  # keys that hold the state dict of a checkpoint
_BEFORE = ("module.", "model.")  # DistributedDataParallel; Lightning
_COMPILED = "_orig_mod."  # torch.compile, of the whole or of parts


@dataclass(frozen=True)
class Layout:
    """What a checkpoint calls the tensors of a network.

    `parts`: for each of its names, our names of the equal parts along dimension 0: one for most tensors, None for
    what is left out, nothing for a tensor that is not used. `shapes`: where they do not follow from our parts.
    """

    parts: Mapping[str, tuple[str | None, ...]]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def prefixed(self, theirs: str, ours: str) -> "Layout":
        """The same layout for a network inside another."""
        parts = {theirs + name: tuple(part and ours + part for part in names) for name, names in self.parts.items()}
        return Layout(parts, {theirs + name: shape for name, shape in self.shapes.items()})

    def __or__(self, other: "Layout") -> "Layout":
        return Layout({**self.parts, **other.parts}, {**self.shapes, **other.shapes})

    def expected(self, network: nn.Module) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the checkpoint for a network (which may lie on the meta device)."""
        ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        return {name: self.shapes.get(name) or _joined(parts, ours) for name, parts in self.parts.items()}

    def convert(self, weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """The weights under our names; ValueError in one line for a missing, unexpected or misshapen tensor."""
        check_shapes(weights, self.expected(network))
        ours = network.state_dict()
        converted = {}
        for name, parts in self.parts.items():
            for part, tensor in zip(parts, weights[name].chunk(len(parts)) if parts else (), strict=True):
                if part is not None:
                    converted[part] = tensor.reshape(ours[part].shape)
        return converted


def _joined(parts: tuple[str | None, ...], ours: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    first, *rest = next(ours[part] for part in parts if part is not None)
    return len(parts) * first, *rest


def check_shapes(weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """ValueError in one line unless there are the expected tensors, no others, in their shapes."""
    wrong = [name for name in weights.keys() & expected.keys() if tuple(weights[name].shape) != expected[name]]
    problems = {"missing": expected.keys() - weights.keys(), "unexpected": weights.keys() - expected.keys()}
    for problem, names in {**problems, "mismatched": wrong}.items():
        if names:
            raise ValueError(f"{len(names)} {problem} keys: {shortened(names)}")


def shortened(names: Iterable[str]) -> str:
    """The first three names."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (", …" if len(ordered) > 3 else "")


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name; never unpickles.

    Taken off are the dictionaries that trainings put around them (`model`, `state_dict`, …), and what wrappers of
    networks put before their names (`module.`, `_orig_mod.`, …). ValueError in one line for what is neither.
    """
    file = Path(file)
    check_readable(file)
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged pickles fail in every way
        why = pointer_or(file, "damaged, or of more than tensors")
        raise ValueError(f"{file} is no file of weights: {why}") from error
    inner = weights
    while isinstance(inner, dict):
        weights, inner = inner, next((inner[key] for key in _AROUND if isinstance(inner.get(key), dict)), None)
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError(f"{file} is no state dict: it holds other things than named tensors")
    weights = {name.replace(_COMPILED, ""): tensor for name, tensor in weights.items()}
    while prefix := next((prefix for prefix in _BEFORE if weights and all(n.startswith(prefix) for n in weights)), ""):
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights

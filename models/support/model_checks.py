"""What is looked at before a model is loaded, and what must hold of all that comes out of one."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import numpy as np

from .files import FileError, check_readable

_POINTER = b"version https://git-lfs"
_LONGEST_HEADER = 100 << 20
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt"})
_ZIP = b"PK\3\4"


class ModelOutputError(RuntimeError):
    """A model whose output is no number, whatever it is shown: one line that names it."""


def check_numbers(model: str, values: np.ndarray | float) -> None:
    """Raises ModelOutputError if any of the values is nan or infinite."""
    if not np.isfinite(values).all():
        raise ModelOutputError(f"{model}: its output is no number (nan or inf): its weights are damaged")


def check_model_folder(folder: str | Path) -> None:
    """ValueError, naming the file, unless a folder has a config.json and whole weights in safetensors."""
    folder = Path(folder)
    config = folder / "config.json"
    if not config.is_file():
        raise ValueError(f"{folder}: no such folder, or no model folder (it has no config.json)")
    try:
        described = json.loads(config.read_bytes())
    except ValueError as error:
        raise ValueError(f"{config}: is no JSON: {pointer_or(config, str(error))}") from None
    if not isinstance(described, dict):
        raise ValueError(f"{config}: describes no model")
    check_weights(folder)


def check_weights(folder: Path) -> None:
    """ValueError, naming the file, unless a folder holds whole weights in safetensors."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            files += [folder / name for name in set(json.loads(index.read_bytes())["weight_map"].values())]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index}: is no index of weights") from error
    if not files:
        pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt*"))
        what = f"only {pickled[0].name}, which is not read: save it as safetensors" if pickled else "no weights"
        raise ValueError(f"{folder} is no whole model folder: it has no model.safetensors, {what}")
    for file in files:
        check_safetensors(file)


def check_safetensors(file: Path) -> None:
    """ValueError, naming the file, unless it has the length that its header says."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size - 8, _LONGEST_HEADER):
                raise ValueError("its header is cut, or none")
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"{file}: is no safetensors file: {pointer_or(file, str(error))}") from None
    if missing := 8 + length + max(ends, default=0) - size:
        raise ValueError(f"{file}: is cut: {missing} bytes are missing" if missing > 0 else f"{file}: is too long")


def check_weight_files(place: Path) -> None:
    """ValueError, naming the file, if one of weights is empty, cut, or a pointer: itself, or those below a folder."""
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.suffix in _WEIGHTS]
    for file in sorted(file for file in files if file.is_file()):
        if file.suffix == ".safetensors":
            check_safetensors(file)
            continue
        try:
            check_readable(file)
        except FileError as error:
            raise ValueError(f"{file}: {error.detail}") from None
        with file.open("rb") as stream:
            is_zip = stream.read(len(_ZIP)) == _ZIP  # as torch saves
        if wrong := pointer_or(file, "is cut" if is_zip and not zipfile.is_zipfile(file) else ""):
            raise ValueError(f"{file}: {wrong}")


def pointer_or(file: Path, otherwise: str) -> str:
    """What is wrong with a damaged file: that it is a pointer of Git LFS, or what is said otherwise."""
    with file.open("rb") as stream:
        is_pointer = stream.read(len(_POINTER)) == _POINTER
    return "it is a pointer of Git LFS: fetch the file itself with `git lfs pull`" if is_pointer else otherwise

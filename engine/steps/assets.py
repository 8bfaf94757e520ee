"""What steps load besides columns: weights on disk, on a model hub, or made earlier in the same run."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..rundir.rundir import RunDir
from ..storage.scratch import make_scratch
from ..storage.storage import hash_local

RUN_SCHEME = "run:"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Asset:
    """A thing to load: where it lies, and the hash that stands for it in a fingerprint."""

    uri: str
    sha256: str


class AssetError(ValueError):
    """An asset that does not exist; the message is one clear line."""


def check_asset(uri: str) -> None:
    """Raises AssetError unless the URI is inside the run, an existing folder or file, or looks like a hub id."""
    if uri.startswith(RUN_SCHEME) and "/" not in uri:
        raise AssetError(f"{uri}: write it as run:COLUMN/NAME")
    if not (uri.startswith(RUN_SCHEME) or Path(uri).exists() or _HUB_ID.fullmatch(uri)):
        raise AssetError(f"{uri}: no such folder, and not a hub id")


def resolve_asset(run: RunDir, uri: str) -> Asset | None:
    """The asset behind a URI; None if an earlier step of the run has still to make it."""
    check_asset(uri)
    if uri.startswith(RUN_SCHEME):
        receipt = run.receipt(*uri.removeprefix(RUN_SCHEME).split("/", 1))
        return Asset(uri, receipt.output.sha256) if receipt else None
    place = Path(uri).resolve()  # workers have working folders of their own
    return Asset(str(place), hash_local(place)) if place.exists() else Asset(uri, f"hub:{uri}")


class AssetCache:
    """Local copies of assets that lie in a remote run, one per content, for the life of a worker."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._root: Path | None = None

    def local(self, asset: Asset) -> str:
        """A local folder or file with the asset's content; a hub id is handed out as it is."""
        if not asset.uri.startswith(RUN_SCHEME):
            return asset.uri
        self._root = self._root or make_scratch(Path(tempfile.gettempdir()))
        path, target = asset.uri.removeprefix(RUN_SCHEME), self._root / asset.sha256
        return str(target if target.exists() else self._run.storage.fetch_folder(path, target))

    def clear(self) -> None:
        """Removes the copies."""
        if self._root:
            shutil.rmtree(self._root, ignore_errors=True)
        self._root = None

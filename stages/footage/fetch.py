"""Bringing objects that a plan names to where a decoder can open them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from urllib.parse import unquote_to_bytes, urlsplit

import pyarrow.fs

from ...engine.steps.assets import RUN_SCHEME
from ...models.video.file import VideoError


def resolved(uri: str, run_uri: str) -> str:
    """A path or URI as it is; `run:NAME` as the URI of an object in the run directory at `run_uri`."""
    if not uri.startswith(RUN_SCHEME):
        return uri
    if "://" not in run_uri:
        return f"{run_uri.rstrip('/')}/{uri.removeprefix(RUN_SCHEME)}"
    base, question, options = run_uri.partition("?")  # options of the storage, such as its endpoint
    return f"{base.rstrip('/')}/{uri.removeprefix(RUN_SCHEME)}{question}{options}"


def local_path(uri: str) -> str | None:
    """The path of a file of this machine, given as a path or a file URI; None for an object elsewhere."""
    if "://" not in uri:
        return uri
    parts = urlsplit(uri)
    return os.fsdecode(unquote_to_bytes(parts.path)) if parts.scheme == "file" else None


def open_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system behind a URI and the path in it; a `#` belongs to the path. Raises OSError or ValueError."""
    return pyarrow.fs.FileSystem.from_uri(uri.replace("#", "%23"))


@contextmanager
def local_copy(uri: str, run_uri: str) -> Iterator[str]:
    """A local path of the object: its own for paths and file URIs, a temporary download for s3:// and gs://.

    Raises VideoError: `missing_file` or `unreachable`.
    """
    uri = resolved(uri, run_uri)
    if (path := local_path(uri)) is not None:
        yield path
        return
    suffix = os.path.splitext(urlsplit(uri).path)[1]
    with tempfile.NamedTemporaryFile(suffix=suffix) as copy:
        _download(uri, copy)
        copy.flush()
        yield copy.name


def _download(uri: str, copy: IO[bytes]) -> None:
    try:
        filesystem, path = open_filesystem(uri)
        with filesystem.open_input_stream(path) as stream:
            shutil.copyfileobj(stream, copy, 1 << 22)
    except FileNotFoundError as error:
        raise VideoError("missing_file", uri) from error
    except (OSError, ValueError) as error:  # the latter for a scheme that is not known
        raise VideoError("unreachable", f"{uri}: {str(error).splitlines()[0]}") from error

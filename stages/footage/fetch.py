"""Opening what a plan names, wherever it lies, and bringing it to where a decoder can read it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from typing import IO

from ...engine.steps.assets import RUN_SCHEME
from ...engine.storage.faults import StorageError
from ...engine.storage.object_store import check_store
from ...engine.storage.place import Place
from ...engine.storage.storage import Storage
from ...models.video.file import VideoError
from .web import Fetch, fetched, is_on_web


def resolved(uri: str, run_uri: str) -> str:
    """A path or URI as it is; `run:NAME` as the URI of an object in the run directory at `run_uri`."""
    return str(Place.parse(run_uri).below(uri.removeprefix(RUN_SCHEME))) if uri.startswith(RUN_SCHEME) else uri


def store_of(place: Place) -> Storage:
    """The bucket that a place lies in; StorageError for a kind of store that footage is not read from.

    A process has one of each, which remembers whether it answers.
    """
    try:
        check_store(place)
    except ValueError as error:
        raise StorageError(f"{place.public}: cannot be opened: {error}") from error
    return _bucket(str(replace(place, path="")))


@cache
def _bucket(uri: str) -> Storage:
    return Storage(uri, expected=False)


def open_place(place: Place) -> IO[bytes]:
    """A readable, seekable stream; raises OSError."""
    return open(place.path, "rb") if place.is_local else store_of(place).open(place.path)


@contextmanager
def local_copy(uri: str, run_uri: str, fetch: Fetch | None = None) -> Iterator[str]:
    """A local path of the object: its own for paths and file URIs, else that of a copy.

    `fetch`: how it is fetched from a web server; without it, that is unreachable. Raises VideoError: `missing_file`,
    `unreachable` or `file_too_large`.
    """
    place = Place.parse(resolved(uri, run_uri))
    if place.is_local:
        yield place.path
        return
    with ExitStack() as copies:
        try:
            if fetch and is_on_web(place.root):
                path = copies.enter_context(fetched(str(place), fetch))
            else:
                path = copies.enter_context(_downloaded(place))
        except FileNotFoundError as error:
            code = "unreachable" if is_on_web(place.root) else "missing_file"
            raise VideoError(code, str(error) or place.public) from error
        except OSError as error:
            raise VideoError("unreachable", str(error)) from error
        yield path


@contextmanager
def _downloaded(place: Place) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(suffix=os.path.splitext(place.name)[1]) as copy:
        with open_place(place) as stream:
            shutil.copyfileobj(stream, copy, 1 << 22)
        copy.flush()
        yield copy.name

"""A folder of pages that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

import jinja2
import psutil

from ...engine.storage.faults import StorageError, cause
from ..errors import UsageError

GENERATOR = '<meta name="generator" content="dap report">'
PAGES = ("index", "drops", "frames", "tags", "labels", "selection", "training", "evaluation", "lineage")


class Site:
    """Takes pages and files, and puts them at `out` when the `with` ends without an exception.

    A report that lies there is replaced; UsageError for any other folder that holds something, StorageError where
    nothing can be written.
    """

    def __init__(self, out: str, title: str) -> None:
        self.out, self.title = Path(out).absolute(), title
        self._new = self.out.parent / f".{self.out.name}-{os.getpid()}.unfinished"

    def __enter__(self) -> Site:
        _check_replaceable(self.out)
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            self._new.mkdir()
        except OSError as error:
            raise StorageError(f"--out {self.out}: {cause(error)}") from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                for name in ("report.css", "report.js", "viewer.js"):
                    self.write(name, static_file(name))
                plotly = resources.files("plotly").joinpath("package_data/plotly.min.js")
                self.write("plotly.min.js", plotly.read_bytes())
                old = self._new.with_suffix(".replaced")
                if self.out.exists():
                    os.rename(self.out, old)
                os.rename(self._new, self.out)
                shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(self._new, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """What reports left that were killed."""
        for left in self.out.parent.glob(f".{self.out.name}-*.unfinished"):
            pid = left.name.removesuffix(".unfinished").rpartition("-")[2]
            if not (pid.isdecimal() and psutil.pid_exists(int(pid))):
                shutil.rmtree(left)

    def write(self, path: str, data: bytes) -> str:
        """Writes a file of the site; returns its path. Raises StorageError."""
        place = self._new / path
        try:
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)
        except OSError as error:
            raise StorageError(f"--out {self.out}: {path}: {cause(error)}") from error
        return path

    def page(self, path: str, template: str, **values: Any) -> None:
        """Renders a template of `templates/` to a page; `root` leads from it to the top."""
        root = "../" * path.count("/")
        text = (
            _templates()
            .get_template(f"{template}.html")
            .render(site=self, root=root, active=template, pages=PAGES, **values)
        )
        self.write(path, text.encode())


def static_file(name: str) -> bytes:
    """A script or a style sheet that comes with the package."""
    return resources.files("dap_engine.jobs.report").joinpath("static", name).read_bytes()


def viewer_page(title: str, scenes: Sequence[Mapping[str, Any]]) -> bytes:
    """One HTML file that shows scenes (`pictures.scene_document`) in the 360° viewer, and needs no other."""
    css, js = (static_file(name).decode() for name in ("report.css", "viewer.js"))
    return _templates().get_template("pictures.html").render(title=title, scenes=scenes, css=css, js=js).encode()


@cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("dap_engine.jobs.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.policies["json.dumps_kwargs"] = {"sort_keys": False}  # maps and settings stay in their order
    return found


def _check_replaceable(out: Path) -> None:
    if out.is_file():
        raise UsageError(f"--out {out}: is a file, not a folder")
    if out.is_dir() and any(out.iterdir()):
        index = out / "index.html"
        if not index.is_file() or GENERATOR not in index.read_text(errors="replace"):
            raise UsageError(f"--out {out}: holds something that is no report; name another folder")

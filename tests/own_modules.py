"""Modules that a test writes and imports, in a folder that a command would be run in."""

import sys
from collections.abc import Iterable

import pytest

from dap_engine.engine.steps.source import loaded_hash


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the command; modules that a test imports are forgotten after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    begin_anew(set(sys.modules) - before)


def begin_anew(modules: Iterable[str]) -> None:
    """Forgets modules, as a process does that ends."""
    loaded_hash.cache_clear()
    for name in modules:
        del sys.modules[name]

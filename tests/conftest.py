"""Fixtures shared by every folder of tests."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real 360° footage and panoramas: $DAP_REAL_DATA, or shared/data beside the checkout; skips without it."""
    folder = Path(os.environ.get("DAP_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip(f"no real footage at {folder}")
    return folder

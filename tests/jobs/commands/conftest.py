"""A disk without room, and a user without rights."""

import os
import subprocess

import pytest

from tests.jobs.commands.users import NOBODY


@pytest.fixture
def full_disk(tmp_path):
    """A disk with no room left, which may be filled up by a test."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    if (made := subprocess.run(mount, capture_output=True, check=False)).returncode:
        pytest.skip(f"no right to mount a disk: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def nobody(tmp_path):
    """Takes this process's rights away for a while: `with nobody(): …` is a user who is not root."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder.name.startswith(("pytest-", "popen-", tmp_path.name)):
            folder.chmod(0o755)

    class Nobody:
        def __enter__(self):
            os.seteuid(NOBODY)

        def __exit__(self, *_):
            os.seteuid(0)

    yield Nobody
    os.seteuid(0)

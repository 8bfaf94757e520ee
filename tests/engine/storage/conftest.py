"""Here every test runs on an object store, too."""

import pytest

from tests.conftest import empty_run


@pytest.fixture(params=["local", "s3"])
def place(request, tmp_path):
    return empty_run(request, tmp_path)

"""Fixtures shared by every folder of tests."""

import os
import sys
import urllib.parse
from pathlib import Path
from uuid import uuid4

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: small tensors gain nothing from threads

import hypothesis
import pytest
from pyarrow import fs

from dap_engine.models.support.torchvision_ops import register_missing_operators

if "PYTEST_XDIST_WORKER" not in os.environ:
    register_missing_operators()  # the first of several processes unpickles what the others warn of, lightning's too

hypothesis.settings.register_profile("dap", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("dap")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real 360° footage and panoramas with a MANIFEST.csv, named by $DAP_REAL_DATA; skips without it."""
    folder = Path(os.environ.get("DAP_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip(f"no real footage at {folder}")
    return folder


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Stand-ins for the packages of other models, importable during a test: what to name for every scheme."""
    from tests.models.labelers.stand_ins import SOURCES, write_packages, write_weights

    write_packages(tmp_path / "packages")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    yield write_weights(tmp_path / "weights")
    made = {name.split("/")[0] for name in SOURCES}
    for name in [name for name in sys.modules if name.split(".")[0] in made]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def s3_endpoint():
    from moto.server import ThreadedMotoServer  # here, so that tests without an object store run without moto

    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3_uri(s3_endpoint, request):
    """A fresh bucket, as a URI that any pyarrow program understands."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:40].strip("-")
    bucket = f"{name}-{uuid4().hex[:8]}"
    filesystem = fs.S3FileSystem(endpoint_override=s3_endpoint, scheme="http", allow_bucket_creation=True)
    filesystem.create_dir(bucket)
    return f"s3://{bucket}/run?" + urllib.parse.urlencode({"endpoint_override": s3_endpoint, "scheme": "http"})


def empty_run(request, tmp_path) -> str:
    """What a fixture of the parameters "local" and "s3" is: the URI of an empty run."""
    return str(tmp_path / "run") if request.param == "local" else request.getfixturevalue("s3_uri")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def place(request, tmp_path):
    """The URI of an empty run on a disk; on an object store, too, where slow tests run."""
    return empty_run(request, tmp_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What is printed may hold names that are no text, which pytest's processes cannot send to each other."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report

"""One import name: all of it works in a project that has packages of its own called models, engine, jobs and stages."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import ray
import yaml
from ray.job_submission import JobStatus, JobSubmissionClient

from dap_engine.jobs.__main__ import main
from dap_engine.models.network.dap import DapModel
from tests.conftest import REPOSITORY
from tests.jobs.packed import HEIGHT, TINY, pack_rooms

FOLDERS = ("engine", "stages", "models", "jobs")
RECIPE = """
name: small
steps:
  simulate: {step: simulate, source_name: sim, panoramas: 4, panoramas_per_shard: 4, height: 16, test_share: 0.0,
             validation_share: 0.0}
  pack: {step: pack, train: all, sources: [{images: labelled-sim}]}
"""
TRAINING = {
    "training": {"steps": 2, "backbone_lr": 1e-3, "decoder_lr": 1e-3},
    "network": {"config": TINY},
    "batches": {"image_height": HEIGHT, "batch_size": 4, "num_workers": 0},
    "checkpoint_every": 2,
}


@pytest.fixture
def project(tmp_path) -> Path:
    """The folder of a project whose own packages must not be taken for ours."""
    folder = tmp_path / "project"
    for name in ("models", "engine", "jobs", "stages"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('the {name} of the project were imported')\n")
    (folder / "small.yaml").write_text(RECIPE)
    (folder / "training.yaml").write_text(yaml.safe_dump(TRAINING))
    pack_rooms(folder, {"train-000000": 8, "val-000000": 4})
    return folder


def python(project: Path, *arguments: object) -> None:
    """Runs Python in the folder of the project, which it puts first among the places to import from."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_our_names_are_found(project):
    python(project, "-c", "from dap_engine.models import DapModel, DepthPredictor")


@pytest.mark.slow
def test_a_run_on_ray(project):
    python(project, "-m", "dap_engine.jobs", "run", "small.yaml", "--run-dir", "run")
    assert main(["verify", "--run-dir", str(project / "run")]) == 0
    assert list((project / "run" / "train-all").glob("train-*.tar"))


@pytest.mark.slow
def test_a_training_under_torchrun(project):
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    train = ["-m", "dap_engine.jobs", "train", "training.yaml", "--data", "train-rooms", "--out", "model"]
    python(project, *torchrun, *train, "--set", "hardware.accelerator=cpu")
    DapModel.from_folder(project / "model")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_on_ray(project):
    train = ["train", "training.yaml", "--data", "train-rooms", "--out", "model", "--set", "hardware.workers=2"]
    python(project, "-m", "dap_engine.jobs", *train)
    DapModel.from_folder(project / "model")


@pytest.mark.slow
def test_a_job_whose_working_directory_is_the_project(project, tmp_path):
    cluster = ray.init(address="local", num_cpus=2, include_dashboard=True, dashboard_port=0, log_to_driver=False)
    try:
        client = JobSubmissionClient(f"http://{cluster.dashboard_url}")
        command = f"{sys.executable} -m dap_engine.jobs run small.yaml --run-dir {tmp_path / 'run'}"
        job = submit(client, command, project)
        while not client.get_job_status(job).is_terminal():
            time.sleep(0.5)
        assert client.get_job_status(job) == JobStatus.SUCCEEDED, client.get_job_logs(job)
    finally:
        ray.shutdown()
    assert main(["verify", "--run-dir", str(tmp_path / "run")]) == 0


def submit(client: JobSubmissionClient, command: str, folder: Path) -> str:
    """Submits a job, as soon as the cluster has an agent that takes one."""
    end_s = time.monotonic() + 60
    while True:
        try:
            return client.submit_job(entrypoint=command, runtime_env={"working_dir": str(folder)})
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > end_s:
                raise
            time.sleep(1)


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_tree_and_installs_nothing_else(tmp_path):
    tree = tmp_path / "tree"  # building leaves things behind
    without = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, tree / folder, ignore=without)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, tree / file)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    there = {f"dap_engine/{path.relative_to(tree)}" for folder in FOLDERS for path in files(tree / folder)}
    done = subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = tmp_path.glob("*.whl")
    installed = {name for name in zipfile.ZipFile(built).namelist() if ".dist-info/" not in name}
    assert installed == there


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]

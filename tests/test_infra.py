"""What infra/ holds is read by the tools that it is for, fits the recipe it is for, and does what it says."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from dap_engine.engine.execution.placement import Machine, check_room
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.jobs.job import read_recipe
from dap_engine.jobs.steps import STEPS
from tests.conftest import REPOSITORY

INFRA = REPOSITORY / "infra"
KUBERAY = ["rayjob", "raycluster"]
LAUNCHER = ["aws", "gcp"]
SUFFIXES = {"Gi": 2**30, "Mi": 2**20}


def cluster_of(kind: str) -> dict:
    document = yaml.safe_load((INFRA / "kuberay" / f"{kind}.yaml").read_text())
    spec = document["spec"]
    return spec["rayClusterSpec"] if document["kind"] == "RayJob" else spec


def launcher(cloud: str) -> dict:
    return yaml.safe_load((INFRA / "ray-cluster" / f"{cloud}.yaml").read_text())


def amount(text: str) -> float:
    number, suffix = re.fullmatch(r"(\d+)(\w*)", text).groups()
    return float(number) * SUFFIXES.get(suffix, 1)


def pods(kind: str) -> list[Machine]:
    """The nodes that a cluster of KubeRay begins with, as Ray counts them, without the head."""
    machines = []
    for group in cluster_of(kind)["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        machine = {"CPU": amount(limits["cpu"]), "GPU": amount(limits.get("nvidia.com/gpu", "0"))}
        machines += [{**machine, "memory": 0.7 * amount(limits["memory"])}] * group["minReplicas"]
    return machines


def instances(cloud: str) -> list[Machine]:
    """The nodes that a cluster of Ray's launcher begins with, without the head."""
    config = launcher(cloud)
    workers = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    return [kind["resources"] for kind in workers for _ in range(kind["min_workers"])]


@pytest.mark.parametrize("machines", [*map(pods, KUBERAY), *map(instances, LAUNCHER)], ids=[*KUBERAY, *LAUNCHER])
def test_every_step_of_the_paper_s_run_fits_the_nodes_that_a_cluster_begins_with(machines):
    pools = {node.name: pool for node in load_recipe(read_recipe("dap2m"), STEPS).nodes if (pool := node.workers)}
    assert {"extract", "label-1", "dap"} <= pools.keys()
    for step, pool in pools.items():
        check_room(step, pool, machines)


@pytest.mark.parametrize("kind", KUBERAY)
def test_pods_are_no_root_have_shared_memory_and_the_same_image(kind):
    cluster = cluster_of(kind)
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    assert {template["spec"]["containers"][0]["image"] for template in templates} == {
        "registry.example/dap-engine:cuda"
    }
    for template in templates:
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        mounted = {mount["name"]: mount["mountPath"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
        assert mounted["shm"] == "/dev/shm"
        assert mounted.keys() == {volume["name"] for volume in template["spec"]["volumes"]}
    assert all(group["minReplicas"] <= group["maxReplicas"] for group in cluster["workerGroupSpecs"])


@pytest.mark.shared
@pytest.mark.parametrize("kind", KUBERAY)
def test_the_schemas_of_kuberay_know_every_field(kind):
    jsonschema = pytest.importorskip("jsonschema")
    folder = Path(os.environ.get("DAP_KUBERAY_SCHEMAS", REPOSITORY.parent / "shared" / "k8s"))
    if not folder.is_dir():
        pytest.skip(f"no schemas of KubeRay at {folder}")
    schema = json.loads((folder / f"ray.io_v1_{kind}.json").read_text())
    close(schema)
    jsonschema.validate(yaml.safe_load((INFRA / "kuberay" / f"{kind}.yaml").read_text()), schema)


def close(schema: object) -> None:
    """Refuses fields that a schema does not name, as Kubernetes does with strict validation."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        schema = list(schema.values())
    for part in schema if isinstance(schema, list) else ():
        close(part)


@pytest.mark.parametrize("cloud", LAUNCHER)
def test_ray_s_launcher_takes_its_files(cloud):
    from ray.autoscaler._private.util import fill_node_type_min_max_workers, validate_config

    config = launcher(cloud) | {"cluster_synced_files": []}  # which the launcher adds
    fill_node_type_min_max_workers(config)
    validate_config(config)
    workers = {name: kind["node_config"] for name, kind in config["available_node_types"].items() if name != "head"}
    spot = {"aws": {"MarketType": "spot"}, "gcp": {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}}
    assert all(spot[cloud] in node.values() for node in workers.values())


STUBS = {  # of Slurm's commands, and of what they would start
    "scontrol": 'if [ "$1" = show ]; then echo node1; echo node2; else echo "scontrol $*" >> calls; fi',
    "srun": 'while [[ "$1" = --* ]]; do shift; done; echo "$*" >> calls; exec "$@"',
    "ray": 'echo "ray $*" >> calls; exec sleep 60',
    "python": "cat > /dev/null",
    "dap": 'echo "dap $* on $RAY_ADDRESS" >> calls; [ "$2" = wait ] || exit 3; exec sleep 60',
    "torchrun": 'while [ "$1" != -m ]; do shift; done; [ "$4" = wait ] || exit 3; exec sleep 60',
}


@pytest.mark.parametrize("script", ["curate", "train"])
def test_a_job_of_slurm_ends_as_its_work_does_and_goes_back_into_the_queue_when_told_to_stop(tmp_path, script):
    for name, code in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{code}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def start(what: str) -> subprocess.Popen[bytes]:
        command = ["bash", INFRA / "slurm" / f"{script}.sbatch", what, "--run-dir", "a b"]
        return subprocess.Popen(command, cwd=tmp_path, env=environment)

    assert start("fail").wait(timeout=30) == 3
    stopped, calls = start("wait"), tmp_path / "calls"
    end_s = time.monotonic() + 30
    while "wait" not in calls.read_text():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    time.sleep(0.5)  # until the script waits for it
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=40) == 0
    lines = calls.read_text().splitlines()
    assert lines[-1] == "scontrol requeue 77"
    if script == "curate":
        assert "dap run wait --run-dir a b on node1:20077" in lines
        assert any(line.startswith("ray start --head --port=20077 ") for line in lines)
        assert any(line.startswith("ray start --address=node1:20077 ") for line in lines)
    else:
        assert any("--nnodes 2" in line and "--rdzv-endpoint node1:20077" in line for line in lines)


def test_the_image_is_built_from_what_is_there_and_is_no_root():
    text = (INFRA / "Dockerfile").read_text()
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    copied = [source for line in re.findall(r"^COPY (.*)$", text, re.M) for source in line.split()[:-1]]
    assert copied
    for source in copied:
        assert (REPOSITORY / source).exists()
        assert f"!{source}" in ignored  # all else stays out of the context
    assert re.findall(r"^USER (.*)$", text, re.M) == ["dap"]
    assert text.index("USER dap") > text.index("RUN pip install --no-cache-dir --constraint")

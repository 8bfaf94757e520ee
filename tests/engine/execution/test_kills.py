"""kill -9 of any part of a run at seeded instants: it ends with the bytes of an undisturbed one, and redoes nothing."""

import random

import pytest

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.verification.verify import verify_run
from tests.engine.campaign import Disturbed, Kill, contents
from tests.engine.cluster import Nodes
from tests.engine.napping import RECEIPTS, command, run


@pytest.fixture(scope="module")
def nodes():
    """A head without room for workers' CPUs to spare, and two nodes that can be killed."""
    cluster = Nodes(1, [1, 1])
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    place = str(tmp_path_factory.mktemp("calm"))
    assert run(place, in_process=True).unfinished == []
    return contents(place)


def disturb(place, log, calm, seed, victims, nodes=None):
    """A run of its own with kills at seeded instants, in the given order."""
    rng = random.Random(seed)
    instants = sorted(rng.sample(range(RECEIPTS - 5), len(victims)))
    disturbed = Disturbed(command(place, "times.nap_s=0.15"), place, log, nodes)
    try:
        for victim, count in zip(victims, instants, strict=True):
            disturbed.suffer(Kill(victim, count, rng.uniform(0, 0.5)), rng)
        disturbed.finish()
    finally:
        disturbed.end()
        if nodes:
            nodes.replace_dead(1)
    assert contents(place) == calm
    assert verify_run(RunDir(place)).problems == []
    assert run(place, in_process=True).worked == 0
    assert disturbed.family.left_after(100, of="dap_engine.engine.child_process" if nodes else "") == []


@pytest.mark.parametrize(
    ("seed", "victims"),
    [
        (1, ("actor",)),
        pytest.param(0, ("child", "actor", "node"), marks=pytest.mark.slow),
        pytest.param(1, ("driver", "group"), marks=pytest.mark.slow),
    ],
)
def test_killed_on_a_cluster(tmp_path, calm, nodes, seed, victims):
    disturb(str(tmp_path / "run"), tmp_path / "log", calm, seed, victims, nodes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["child", "actor", "raylet", "node", "driver", "group"])
@pytest.mark.parametrize("seed", [2, 3])
def test_killed_once_on_a_cluster(tmp_path, calm, nodes, seed, victim):
    disturb(str(tmp_path / "run"), tmp_path / "log", calm, f"{seed} {victim}", [victim], nodes)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["child", "actor", "head", "driver", "group"])
@pytest.mark.parametrize("seed", [4, 5])
def test_killed_once_on_a_ray_of_its_own(tmp_path, calm, seed, victim):
    disturb(str(tmp_path / "run"), tmp_path / "log", calm, f"{seed} {victim}", [victim])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["child", "actor", "group"])
def test_killed_once_with_its_run_on_an_object_store(tmp_path, calm, s3_uri, victim):
    disturb(s3_uri, tmp_path / "log", calm, f"s3 {victim}", [victim])

"""kill -9 all over the whole flow, simulation to evaluation: every run ends with the bytes of an undisturbed one.

A case begins with what an undisturbed run had at some point, runs a stretch of the flow, and is killed in it once.
"""

import random
import shutil
import sys

import pytest

from dap_engine.engine.rundir.commit import delete_output
from dap_engine.engine.rundir.rundir import RunDir
from tests.engine.campaign import Disturbed, Kill, contents, receipts
from tests.engine.cluster import Nodes
from tests.jobs.test_demo import MINIATURE, options

SETTINGS: dict[str, object] = {
    **MINIATURE,
    "simulate.panoramas": 24,
    "simulate.panoramas_per_shard": 8,
    "field.panoramas": 4,
    "field.panoramas_per_shard": 4,
    "footage.videos": 3,
    "footage.seconds": 3,
    "plan.videos_per_shard": 1,
    "labeler-1.training.steps": 2,
}
STRETCHES = {  # steps that run one after another, and the receipt that the last of them leaves
    "simulate,field,footage,pack-labelled,labeler-1": "models/labeler-1",
    "plan,extract,tag,label-1,discriminator,rank-quality": "reports/rank-quality",
    "score-1,select-1,pack-selected,labeler-2": "models/labeler-2",
    "label-2,pack-final,dap,evaluate": "reports/evaluation",
}
VICTIMS = ("child", "actor", "raylet", "node", "head", "driver", "group", "driver")
NEED_NODES, NEED_A_STAGE = ("raylet", "node"), ("child", "actor")
CASES = [(stretch, victim, seed) for seed, victim in enumerate(VICTIMS) for stretch in STRETCHES]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def calm(dap, tmp_path_factory) -> str:
    """An undisturbed run of the whole flow."""
    place = str(tmp_path_factory.mktemp("calm") / "run")
    done = dap("run", "demo", "--run-dir", place, *options(SETTINGS), "--set", "executor=in-process")
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def nodes():
    """A head, and two nodes that can be killed."""
    cluster = Nodes(1, [1, 1])
    yield cluster
    cluster.close()


def begun(calm: str, place: str, stretch: str) -> tuple[int, dict]:
    """A run at the beginning of a stretch; how many receipts it will have gained at its end, and what it will hold."""
    ends = [0, *(receipts(calm)[f"{name}.json"] for name in STRETCHES.values())]
    start_ns, end_ns = ends[list(STRETCHES).index(stretch) :][:2]
    shutil.copytree(calm, place)
    run, whole = RunDir(place), contents(calm)
    times = {tuple(path.removesuffix(".json").split("/")): time_ns for path, time_ns in receipts(calm).items()}
    for column, shard in [name for name, time_ns in times.items() if time_ns > start_ns]:
        if receipt := run.receipt(column, shard):
            delete_output(run, receipt)
    shutil.rmtree(f"{place}/checkpoints", ignore_errors=True)
    wanted = {name: content for name, content in whole.items() if times[name] <= end_ns}
    return sum(start_ns < times[name] for name in wanted), wanted


@pytest.mark.parametrize(("stretch", "victim", "seed"), CASES, ids=lambda value: str(value).split(",")[-1])
def test_killed_in_the_whole_flow(dap, calm, request, tmp_path, stretch, victim, seed):
    place, rng = str(tmp_path / "run"), random.Random(f"{stretch} {victim} {seed}")
    nodes = request.getfixturevalue("nodes") if victim in NEED_NODES or (victim != "head" and seed % 2) else None
    gained, wanted = begun(calm, place, stretch)
    further = rng.randrange(gained - (4 if victim in NEED_A_STAGE else 1))
    kill = Kill(victim, len(receipts(place)) + further, rng.uniform(0, 1.5) if further else rng.uniform(2, 6))
    words = ["run", "demo", "--run-dir", place, "--only", stretch, *options(SETTINGS)]
    disturbed = Disturbed([sys.executable, "-m", "dap_engine.jobs", *words], place, tmp_path / "log", nodes)
    try:
        disturbed.suffer(kill, rng)
        disturbed.finish()
    finally:
        disturbed.end()
        if nodes:
            nodes.replace_dead(1)
    assert contents(place) == wanted
    assert (verified := dap("verify", "--run-dir", place)).returncode == 0, verified.stdout
    assert disturbed.family.left_after(100, of="dap_engine.engine.child_process" if nodes else "") == []

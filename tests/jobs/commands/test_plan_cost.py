"""`dap plan --nodes`: what a run costs on a cluster that is not there; quotas that the data cannot fill."""

import json

import pytest

from dap_engine.engine.rundir.rundir import RunDir

NOWHERE = "s3://dap2m/videos?region=us-east-1&scheme=http&endpoint_override=127.0.0.1%3A1"
CLUSTER = "8x(8 H100, 192 CPU)"
FILMED = """
executor: in-process
steps:
  simulate: {step: simulate, source_name: rooms, panoramas: 8, height: 64, panoramas_per_shard: 4, test_share: 0}
  pack-rooms: {step: pack, train: rooms, sources: [{images: labelled-rooms}]}
  film: {step: film, videos: 3, height: 64, seconds: 2, fps: 2}
  plan: {step: plan, videos: "run:footage", videos_per_shard: 1}
  extract: {step: extract, height: 64, every_s: 0.5, max_frames: 2, min_sharpness: 0}
  tag: {step: tag}
  label: {step: label}
  score: {step: score, model: "run:models/judge"}
  judge: {step: train-discriminator, model: judge, data: train-rooms, labeler: MODEL, steps: 2}
  select: {step: select, top: {indoor: 5, outdoor: 5}}
"""


def costs(dap_here, *arguments: object) -> dict:
    done = dap_here("plan", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def steps_of(document: dict) -> dict[str, dict]:
    return {step["step"]: step for step in document["cost"]["steps"]}


def test_the_papers_run_on_a_laptop_without_footage_or_cluster(dap_here):
    document = costs(dap_here, "dap2m", "--set", f"videos={NOWHERE}", "--nodes", CLUSTER)
    steps, total = steps_of(document), document["cost"]["total"]
    assert list(steps) == [step["step"] for step in document["steps"]]
    assert {step["how"] for step in steps.values()} == {"measured", "estimated"}
    assert document["cost"]["sure"].keys() == {"measured", "estimated"}
    assert (steps["extract"]["samples"], steps["generate"]["samples"]) == (1_700_000, 200_000)
    assert (steps["label-1"]["samples"], steps["label-1"]["shards"]) == (1_900_000, 5000 + 1000)
    assert (steps["pack-final"]["samples"], steps["select-1"]["samples"]) == (2_010_000, 600_000)
    # 28 steps of 11.9 G parameters and 57 blocks of 3072 over 8192 + 512 tokens.
    generating = 28 * (2 * 1.19e10 * 8704 + 4 * 57 * 3072 * 8704**2)
    assert steps["generate"]["gpu_hours"] == pytest.approx(200_000 * generating / (0.35 * 989e12) / 3600, rel=0.05)
    # The final training: 200,000 steps of 32 panoramas, three forward passes of 2.54 Tflop each, 35 % of 989 Tflop/s.
    assert steps["dap"]["gpu_hours"] == pytest.approx(200_000 * 32 * 3 * 2.544e12 / (0.35 * 989e12) / 3600, rel=0.01)
    assert steps["dap"]["wall_s"] == pytest.approx(steps["dap"]["gpu_hours"] * 3600 / 8)
    assert steps["dap"]["core_hours"] == pytest.approx(14 * steps["dap"]["gpu_hours"])
    assert total["bytes"] == sum(step["bytes"] for step in steps.values())
    assert document["warnings"] == []
    assert (steps["pack-final"]["bytes"], steps["pack-final"]["shards"]) == (2_010_000 * 380_000, 2010)
    by_bytes = ["--set", "pack-final.bytes_per_shard=1000000000"]
    smaller = costs(dap_here, "dap2m", "--set", f"videos={NOWHERE}", "--nodes", "1x(8 A100, 128 CPU)", *by_bytes)
    assert steps_of(smaller)["pack-final"]["shards"] == 764
    assert steps_of(smaller)["dap"]["gpu_hours"] == pytest.approx(steps["dap"]["gpu_hours"] * 989 / 312)
    assert steps_of(smaller)["label-1"]["wall_s"] > 2 * steps["label-1"]["wall_s"]


def test_panoramas_of_users_and_of_text_are_counted_as_they_are(dap_here, tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(b"not looked into")
    recipe = tmp_path / "both.yaml"
    recipe.write_text(f"""
executor: in-process
steps:
  images: {{step: images, files: {tmp_path}, panoramas_per_shard: 2}}
  generate: {{step: generate, model: black-forest-labs/FLUX.1-dev, panoramas: 8, panoramas_per_shard: 3}}
  tag: {{step: tag, images: [photos, generated]}}
""")
    steps = steps_of(costs(dap_here, recipe, "--nodes", "1x(2 CPU)"))
    assert {name: step["samples"] for name, step in steps.items()} == {"images": 5, "generate": 8, "tag": 13}


def test_the_demo_ranks_without_a_network(dap_here):
    score = steps_of(costs(dap_here, "demo", "--nodes", "1x(2 CPU)"))["score-1"]
    assert (score["how"], score["samples"] > 0) == ("measured", True)


def test_people_read_it_as_a_table(dap_here):
    done = dap_here("plan", "dap2m", "--set", f"videos={NOWHERE}", "--nodes", CLUSTER)
    rows = [line.split("│") for line in done.stdout.splitlines()]
    (dap,) = [row for row in rows if len(row) == 11 and row[1].strip() == "dap"]
    assert [cell.strip() for cell in dap[2:4]] == ["1", "6,400,000"]
    assert dap[8].strip() == "estimated"
    assert "200,000 steps" in dap[9]
    assert any(len(row) == 11 and row[1].strip() == "all" for row in rows)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ("eight", "write it as"),
        ("8x(8 H1000, 192 CPU)", "H1000 is none of CPU"),
        ("(many CPU)", "no number of something"),
        ("(8 H100)", "a node has CPUs"),
        ("(8 H100, 8 CPU) + (8 A100, 8 CPU)", "one kind of card"),
        ("4x(64 CPU)", "step 'labeler-1' needs 8 workers of 14 CPU and 1 GPU each; the 4 nodes"),
    ],
)
def test_a_cluster_that_is_none_or_too_small_is_one_line(dap_here, nodes, said):
    done = dap_here("plan", "dap2m", "--set", f"videos={NOWHERE}", "--nodes", nodes)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("dap plan: ")
    assert said in done.stderr
    assert ("step" in done.stdout) == ("4 nodes" in said), "what is written wrong is told before the plan"


def test_quotas_that_the_data_cannot_fill_are_said_first(dap_here, tiny_model, tmp_path):
    recipe = tmp_path / "filmed.yaml"
    recipe.write_text(FILMED.replace("MODEL", str(tiny_model)))
    job = [recipe, "--run-dir", tmp_path / "run"]
    (line,) = costs(dap_here, *job)["warnings"]
    assert line == "select: its quotas are 10 samples together, but there are 6 at most: 3 videos of 2 frames"
    assert f"warning: {line}" in dap_here("plan", *job).stdout
    assert costs(dap_here, *job, "--set", "select.top={indoor: 3, outdoor: 3}")["warnings"] == []
    assert dap_here("run", *job, "--until", "tag").returncode == 0
    run = RunDir(str(tmp_path / "run"))
    scenes = [scene for tags in run.receipts("tags").values() for scene in run.table(tags)["scene"].to_pylist()]
    indoor = scenes.count("indoor")
    (line,) = costs(dap_here, *job, "--set", f"select.top={{indoor: {indoor + 1}}}")["warnings"][-1:]
    assert line == f"select: its quota of indoor is {indoor + 1}, but {indoor} samples have that tag"


@pytest.mark.slow
def test_a_probe_goes_before_the_table(dap_here, tiny_model, tmp_path):
    recipe = tmp_path / "filmed.yaml"
    recipe.write_text(FILMED.replace("MODEL", str(tiny_model)))
    job = [recipe, "--run-dir", tmp_path / "run", "--nodes", "1x(2 CPU)", "--only", "film,plan,extract,judge"]
    foretold = {
        how: steps_of(costs(dap_here, *job, *probe)) for how, probe in {"table": [], "probe": ["--probe"]}.items()
    }
    assert {name: step["how"] for name, step in foretold["table"].items()} == {
        **dict.fromkeys(("film", "plan", "extract"), "measured"),
        "judge": "estimated",
    }
    assert foretold["probe"]["extract"]["how"] == "probed"
    assert [foretold[how]["extract"]["samples"] for how in foretold] == [6, 6]
    assert not (tmp_path / "run").exists()

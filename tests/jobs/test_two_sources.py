"""A run of footage and photographs: every later step has the samples of both, on Ray and in process the same."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import simplejpeg

from dap_engine.engine.rundir.drops import read_drops
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from tests.jobs.conftest import content_hashes, kill_group_when

pytestmark = pytest.mark.slow  # several runs, one of them killed again and again

RECIPE = """
name: both
videos: videos
photos: photos
steps:
  images: {step: images, files: "${photos}", height: 96, max_tilt_deg: 60, panoramas_per_shard: 2,
           pool: &half {num_cpus: 0.5}}
  plan: {step: plan, videos: "${videos}", videos_per_shard: 3}
  extract: {step: extract, every_s: 2.0, height: 96, max_tilt_deg: 60, pool: *half}
  tag: {step: tag, images: &both [frames, photos], pool: &quarter {num_cpus: 0.25}}
  label: {step: label, images: *both, views: {yaw: 2}, pool: *half}
  score: {step: score, ranker: consistency, images: *both, pool: *quarter}
  select: {step: select, images: *both, top: {indoor: 90, outdoor: 90, unsure: 90}, diversity: {max_per_video: 2}}
  pack: {step: pack, train: all, sources: [{images: *both, labels: labels-1, selection: selection-1}]}
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Five simulated panoramas, and what is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    for number, one in enumerate(labelled_panoramas(seed=8, count=5, look="synthetic", height=128)):
        (folder / f"room-{number}.jpg").write_bytes(simplejpeg.encode_jpeg(one.rgb, quality=95))
    (folder / "noise.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def options(footage, photos, tiny_model, tmp_path_factory) -> list[str]:
    recipe = tmp_path_factory.mktemp("recipe") / "both.yaml"
    recipe.write_text(RECIPE)
    settings = [f"videos={footage}", f"photos={photos}", f"label.model={tiny_model}"]
    return [str(recipe), *(word for setting in settings for word in ("--set", setting))]


@pytest.fixture(scope="module")
def calm(dap, options, tmp_path_factory) -> Path:
    """The run directory of the recipe, run in one process."""
    place = tmp_path_factory.mktemp("runs") / "calm"
    done = dap("run", *options, "--run-dir", place, "--set", "executor=in-process")
    assert done.returncode == 0, done.stderr
    return place


def photo(run_dir: Path) -> str:
    return next(key for shard in RunDir(str(run_dir)).receipts("photos").values() for key in keys(run_dir, shard))


def keys(run_dir: Path, receipt) -> list[str]:
    return [row.key for row in RunDir(str(run_dir)).rows(receipt)]


@pytest.mark.slow
def test_on_ray_the_bytes_are_those_of_one_process(dap, dap_here, options, calm, tmp_path):
    place = tmp_path / "ray"
    done = dap("run", *options, "--run-dir", place)
    assert done.returncode == 0, done.stderr
    assert content_hashes(place) == content_hashes(calm)
    again = dap_here("run", *options, "--run-dir", place)
    assert (again.returncode, "up to date: nothing to do" in again.stderr) == (0, True)


@pytest.mark.slow
def test_killed_among_the_labels_of_both_it_ends_with_the_same_bytes(dap, options, calm, tmp_path):
    place = tmp_path / "killed"
    command = [sys.executable, "-m", "dap_engine.jobs", "run", *options, "--run-dir", str(place)]
    for column, shards in (("frames", 1), ("labels-1", 1), ("labels-1", 4)):
        there = place / "receipts" / column
        kill_group_when(lambda there=there, shards=shards: len(list(there.glob("*.json"))) >= shards, command)
    done = dap("run", *options, "--run-dir", place)
    assert done.returncode == 0, done.stderr
    assert content_hashes(place) == content_hashes(calm)


def test_every_column_has_shards_of_both_sources_and_all_is_as_it_should_be(dap_here, calm):
    for column in ("tags", "labels-1", "scores-1", "selection-1"):
        shards = list(RunDir(str(calm)).receipts(column))
        assert {shard.rpartition("-")[0] for shard in shards} == {"", "photos"}
    done = dap_here("verify", "--run-dir", calm, "--json")
    assert (done.returncode, json.loads(done.stdout)["problems"]) == (0, [])


def test_a_plan_counts_both_and_says_what_a_quota_lacks(dap_here, options, tmp_path):
    done = dap_here("plan", *options, "--run-dir", tmp_path / "run", "--json")
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning.endswith("270 samples together, but there are 18 at most: 6 videos of 2 frames and 6 photos")


def test_a_run_is_verified_when_its_pictures_are_gone(dap_here, photos, tiny_model, tmp_path):
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    settings = [f"photos={folder}", f"label.model={tiny_model}", "executor=in-process", "images.height=96"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert dap_here("run", "photos", "--run-dir", tmp_path / "run", *words).returncode == 0
    shutil.rmtree(folder)
    done = dap_here("verify", "--run-dir", tmp_path / "run")
    assert (done.returncode, done.stdout.startswith("ok")) == (0, True), done.stdout + done.stderr
    assert dap_here("status", "--run-dir", tmp_path / "run").returncode == 0


def test_the_lineage_of_a_photograph_leads_to_its_file_and_to_what_it_taught(dap_here, calm):
    key = photo(calm)
    done = dap_here("lineage", "--run-dir", calm, key, "--json")
    document = json.loads(done.stdout)
    assert (document["kind"], document["video"], document["frame"]["column"]) == ("frame", None, "photos")
    assert re.fullmatch(r"room-\d\.jpg", document["frame"]["file"])
    assert [entry["column"] for entry in document["labels"]] == ["labels-1"]
    assert [entry["column"] for entry in document["training"]] == ["train-all"]
    assert document["training"][0]["image"].startswith("photos/photos-")
    told = " ".join(dap_here("lineage", "--run-dir", calm, key).stdout.split())
    assert f"of photos: {document['frame']['file']}" in told


def test_the_lineage_of_a_dropped_picture_says_why(dap_here, calm):
    (drop,) = drops(calm)
    document = json.loads(dap_here("lineage", "--run-dir", calm, drop, "--json").stdout)
    assert [entry["code"] for entry in document["drops"]] == ["unreadable"]


def drops(run_dir: Path) -> list[str]:
    run = RunDir(str(run_dir))
    return [drop.key for receipt in run.receipts("photos").values() for drop in read_drops(run, receipt)]


def test_the_report_shows_both(dap_here, calm, tmp_path):
    done = dap_here("report", "--run-dir", calm, "--out", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    shard = next(iter(RunDir(str(calm)).receipts("photos")))
    page = (tmp_path / "site" / "video" / f"{shard}.html").read_text()
    assert re.search(r"room-\d\.jpg", page)
    listed = (tmp_path / "site" / "frames.html").read_text()
    assert f'id="{shard}"' in listed
    assert listed.count("<section") > len(RunDir(str(calm)).receipts("photos"))
    assert (tmp_path / "site" / "scenes" / f"{photo(calm)}.js").exists()


def test_a_mended_picture_is_put_back_and_nothing_else(dap_here, options, photos, calm, tmp_path):
    run_dir, folder = Path(shutil.copytree(calm, tmp_path / "run")), Path(shutil.copytree(photos, tmp_path / "photos"))
    before = content_hashes(run_dir)
    shutil.copy2(folder / "room-0.jpg", folder / "noise.png")
    settings = ["--set", f"photos={folder}", "--set", "executor=in-process"]
    done = dap_here("run", *options, *settings, "--run-dir", run_dir)
    assert done.returncode == 0, done.stderr
    after = content_hashes(run_dir)
    assert sum(before[place] != made for place, made in after.items() if place[0] == "labels-1") == 1
    assert RunDir(str(run_dir)).receipts("photos").drops == {}


def test_the_recipe_of_photographs_labels_them(dap_here, photos, tiny_model, tmp_path):
    settings = [f"photos={photos}", f"label.model={tiny_model}", "executor=in-process", "images.height=96"]
    words = [word for setting in [*settings, "images.max_tilt_deg=60"] for word in ("--set", setting)]
    done = dap_here("run", "photos", "--run-dir", tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    assert RunDir(str(tmp_path / "run")).receipts("labels-1").samples == (5, 5)
    done = dap_here("run", "photos", "--run-dir", tmp_path / "other", "--set", "photos=nowhere")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "step 'images': pictures: nowhere: no such file or folder" in done.stderr


def test_columns_with_shards_of_one_name_are_refused_in_one_line(dap_here, photos, tmp_path):
    recipe = tmp_path / "clash.yaml"
    recipe.write_text(
        "executor: in-process\nsteps:\n"
        "  one: {step: simulate, source_name: one, panoramas: 4, height: 32}\n"
        "  two: {step: simulate, source_name: two, panoramas: 4, height: 32}\n"
        "  tag: {step: tag, images: [labelled-one, labelled-two]}\n"
    )
    done = dap_here("run", recipe, "--run-dir", tmp_path / "run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "step 'tag': both 'one' and 'two' have a shard '000000'" in done.stderr
    assert not (tmp_path / "run" / "receipts").exists()

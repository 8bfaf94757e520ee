"""Plans: the same videos, the same plan; more videos extend it and move nothing."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.engine.execution.runner import check_nodes
from dap_engine.engine.planning.recipe import Node, RecipeError
from dap_engine.engine.records.column import FolderColumn
from dap_engine.engine.records.sample import Row
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.jobs.__main__ import main
from dap_engine.stages import plan as plan_module
from dap_engine.stages.plan import Plan
from tests.footage import grey_ramp, write_video
from tests.runs import Bring, finished, hashes, rows_of


def fill(folder, *names: str):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x" * len(name))
    return folder


def ids(run, shard: str) -> list[str]:
    return run.table(run.receipts("plan")[shard])["video_id"].to_pylist()


@pytest.fixture
def videos(tmp_path):
    return fill(tmp_path / "videos", *(f"clip.{n}.mp4" for n in range(7)))


def test_every_video_is_in_one_shard_once(tmp_path, videos):
    run = finished(tmp_path / "run", Plan(videos=str(videos), videos_per_shard=3))
    assert {shard: receipt.samples_out for shard, receipt in run.receipts("plan").items()} == {
        "000000": 2,
        "000001": 3,
        "000002": 2,
    }
    rows = rows_of(run, "plan")
    assert sorted(row["uri"] for row in rows.values()) == [str(videos / f"clip.{n}.mp4") for n in range(7)]
    assert all(row["bytes"] == len("clip.0.mp4") for row in rows.values())
    assert not any("." in video_id for video_id in rows)


def test_the_same_videos_give_the_same_plan(tmp_path, videos):
    first, second = (finished(tmp_path / name, Plan(videos=str(videos), videos_per_shard=2)) for name in "ab")
    assert hashes(first, "plan") == hashes(second, "plan")
    assert [receipt.attempt for receipt in finished(first.uri, Plan(str(videos), 2)).receipts("plan").values()] == [
        1
    ] * 4


def test_ids_shards_and_splits_stay_when_the_folder_moves(tmp_path, videos):
    settings = {"videos_per_shard": 3, "validation_share": 0.5}
    before = finished(tmp_path / "a", Plan(videos=str(videos), **settings))
    moved = videos.rename(tmp_path / "elsewhere")
    after = finished(tmp_path / "b", Plan(videos=str(moved), **settings))
    assert [ids(after, shard) for shard in after.receipts("plan")] == [ids(before, s) for s in before.receipts("plan")]
    splits = [{key: row["split"] for key, row in rows_of(run, "plan").items()} for run in (before, after)]
    assert splits[0] == splits[1]


def test_more_videos_extend_the_plan_and_leave_the_earlier_shards_as_they_are(tmp_path, videos):
    plan = Plan(videos=str(videos), videos_per_shard=3)
    before = finished(tmp_path / "run", plan)
    shards = hashes(before, "plan")
    fill(videos, *(f"added.{n}.mp4" for n in range(4)))
    after = finished(tmp_path / "run", Plan(videos=str(videos), videos_per_shard=3))
    assert {shard: sha256 for shard, sha256 in hashes(after, "plan").items() if shard in shards} == shards
    assert {shard: receipt.samples_out for shard, receipt in after.receipts("plan").items()} == {
        "000000": 2,
        "000001": 3,
        "000002": 2,
        "000003": 2,
        "000004": 2,
    }
    assert len(rows_of(after, "plan")) == 11


def test_a_removed_video_leaves_its_shard_and_nothing_else_moves(tmp_path, videos):
    before = finished(tmp_path / "run", Plan(videos=str(videos), videos_per_shard=3))
    kept = {shard: ids(before, shard) for shard in before.receipts("plan")}
    (videos / "clip.0.mp4").unlink()
    after = finished(tmp_path / "run", Plan(videos=str(videos), videos_per_shard=3))
    gone = {video_id for shard in kept.values() for video_id in shard} - set(rows_of(after, "plan"))
    assert len(gone) == 1
    assert {s: ids(after, s) for s in kept} == {s: [i for i in kept[s] if i not in gone] for s in kept}


def test_what_is_listed_but_not_there_stays_in_to_be_dropped_later(tmp_path, videos):
    (videos / "list.txt").write_text("clip.0.mp4\ngone.mp4\n")
    rows = rows_of(finished(tmp_path / "run", Plan(videos=str(videos / "list.txt"))), "plan")
    assert sorted(row["bytes"] for row in rows.values()) == [-1, len("clip.0.mp4")]


def test_footage_of_the_run_itself(tmp_path):
    first = Row("v0", {"mp4": b"12345", "truth.tar": b"t", "json": b"{}"})
    footage = Bring(FolderColumn("footage"), {"000000": [first], "000001": [Row("v1", {"mp4": b""})]})
    rows = rows_of(finished(tmp_path, footage, Plan(videos="run:footage", videos_per_shard=1)), "plan")
    assert {row["uri"]: row["bytes"] for row in rows.values()} == {
        "run:footage/000000/v0.mp4": 5,
        "run:footage/000001/v1.mp4": 0,
    }


@given(st.text("abc-0123456789", min_size=1), st.integers(0, 2**31), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_split_depends_on_the_video_and_the_seed_alone_and_grows_with_the_share(video_id, seed, one, other):
    small, large = sorted((one, other))
    splits = [
        Plan(videos=place, validation_share=share, seed=seed).split_of(video_id)
        for place, share in (("a", small), ("b", small), ("a", large))
    ]
    assert splits[0] == splits[1]
    assert (splits[0], splits[2]) != ("val", "train")


def test_the_share_is_kept_and_the_seed_draws_anew():
    videos = [f"video-{n}" for n in range(2000)]
    drawn = [[Plan(videos="", validation_share=0.2, seed=seed).split_of(v) == "val" for v in videos] for seed in (0, 1)]
    assert [sum(splits) / len(videos) for splits in drawn] == pytest.approx([0.2, 0.2], abs=0.03)
    assert drawn[0] != drawn[1]
    assert all(Plan(videos="", validation_share=0.0).split_of(video) == "train" for video in videos)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_no_videos_stop_the_recipe_before_any_work(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=rf"^step 'plan': videos: .*{name}") as caught:
        check_nodes([Node("plan", Plan(videos=str(tmp_path / name)))])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"videos_per_shard": 0}, {"validation_share": 1.0}, {"validation_share": -0.1}, {"seconds_per_shard": 0}],
)
def test_wrong_settings(settings):
    with pytest.raises(ValueError, match="_per_shard"):
        Plan(videos="x", **settings)


def test_a_lost_receipt_loses_no_video(tmp_path):
    for name in "abc":
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(name.encode())
    step = Plan(videos=str(tmp_path / "videos"), videos_per_shard=1)
    run = finished(tmp_path / "run", step)
    planned = {row.key for receipt in run.receipts("plan").values() for row in run.rows(receipt)}
    run.storage.delete("receipts/plan/000000.json")
    run = finished(tmp_path / "run", Plan(videos=str(tmp_path / "videos"), videos_per_shard=1))
    assert {row.key for receipt in run.receipts("plan").values() for row in run.rows(receipt)} == planned


@pytest.fixture
def clips(tmp_path) -> Path:
    """Real videos of 1, 2, 3, 4 and 8 seconds, and a file that is none."""
    (tmp_path / "clips").mkdir()
    for seconds in (1, 2, 3, 4, 8):
        write_video(tmp_path / "clips" / f"clip{seconds}.mp4", grey_ramp(2 * seconds), fps=2)
    (tmp_path / "clips" / "noise.mp4").write_bytes(b"no video")
    return tmp_path / "clips"


def seconds_by_shard(run) -> dict[str, float]:
    return {
        shard: sum(s or 0 for s in run.table(receipt)["seconds"].to_pylist())
        for shard, receipt in run.receipts("plan").items()
    }


def test_shards_hold_as_much_footage_as_each_other(tmp_path, clips):
    run = finished(tmp_path / "run", Plan(videos=str(clips), seconds_per_shard=10))
    rows = rows_of(run, "plan")
    assert {row["uri"].rsplit("/", 1)[1]: row["seconds"] for row in rows.values()} == {
        **{f"clip{seconds}.mp4": pytest.approx(seconds, abs=0.1) for seconds in (1, 2, 3, 4, 8)},
        "noise.mp4": None,
    }
    assert sorted(seconds_by_shard(run).values()) == [pytest.approx(8, abs=0.2), pytest.approx(10, abs=0.2)]
    assert not run.receipts("video-info"), "what was found out is in the plan"


def test_headers_of_many_videos_are_read_by_the_executor_and_planned_alike(tmp_path, clips, monkeypatch):
    few = finished(tmp_path / "few", Plan(videos=str(clips), seconds_per_shard=10))
    monkeypatch.setattr(plan_module, "_FEW", 1)
    monkeypatch.setattr(plan_module, "_PER_SHARD", 2)
    many = finished(tmp_path / "many", Plan(videos=str(clips), seconds_per_shard=10))
    assert hashes(many, "plan") == hashes(few, "plan")
    assert "video-info" not in many.columns()


def test_a_parquet_list_may_know_how_long_its_videos_are(tmp_path):
    entries = {"uri": ["s3://far/a.mp4", "s3://far/b.mp4"], "seconds": [3000.0, 1000.0], "bytes": [7, None]}
    pq.write_table(pa.table(entries), tmp_path / "list.parquet")
    run = finished(tmp_path / "run", Plan(videos=str(tmp_path / "list.parquet")))
    assert sorted(seconds_by_shard(run).values()) == [1000, 3000]
    assert sorted(row["bytes"] for row in rows_of(run, "plan").values()) == [-1, 7]


def later(path: Path, seconds: int) -> None:
    """As if the file had been written later than it was."""
    time_ns = path.stat().st_mtime_ns + seconds * 10**9
    os.utime(path, ns=(time_ns, time_ns))


def test_a_video_replaced_by_another_of_the_same_size_changes_its_row_and_no_place(tmp_path):
    folder, run_dir = fill(tmp_path / "videos", "a.mp4", "b.mp4"), tmp_path / "run"
    before = rows_of(finished(run_dir, Plan(videos=str(folder), videos_per_shard=1)), "plan")
    shards = hashes(finished(run_dir, Plan(videos=str(folder), videos_per_shard=1)), "plan")
    (folder / "a.mp4").write_bytes(b"y" * 5)
    later(folder / "a.mp4", 5)
    run = finished(run_dir, Plan(videos=str(folder), videos_per_shard=1))
    changed = {shard for shard, sha256 in hashes(run, "plan").items() if sha256 != shards[shard]}
    assert len(changed) == 1
    assert rows_of(run, "plan").keys() == before.keys()


def test_a_folder_that_was_written_anew_with_the_same_files_leaves_the_plan_as_it_is(tmp_path, clips):
    before = hashes(finished(tmp_path / "run", Plan(videos=str(clips))), "plan")
    shutil.copytree(clips, tmp_path / "copy", copy_function=shutil.copyfile)  # without the times
    shutil.rmtree(clips)
    (tmp_path / "copy").rename(clips)
    assert hashes(finished(tmp_path / "run", Plan(videos=str(clips))), "plan") == before


@pytest.mark.parametrize(
    ("seed", "share"),
    [(0, 0.05), (1, 0.95), *(pytest.param(*it, marks=pytest.mark.slow) for it in ((0, 0.95), (1, 0.05)))],
)
def test_two_videos_are_in_both_splits_and_stay_there(tmp_path, seed, share):
    plan = Plan(videos=str(fill(tmp_path / "videos", "a.mp4", "bb.mp4")), seed=seed, validation_share=share)
    run = finished(tmp_path / "run", plan)
    before = {key: row["split"] for key, row in rows_of(run, "plan").items()}
    assert sorted(before.values()) == ["train", "val"]
    fill(tmp_path / "videos", *(f"more-{'x' * n}.mp4" for n in range(12)))
    after = {key: row["split"] for key, row in rows_of(finished(run.uri, remade(plan)), "plan").items()}
    assert len(after) == 14
    assert before.items() <= after.items()
    other = Plan(plan.videos, seed=seed, validation_share=0.0)
    assert {row["split"] for row in rows_of(finished(run.uri, other), "plan").values()} == {"train"}


def test_of_one_video_nothing_is_held_out_until_a_second_comes(tmp_path, capsys):
    videos = fill(tmp_path / "videos", "a.mp4")
    recipe = f"name: one\nexecutor: in-process\nsteps: {{plan: {{step: plan, videos: '{videos}'}}}}\n"
    (tmp_path / "one.yaml").write_text(recipe)
    for expected in ({"a": "train"}, {"a": "train", "b": "val"}):
        assert main(["run", str(tmp_path / "one.yaml"), "--run-dir", str(tmp_path / "run")]) == 0
        rows = rows_of(RunDir(str(tmp_path / "run")), "plan")
        assert {key[0]: row["split"] for key, row in rows.items()} == expected
        said = " ".join(capsys.readouterr().err.split())
        warned = "warning: all footage is in the split train: there is but one video" in said
        assert warned == (len(expected) == 1), said
        fill(videos, "bb.mp4")


def remade(plan: Plan) -> Plan:
    """The same settings, as another command would read them: the videos are listed anew."""
    return Plan(plan.videos, validation_share=plan.validation_share, seed=plan.seed)


def test_copies_under_other_names_are_in_one_split_and_what_is_planned_keeps_its_own(tmp_path):
    """Half of all videos are held out: ten copies would fall into both splits."""
    folder = tmp_path / "videos"
    folder.mkdir()
    plan = {"videos": str(folder), "validation_share": 0.5}
    for number in range(8):
        (folder / f"{number}.mp4").write_bytes(bytes([number]) * 9)
    before = rows_of(finished(tmp_path / "run", Plan(**plan)), "plan")
    assert {row["split"] for row in before.values()} == {"train", "val"}
    for number in range(8):
        for copy in range(5):
            shutil.copy(folder / f"{number}.mp4", folder / f"{copy} of {number}.mp4")
    after = rows_of(finished(tmp_path / "run", Plan(**plan)), "plan")
    assert {key: after[key]["split"] for key in before} == {key: row["split"] for key, row in before.items()}
    splits = {(row["content"], row["split"]) for row in after.values()}
    assert (len(after), len(splits)) == (48, 8)

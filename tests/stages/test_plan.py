"""Plans: the same videos, the same plan; more videos extend it and move nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.columns import FolderColumn
from engine.recipe import Node, RecipeError
from engine.runner import check_nodes
from engine.stage import Row
from stages.plan import Plan
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
        "000000": 3,
        "000001": 3,
        "000002": 1,
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
        "000000": 3,
        "000001": 3,
        "000002": 1,
        "000003": 3,
        "000004": 1,
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


@pytest.mark.parametrize("settings", [{"videos_per_shard": 0}, {"validation_share": 1.0}, {"validation_share": -0.1}])
def test_wrong_settings(settings):
    with pytest.raises(ValueError, match="videos_per_shard"):
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

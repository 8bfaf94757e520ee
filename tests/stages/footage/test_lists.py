"""What a parquet list says of its videos: split, segment, rights; and how a plan takes it on."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dap_engine.engine.rundir.drops import read_drops
from dap_engine.engine.verification.verify import verify_run
from dap_engine.stages.extract import Extract
from dap_engine.stages.footage.listing import find_videos
from dap_engine.stages.plan import Plan
from tests.footage import grey_ramp, panorama, write_video
from tests.runs import finished, hashes, rows_of


@pytest.fixture
def write_list(tmp_path):
    """Writes a list of columns; returns its path."""

    def write(**columns) -> str:
        pq.write_table(pa.table(columns), tmp_path / "list.parquet")
        return str(tmp_path / "list.parquet")

    return write


def by_uri(run) -> dict[str, dict]:
    return {row["uri"].rpartition("/")[2]: row for row in rows_of(run, "plan").values()}


def test_split_and_rights_are_taken_on(tmp_path, write_list):
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"{name}.mp4", grey_ramp(5 + len(name)))
    listed = write_list(
        uri=["a.mp4", "b.mp4", "c.mp4"],
        split=["test", None, "val"],
        license=["CC-BY-4.0", None, " CC0-1.0 "],
        source_url=["https://example.org/a", None, None],
    )
    rows = by_uri(finished(tmp_path / "run", Plan(videos=listed, validation_share=0.0)))
    assert (rows["a.mp4"]["split"], rows["c.mp4"]["split"]) == ("test", "val")
    assert [rows[f"{name}.mp4"]["license"] for name in "abc"] == ["CC-BY-4.0", None, "CC0-1.0"]
    assert rows["a.mp4"]["source_url"] == "https://example.org/a"
    assert "attribution" not in rows["a.mp4"]


def test_a_plan_without_such_columns_is_what_it_was(tmp_path, write_list):
    write_video(tmp_path / "a.mp4", grey_ramp(5))
    plain = finished(tmp_path / "one", Plan(videos=write_list(uri=["a.mp4"])))
    empty = finished(tmp_path / "two", Plan(videos=write_list(uri=["a.mp4"], license=pa.nulls(1, pa.string()))))
    assert hashes(plain, "plan") == hashes(empty, "plan")
    assert set(by_uri(plain)["a.mp4"]) == {"video_id", "uri", "bytes", "split", "seconds", "content"}


def test_videos_of_other_licences_are_drops_and_move_no_other(tmp_path, write_list):
    for name in ("a", "b", "c", "d"):
        write_video(tmp_path / f"{name}.mp4", grey_ramp(5))
    uris = ["a.mp4", "b.mp4", "c.mp4"]
    licenses = ["cc-by-4.0", "all rights reserved", None]
    plan = Plan(videos=write_list(uri=uris, license=licenses), licenses=["cc-by-4.0", "cc0-1.0"], videos_per_shard=2)
    run = finished(tmp_path / "run", plan)
    assert by_uri(run).keys() == {"a.mp4"}
    drops = [drop for receipt in run.receipts("plan").values() for drop in read_drops(run, receipt)]
    assert sorted((drop.code, drop.detail) for drop in drops) == [
        ("license", "all rights reserved"),
        ("license", "the list says no licence"),
    ]
    assert verify_run(run).ok
    shards = {key: shard for shard, receipt in run.receipts("plan").items() for key in keys(run, receipt)}
    more = write_list(uri=[*uris, "d.mp4"], license=[*licenses, "cc0-1.0"])
    run = finished(tmp_path / "run", Plan(videos=more, licenses=["cc-by-4.0", "cc0-1.0"], videos_per_shard=2))
    after = {key: shard for shard, receipt in run.receipts("plan").items() for key in keys(run, receipt)}
    assert {key: after[key] for key in shards} == shards
    assert len(after) == 4
    free = finished(tmp_path / "run", Plan(videos=more, videos_per_shard=2))
    assert by_uri(free).keys() == {"a.mp4", "b.mp4", "c.mp4", "d.mp4"}


def keys(run, receipt) -> list[str]:
    """Videos of a shard of the plan, dropped ones too."""
    return [*run.table(receipt)["video_id"].to_pylist(), *(drop.key for drop in read_drops(run, receipt))]


@pytest.mark.parametrize("snap_to_keyframes", [False, True])
def test_segments_are_videos_of_their_own_in_one_split(tmp_path, write_list, snap_to_keyframes):
    frames = [panorama(64, seed, turn=seed / 7) for seed in range(30)]
    write_video(tmp_path / "a.mp4", frames, fps=10)
    listed = write_list(uri=["a.mp4"] * 3, start_s=[0.4, 2.0, math.nan], end_s=[1.2, None, 0.2])
    run = finished(
        tmp_path / "run",
        Plan(videos=listed, validation_share=0.5),
        Extract(every_s=0.2, height=64, near_duplicate_bits=None, snap_to_keyframes=snap_to_keyframes),
    )
    plan = rows_of(run, "plan")
    assert len(plan) == 3
    assert len({row["split"] for row in plan.values()}) == 1
    times = {video_id: [] for video_id in plan}
    for row in rows_of(run, "frames").values():
        times[row["json"]["video_id"]].append(row["json"]["timestamp_s"])
    found = {(plan[key]["start_s"], plan[key]["end_s"]): sorted(values) for key, values in times.items()}
    if snap_to_keyframes:
        assert all((start or 0) <= time < (end or 3) for (start, end), values in found.items() for time in values)
    else:
        assert found == {
            (0.4, 1.2): [0.4, 0.6, 0.8, 1.0],
            (2.0, None): [2.0, 2.2, 2.4, 2.6, 2.8],
            (None, 0.2): [0.0],
        }


def test_videos_on_the_web_whose_length_nobody_knows_do_not_fill_one_shard(tmp_path, write_list):
    urls = [f"https://example.org/{n}.mp4" for n in range(12)]
    run = finished(tmp_path / "run", Plan(videos=write_list(uri=urls)))
    assert [receipt.samples_out for receipt in run.receipts("plan").values()] == [6, 6]
    known = finished(tmp_path / "known", Plan(videos=write_list(uri=urls, seconds=[60.0] * 12)))
    assert [receipt.samples_out for receipt in known.receipts("plan").values()] == [12]


def test_a_segment_beyond_the_end_is_a_drop(tmp_path, write_list):
    write_video(tmp_path / "a.mp4", [panorama(64, 1)] * 5)
    listed = write_list(uri=["a.mp4"], start_s=[3600])
    run = finished(tmp_path / "run", Plan(videos=listed), Extract(height=64))
    assert run.receipts("frames").drops == {"empty_segment": 1}


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"start_s": [5.0], "end_s": [5.0]}, "row 1: no segment lies from 5 s to 5.0 s"),
        ({"start_s": [-1.0]}, "row 1: no segment"),
        ({"end_s": ["soon"]}, "row 1: start_s and end_s are seconds"),
        ({"split": ["../val"]}, "row 1: split '../val'"),
    ],
)
def test_what_cannot_be_meant_is_told(write_list, columns, word):
    with pytest.raises(ValueError, match=word.replace(".", r"\.")):
        find_videos(write_list(uri=["a.mp4"], **columns))


def test_videos_without_a_licence_have_no_say_in_the_splits(tmp_path, write_list):
    """Of those that are left there is one in each split, whatever the dropped ones would have drawn."""
    for number in range(12):
        write_video(tmp_path / f"{number}.mp4", grey_ramp(5 + number))
    for kept in range(0, 12, 2):
        licenses = ["cc0-1.0" if number in (kept, kept + 1) else None for number in range(12)]
        listed = write_list(uri=[f"{number}.mp4" for number in range(12)], license=licenses)
        run = finished(tmp_path / f"run-{kept}", Plan(videos=listed, licenses=["cc0-1.0"], validation_share=0.3))
        assert sorted(row["split"] for row in by_uri(run).values()) == ["train", "val"]

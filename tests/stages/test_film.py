"""Films: one video a shard, the truth of every frame beside it, out of the curation's sight."""

import io
import json

import av
import pytest

from dap_engine.engine.records.tar import read_tar
from dap_engine.models.data.depth_png import decode_depth_png
from dap_engine.stages.film import Film
from dap_engine.stages.plan import Plan
from tests.runs import finished, hashes, rows_of

SMALL = {"videos": 2, "height": 16, "seconds": 3.0, "fps": 1.0, "seed": 5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run"), Film(**SMALL), Plan(videos="run:footage"))


def read(run, shard: str) -> dict[str, bytes]:
    """The files of a shard, by extension."""
    path = run.receipts("footage")[shard].output.path
    files = run.storage.list(path)
    assert len({name.partition(".")[0] for name in files}) == 1
    return {name.partition(".")[2]: run.storage.read_bytes(f"{path}/{name}") for name in files}


@pytest.mark.parametrize("shard", ["000000", "000001"])
def test_every_frame_of_the_video_has_its_true_depth(run, shard):
    files = read(run, shard)
    assert set(files) == {"mp4", "json", "truth.tar"}
    with av.open(io.BytesIO(files["mp4"])) as container:
        stream = container.streams.video[0]
        pictures = list(container.decode(stream))
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 1)
    truth = list(read_tar(io.BytesIO(files["truth.tar"])))
    assert (
        [row.key for row in truth]
        == [f"{number:06d}" for number in range(len(pictures))]
        == [
            "000000",
            "000001",
            "000002",
        ]
    )
    for picture, row in zip(pictures, truth, strict=True):
        depth = decode_depth_png(row.fields["depth.png"])
        assert depth.depth_m.shape == (picture.height, picture.width) == (16, 32)
        assert (depth.valid | depth.beyond_range).all()
    info = json.loads(files["json"])
    assert (info["frames"], info["fps"], len(info["poses"])) == (3, 1.0, 3)


def test_the_plan_finds_the_videos_and_not_the_truth(run):
    uris = sorted(row["uri"] for row in rows_of(run, "plan").values())
    assert uris == ["run:footage/000000/field_5_000000.mp4", "run:footage/000001/field_5_000001.mp4"]


def test_a_shard_made_alone_and_a_second_time_has_the_same_bytes(run, tmp_path):
    again = finished(tmp_path / "a", Film(**SMALL))
    assert hashes(again, "footage") == hashes(run, "footage")
    stage = Film(**SMALL)
    (row,) = stage.process(list(stage.source("000001")))
    assert row.fields == read(run, "000001")


def test_more_videos_leave_the_earlier_ones(run, tmp_path):
    more = finished(tmp_path, Film(**SMALL | {"videos": 3}))
    before, after = hashes(run, "footage"), hashes(more, "footage")
    assert len(after) == 3
    assert before.items() <= after.items()


@pytest.mark.parametrize("change", [{"videos": 0}, {"seconds": 0.1}, {"fps": 0.0}, {"height": 17}, {"height": 0}])
def test_wrong_settings(change):
    with pytest.raises(ValueError, match="film"):
        Film(**SMALL | change)

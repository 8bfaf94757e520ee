"""`fuse-scale`: labels of a shot keep one scale, each shot by itself."""

import numpy as np
import pytest

from dap_engine.engine.records.column import TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.models.data.depth_png import decode_depth_png, encode_depth_png
from dap_engine.stages.fuse_scale import FuseScale
from tests.runs import FRAMES, Bring, finished, frame, noise_depth_m, rows_of

FLICKER = [1.0, 1.4, 0.8, 1.2, 0.7, 1.3]
SHOTS = [("a", 0)] * 6 + [("a", 1)] * 2 + [("b", 0)] * 2
ROOM_M = np.clip(noise_depth_m(0), 1, 20)


def scale_m(number: int) -> float:
    """Six frames that flicker, two of another place at another scale, and two of a video that does not."""
    return FLICKER[number] if number < 6 else 3.0 if number < 8 else 0.5


def keys() -> list[str]:
    return [f"{video}-{number:02d}" for number, (video, _) in enumerate(SHOTS)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    frames = [frame(key, 0, video_id=video, shot=shot) for key, (video, shot) in zip(keys(), SHOTS, strict=True)]
    frames.append(frame("c-00", 0))  # a picture of no video
    labels = []
    for number, key in enumerate([*keys(), "c-00"]):
        depth_m = np.where(np.arange(64) < 5, np.inf, ROOM_M * scale_m(number))
        labels.append(Row(key, {"depth.png": encode_depth_png(depth_m), "json": {"spread": 0.25}}))
    given = Bring(TarColumn("labels-1", ("depth.png", "json")), {"000000": labels})
    return finished(tmp_path_factory.mktemp("run"), Bring(FRAMES, {"000000": frames}), given, FuseScale(window=9))


def test_every_shot_gets_one_scale(run):
    rows = rows_of(run, "labels-2")
    maps = {key: decode_depth_png(row["depth.png"]) for key, row in rows.items()}
    assert all(one.beyond_range[:, :5].all() for one in maps.values())
    mean = np.exp(np.mean(np.log(FLICKER)))
    for number, key in enumerate(keys()):
        expected = mean if number < 6 else scale_m(number)
        np.testing.assert_allclose(maps[key].depth_m[:, 5:], ROOM_M[:, 5:] * expected, rtol=0.01)
        assert rows[key]["json"]["scale_factor"] == pytest.approx(expected / scale_m(number), rel=0.01)
        assert rows[key]["json"]["spread"] == 0.25
        assert rows[key]["json"]["max_m"] == pytest.approx(maps[key].depth_m[:, 5:].max(), abs=2e-3)
    assert rows["c-00"]["json"]["scale_factor"] == 1


def test_settings():
    for wrong in ({"round": 1}, {"window": 0}, {"batch_size": 1}):
        with pytest.raises(ValueError, match="fuse-scale: needs a round of its own"):
            FuseScale(**wrong)

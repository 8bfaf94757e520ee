"""`dap evaluate --temporal` on films of the simulator and on encoded footage: what flickers, and wrong usage."""

import json
from pathlib import Path

import numpy as np
import pytest

from dap_engine.engine.records.sample import Sample
from dap_engine.jobs.__main__ import main
from dap_engine.models.datasets.base import DatasetError
from dap_engine.models.datasets.film import read_film
from dap_engine.models.evaluation import temporal
from dap_engine.stages.film import Film
from tests.footage import panorama, write_video

OURS = f"python:{__name__}:"


def by_brightness(rgb: np.ndarray) -> np.ndarray:
    """Distances whose scale flickers with the brightness of the frame's first pixel."""
    return 1 + rgb[..., 0] / 50 * (1 + rgb[0, 0, 0] % 7)


def by_mark(rgb: np.ndarray) -> np.ndarray:
    """A sphere of 5 m, or a tenth wider in frames with a bright mark at the zenith."""
    return np.full(rgb.shape[:2], 5.5 if rgb[0].mean() > 128 else 5.0)


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    return filmed(tmp_path_factory.mktemp("footage"), Film(videos=2, height=32, seconds=3, fps=2))


def filmed(folder: Path, film: Film) -> Path:
    for shard in film.shards():
        (row,) = film.process([Sample(shard, {})])
        for name, data in row.fields.items():
            (folder / f"{row.key}.{name}").write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return folder


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
    return folder


def evaluate(capsys, footage, *arguments: object) -> dict:
    command = ["evaluate", "--temporal", "--dataset", "film", "--root", footage, *arguments, "--device", "cpu"]
    assert main([*map(str, command), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_truth_of_a_film_agrees_with_itself(footage):
    """So poses, turns and distances go together as they are read."""
    for path in sorted(footage.glob("*.mp4")):
        film = read_film(path)
        assert len(film.rgbs) == 6
        found = temporal.film_figures(film, np.where(np.isinf(film.depths_m), 100, film.depths_m))
        assert found["temporal_error"] == pytest.approx(0, abs=1e-6)
        assert found["abs_rel"] == 0
        seen, _ = temporal._film_change(film, film.depths_m, 0, 1)
        assert seen.size > 0.5 * np.isfinite(film.depths_m[0]).sum(), "most points are where the poses say"


def test_without_the_truth_flicker_is_what_it_is_with_it(tmp_path):
    """Of a camera that walks and turns."""
    (path,) = filmed(tmp_path, Film(videos=1, height=128, seconds=1, fps=5)).glob("*.mp4")
    film = read_film(path)
    predicted_m = film.depths_m * np.array([1, 1.2, 1.1, 1.25, 0.9])[:, None, None]
    found = temporal.footage_figures(film, predicted_m)
    true = temporal.film_figures(film, np.where(np.isinf(predicted_m), 100, predicted_m))
    assert (found["pairs"], found["left_out"]) == (4, 0)
    assert found["scale_flicker"] == pytest.approx(true["scale_flicker"], abs=0.02)
    assert found["temporal_change"] == pytest.approx(true["temporal_error"], abs=0.05)


@pytest.mark.slow
def test_models_on_films(capsys, footage, published, own_folder):
    found = evaluate(capsys, footage, "--model", f"{OURS}by_brightness")
    fused = evaluate(capsys, footage, "--model", f"{OURS}by_brightness", "--fuse-scale", 4)
    assert (found["films"], found["frames"], found["fuse_scale"], fused["fuse_scale"]) == (2, 12, 0, 4)
    assert 0 < fused["scale_flicker"] < found["scale_flicker"] / 2
    assert fused["temporal_error"] < found["temporal_error"]
    assert (own_folder / "dap-evaluate" / "images.csv").read_text().count("\n") == 3
    assert evaluate(capsys, footage)["abs_rel"] > 0, "our own model"
    model = f"depthcrafter:{published['depthcrafter']}"
    shot = evaluate(capsys, footage, "--model", model, "--alignment", "disparity")
    assert (shot["output"], shot["films"]) == ("relative-disparity", 2)
    assert shot["temporal_error"] > 0
    assert (
        main(["evaluate", "--temporal", "--dataset", "film", "--root", str(footage), "--model", f"{OURS}by_brightness"])
        == 0
    )
    assert "scale_flicker" in capsys.readouterr().out


def test_what_cannot_be(capsys, footage, published, tmp_path):
    film = ["--dataset", "film", "--root", footage]
    for arguments, message in [
        ([*film], "--temporal and --dataset film or footage go"),
        (
            ["--dataset", "shards", "--root", footage, "--temporal"],
            "--temporal and --dataset film or footage go",
        ),
        (["--dataset", "shards", "--root", footage, "--fuse-scale", 4], "--fuse-scale is for --temporal"),
        ([*film, "--temporal", "--fuse-scale", -1], "--fuse-scale is for --temporal, and a number of frames"),
        (["--dataset", "film", "--root", tmp_path / "no", "--temporal"], "no such folder"),
        (["--dataset", "film", "--root", tmp_path / "weights", "--temporal"], "holds no film"),
        ([*film, "--temporal", "--split", "test"], "--split: film and footage have none"),
        (["--dataset", "film", "--root", "s3://a/b", "--temporal"], "films are read from a folder of this machine"),
        ([*film, "--temporal", "--frames", 4], "--frames, --every and --height are for --dataset footage"),
        (
            [*film, "--temporal", "--fuse-scale", 4, "--model", "depthcrafter:a/b", "--alignment", "disparity"],
            "--fuse-scale is for metres",
        ),
    ]:
        assert main(["evaluate", *map(str, arguments)]) == 2, arguments
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line


def test_damaged_films_are_one_line(footage, tmp_path):
    for path in footage.glob("*_000000.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (video,) = tmp_path.glob("*.mp4")
    whole = video.with_suffix(".json").read_text()
    for damage, message in [
        (whole.replace("yaw_deg", "yaw"), "holds no poses"),
        (json.dumps({"poses": json.loads(whole)["poses"][:-1]}), "6 frames, but 6 truths and 5 poses"),
    ]:
        video.with_suffix(".json").write_text(damage)
        with pytest.raises(DatasetError, match=message):
            read_film(video)
    video.with_suffix(".truth.tar").write_bytes(b"no tar")
    with pytest.raises(DatasetError, match="is no truth of a film"):
        read_film(video)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Real files: one of 8 frames that turns, every second frame with a mark, then a cut to 4 others; one with none."""
    folder = tmp_path_factory.mktemp("marked")
    turning = [np.roll(panorama(96), 2 * number, axis=1) for number in range(8)]
    turning += [np.roll(panorama(96, seed=1), 2 * number, axis=1) for number in range(4)]
    for number, rgb in enumerate(turning):
        rgb[:4] = 255 * (number % 2)
    write_video(folder / "marked.mp4", turning, fps=5)
    (folder / "more").mkdir()
    write_video(folder / "more" / "still.mkv", [panorama(96)] * 6, fps=5)
    (folder / "broken.mp4").write_bytes(b"no video")
    write_video(folder / "short.mp4", turning[:1], fps=5)
    return folder


def test_footage_without_truth(capsys, marked, own_folder):
    command = ["evaluate", "--temporal", "--dataset", "footage", "--root", marked, "--height", 96, "--device", "cpu"]
    assert main([*map(str, command), "--model", f"{OURS}by_mark", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [found[name] for name in ("videos", "frames", "pairs", "left_out")] == [2, 18, 15, 1]
    assert [line.split(":")[:2] for line in said.err.splitlines()] == [
        ["left out", " broken.mp4"],
        ["left out", " short.mp4"],
    ]
    assert found["scale_flicker"] == pytest.approx(np.log(1.1) / 2, rel=1e-4), "one flickers, one does not"
    assert found["temporal_change"] == pytest.approx(np.log(1.1) / 2, rel=1e-4)
    assert found["share"] > 0.8
    assert found["rotation_deg"] == pytest.approx(2 * 180 / 96 / 2, abs=0.1)
    rows = (own_folder / "dap-evaluate" / "images.csv").read_text().splitlines()
    assert rows[0].startswith('"video","frames","pairs","left_out","temporal_change"')
    assert sorted(row.split(",")[0] for row in rows[1:]) == ['"marked.mp4"', '"more/still.mkv"']

    one = [*map(str, command), "--root", str(marked / "marked.mp4"), "--model", f"{OURS}by_mark"]
    assert main([*one, "--fuse-scale", "4", "--frames", "8", "--json"]) == 0
    fused = json.loads(capsys.readouterr().out)
    assert (fused["frames"], fused["left_out"], fused["fuse_scale"]) == (8, 0, 4)
    assert fused["scale_flicker"] < np.log(1.1) / 3
    assert main(one) == 0
    assert "pairs of frames left out, without a rotation or much to compare: 1" in capsys.readouterr().out


def test_footage_with_our_own_model(capsys, marked):
    command = ["evaluate", "--temporal", "--dataset", "footage", "--root", marked / "marked.mp4", "--height", 96]
    assert main([*map(str, command), "--frames", "3", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["frames"], found["pairs"]) == (3, 2)
    assert 0 < found["temporal_change"] < 1


def test_what_cannot_be_of_footage(capsys, marked, tmp_path):
    here = ["--dataset", "footage", "--root", marked]
    whole = [*here, "--temporal"]
    for arguments, message in [
        (here, "--temporal and --dataset film or footage go"),
        ([*whole, "--every", 0], "--every must be positive"),
        ([*whole, "--height", 4], "--height 16 to"),
        ([*whole, "--frames", 1], "--frames must be at least 2"),
        ([*whole, "--alignment", "median"], "--alignment median needs a truth"),
        ([*whole, "--model", f"{OURS}by_mark", "--output", "relative-depth"], "--dataset footage is for metres"),
        ([*whole, "--root", tmp_path], "holds no video"),
        ([*whole, "--root", tmp_path / "no"], "no such file or folder"),
        ([*whole, "--root", marked / "broken.mp4"], "broken.mp4: unreadable"),
        ([*whole, "--root", marked / "short.mp4"], "short.mp4: too_short: 1 frame every 0.2 s"),
        ([*whole, "--every", 60, "--root", marked / "more"], "still.mkv: too_short"),
    ]:
        assert main(["evaluate", *map(str, arguments)]) == 2, arguments
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line

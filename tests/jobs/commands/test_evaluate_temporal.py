"""`dap evaluate --temporal` on films of the simulator: what flickers, what fusing the scale does, and wrong usage."""

import json

import numpy as np
import pytest

from dap_engine.engine.records.sample import Sample
from dap_engine.jobs.__main__ import main
from dap_engine.models.datasets.base import DatasetError
from dap_engine.models.datasets.film import read_film
from dap_engine.models.evaluation import temporal
from dap_engine.stages.film import Film

OURS = f"python:{__name__}:"


def by_brightness(rgb: np.ndarray) -> np.ndarray:
    """Distances whose scale flickers with the brightness of the frame's first pixel."""
    return 1 + rgb[..., 0] / 50 * (1 + rgb[0, 0, 0] % 7)


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage")
    film = Film(videos=2, height=32, seconds=3, fps=2)
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
        found = temporal.temporal_figures(film, np.where(np.isinf(film.depths_m), 100, film.depths_m))
        assert found["temporal_error"] == pytest.approx(0, abs=1e-6)
        assert found["abs_rel"] == 0
        seen, _ = temporal._change(film, film.depths_m, 0, 1)
        assert seen.size > 0.5 * np.isfinite(film.depths_m[0]).sum(), "most points are where the poses say"


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
        ([*film], "--temporal and --dataset film go together"),
        (["--dataset", "shards", "--root", footage, "--temporal"], "--temporal and --dataset film go together"),
        (["--dataset", "shards", "--root", footage, "--fuse-scale", 4], "--fuse-scale is for --temporal"),
        ([*film, "--temporal", "--fuse-scale", -1], "--fuse-scale is for --temporal, and a number of frames"),
        (["--dataset", "film", "--root", tmp_path / "no", "--temporal"], "no such folder"),
        (["--dataset", "film", "--root", tmp_path / "weights", "--temporal"], "holds no film"),
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

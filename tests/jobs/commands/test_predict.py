"""`dap predict`: every file that it writes, read back; any labeler; a model that looks closer."""

import base64
import json
import re

import av
import cv2
import numpy as np
import OpenEXR
import pytest
import trimesh

from dap_engine.jobs.__main__ import main
from dap_engine.models.data.depth_png import decode_depth_png, decode_units
from dap_engine.models.datasets.files import read_exr_m
from dap_engine.models.drawing.depth import colour_depth
from dap_engine.models.network.dap import DapConfig, DapModel
from tests.footage import panorama, write_video


def test_the_model_may_look_closer(picture, tiny_model, tmp_path):
    depths = []
    for name, options in (("own", []), ("closer", ["--input-height", "128"])):
        out = tmp_path / name
        assert main(["predict", str(picture), "--model", str(tiny_model), "--out", str(out), *options]) == 0
        depths.append(decode_depth_png((out / "panorama.depth.png").read_bytes()).depth_m)
    assert depths[0].shape == depths[1].shape == cv2.imread(str(picture)).shape[:2]
    assert not np.allclose(*depths, rtol=0.01)


def test_a_height_that_patches_do_not_fill_is_one_line(capsys, picture, tiny_model, tmp_path):
    for height in ("100", "0"):
        command = ["predict", str(picture), "--model", str(tiny_model), "--out", str(tmp_path)]
        assert main([*command, "--input-height", height]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"a height of {height} is no multiple of the model's patch, 16" in line


def test_a_nearer_mask_is_applied_where_it_is_asked_to(picture, tmp_path):
    config = DapConfig.tiny(range_threshold_m=10.0, initial_beyond_range=0.999)
    DapModel.new(config).save_pretrained(tmp_path / "model")
    shares = []
    for options in ([], ["--nearer-mask"]):
        assert (
            main(["predict", str(picture), "--model", str(tmp_path / "model"), "--out", str(tmp_path), *options]) == 0
        )
        shares.append(decode_depth_png((tmp_path / "panorama.depth.png").read_bytes()).valid.mean())
    assert shares[0] == 1
    assert shares[1] < 0.5


def test_the_viewer_is_one_file_with_the_distances_that_were_written(picture, tiny_model, tmp_path):
    assert main(["predict", str(picture), "--model", str(tiny_model), "--out", str(tmp_path), "--viewer"]) == 0
    text = (tmp_path / "panorama.html").read_text()
    (scene,) = json.loads(re.search(r'id="scenes">(.*?)</script>', text, re.S)[1])
    units = decode_units(base64.b64decode(scene["maps"]["depth"].partition(",")[2]))
    assert np.array_equal(units, decode_units((tmp_path / "panorama.depth.png").read_bytes()))
    assert not re.search(r'(src|href)="(?!data:)', text)  # it needs no other file


ROOM = """
import numpy as np

def room(rgb):
    height, width = rgb.shape[:2]
    depth_m = np.full((height, width), 4.0)
    depth_m[:, width // 4 : width // 2] = 1.5  # a screen in front of the wall
    depth_m[: height // 8] = np.inf
    return depth_m

def nothing(rgb):
    raise RuntimeError("out of order")
"""


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A labeler of the user's: a wall at 4 m, a screen before it, and sky."""
    (tmp_path / "their_room.py").write_text(ROOM)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "python:their_room:room"


def test_depth_in_every_format(dap_here, picture, room, tmp_path):
    read = {
        "png": lambda path: decode_depth_png(path.read_bytes()).depth_m,
        "exr": lambda path: OpenEXR.File(str(path), separate_channels=True).channels()["Z"].pixels,
        "npy": np.load,
    }
    for name, load in read.items():
        out = tmp_path / name
        assert dap_here("predict", picture, "--model", room, "--out", out, "--format", name).returncode == 0
        depth_m = load(out / f"panorama.depth.{name}")
        assert depth_m.dtype == np.float32
        assert (depth_m.shape, depth_m[0, 0], depth_m[64, 70], depth_m[64, 0]) == ((128, 256), np.inf, 1.5, 4)
        assert {path.name for path in out.iterdir()} == {f"panorama.depth.{name}", "panorama.colour.png"}
    assert np.array_equal(read_exr_m(tmp_path / "exr/panorama.depth.exr"), depth_m)  # as `dap evaluate` reads it


def test_the_colours_come_with_a_bar_and_on_wish_with_the_panorama(dap_here, picture, room, tmp_path):
    command = ["predict", picture, "--model", room, "--out", tmp_path]
    shown = []
    for options in ([], ["--beside"]):
        assert dap_here(*command, *options).returncode == 0
        shown.append(cv2.imread(str(tmp_path / "panorama.colour.png"))[..., ::-1])
    given, (alone, beside) = cv2.imread(str(picture))[..., ::-1], shown
    assert np.abs(beside[:128].astype(int) - given).mean() < 3  # another decoder of JPEG
    assert np.array_equal(beside[128:], alone)
    four_m = colour_depth(np.full((1, 1), 4.0, np.float32))[0, 0]
    assert np.array_equal(alone[64, 0], four_m)
    at = round(256 * np.log(4 / 0.3) / np.log(100 / 0.3))
    assert np.abs(alone[130, at].astype(int) - four_m).max() < 8  # the bar has that colour at 4 m
    assert (alone[140:] == 255).any()  # and is written on


def test_points_and_a_mesh_that_is_cut_at_the_screen(dap_here, picture, room, tmp_path):
    command = ["predict", picture, "--model", room, "--out", tmp_path, "--ply", "--glb"]
    assert dap_here(*command).returncode == 0
    points = trimesh.load(tmp_path / "panorama.ply").vertices
    (in_glb,) = trimesh.load(tmp_path / "panorama.glb").geometry.values()
    assert len(points) == (128 - 16) * 256
    assert np.allclose(in_glb.vertices, points[:, [1, 2, 0]], atol=1e-5)  # y up
    assert in_glb.colors.std() > 1
    assert dap_here(*command, "--mesh").returncode == 0
    mesh = trimesh.load(tmp_path / "panorama.ply", process=False)
    (in_glb,) = trimesh.load(tmp_path / "panorama.glb", process=False).geometry.values()
    assert len(in_glb.faces) == len(mesh.faces) == 2 * (128 - 16 - 1) * (256 - 2)  # two columns of quads are cut
    corners_m = np.linalg.norm(mesh.vertices[mesh.faces], axis=2)
    assert (np.ptp(corners_m, axis=1) < 0.01).all()
    assert (np.einsum("ij,ij->i", mesh.face_normals, mesh.triangles_center) < 0).all()  # they face the camera
    assert len(mesh.split(only_watertight=False)) == 2
    assert dap_here("predict", picture, "--model", room, "--out", tmp_path, "--mesh").returncode == 2


def test_a_video_of_depth_runs_beside_the_one_it_was_made_of(dap_here, room, tmp_path):
    times_ms = [0, 100, 200, 450, 500, 900]  # of no steady rate
    frames = [panorama(64, turn=i / 20) for i in range(6)]
    video = write_video(tmp_path / "walk.mp4", frames, timestamps_ms=times_ms)
    command = ["predict", video, "--model", room, "--out", tmp_path / "out", "--video", "--height", "64"]
    for options, expected, height in (([], times_ms, 88), (["--every", "0.4", "--beside"], [0, 450, 900], 152)):
        done = dap_here(*command, *options)
        assert done.returncode == 0
        (written,) = (tmp_path / "out").iterdir()
        assert done.stderr == f"walk: {written}\n"
        with av.open(str(written)) as container:
            decoded = list(container.decode(video=0))
        assert [round(1000 * frame.time) for frame in decoded] == expected
        assert {(frame.height, frame.width) for frame in decoded} == {(height, 128)}
        assert written.name == "walk.depth.mp4"
    four_m = colour_depth(np.full((1, 1), 4.0, np.float32))[0, 0]
    assert np.abs(decoded[1].to_ndarray(format="rgb24")[64 + 32, 8].astype(int) - four_m).max() < 25


def test_a_folder_is_the_pictures_and_videos_in_it(dap_here, picture, room, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "hall.jpg").write_bytes(picture.read_bytes())
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.mp4").write_bytes(b"no film")
    write_video(folder / "walk.mp4", [panorama(64)] * 3)
    done = dap_here("predict", folder, "--model", room, "--out", tmp_path / "out")
    assert (done.returncode, "broken.mp4: unreadable" in done.stderr) == (1, True)  # the others are there
    names = {path.name for path in (tmp_path / "out").glob("*.depth.png")}
    assert names == {"hall.depth.png", "walk-00000.000s.depth.png"}
    done = dap_here("predict", folder, "--model", room, "--out", folder)
    assert (done.returncode, "is a folder to read from" in done.stderr) == (2, True)


def test_labelers_that_will_not_do_are_one_line(dap_here, picture, room, tmp_path):
    command = ["predict", picture, "--out", tmp_path / "out", "--model"]
    for model, options, said in (
        ("python:their_room:nothing", [], "RuntimeError: out of order"),
        ("python:their_room:gone", [], "no attribute 'gone'"),
        ("diffusers:their/model", [], "no metres"),
        (room, ["--input-height", "64"], "only our own model"),
        (room, ["--patches", "2"], "size must be at least 16"),
    ):
        done = dap_here(*command, model, *options)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert said in done.stderr


def test_a_labeler_of_others_sees_views(dap_here, picture, room, tmp_path):
    assert dap_here("predict", picture, "--model", room, "--patches", "32", "--out", tmp_path / "out").returncode == 0
    assert decode_depth_png((tmp_path / "out/panorama.depth.png").read_bytes()).depth_m.shape == (128, 256)
    assert dap_here("try", "depth", picture, "--model", room, "--out", tmp_path / "out").returncode == 0

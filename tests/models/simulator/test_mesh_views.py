"""A user's own meshes: exact distances against analytic truth, colours, and files that cannot be read."""

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from dap_engine.models.simulator.geometry.rays import centre_directions
from dap_engine.models.simulator.rendering.render import render
from dap_engine.models.simulator.scenes.placement import camera_positions
from dap_engine.models.simulator.scenes.scene import load_scene

HEIGHT = 64
ROOM_M = np.array([6.0, 4.0, 3.0])


def box_distance(origin: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Ray distance (H, 2H) from inside a box around the origin to its walls."""
    rays = centre_directions(HEIGHT).astype(np.float64)
    with np.errstate(divide="ignore"):
        walls = np.maximum((half - origin) / rays, (-half - origin) / rays)
    return walls.min(axis=1).reshape(HEIGHT, 2 * HEIGHT)


def center() -> np.ndarray:
    return np.array([0.4, -0.3, 0.2])


@pytest.mark.parametrize("suffix", ["ply", "obj"])
def test_distances_in_a_box_room_are_exact(tmp_path, suffix):
    path = tmp_path / f"room.{suffix}"
    trimesh.creation.box(ROOM_M).export(path)
    depth = render(load_scene(path), center(), HEIGHT).depth_m
    np.testing.assert_allclose(depth, box_distance(center(), ROOM_M / 2), rtol=1e-5)


def test_a_glb_is_turned_from_y_up_to_z_up(tmp_path):
    path = tmp_path / "room.glb"
    trimesh.creation.box(ROOM_M[[1, 2, 0]]).export(path)  # glTF: x left, y up, z forward
    depth = render(load_scene(path), center(), HEIGHT).depth_m
    np.testing.assert_allclose(depth, box_distance(center(), ROOM_M / 2), rtol=1e-5)


def test_distances_to_a_sphere_and_the_sky_around_it(tmp_path):
    path = tmp_path / "ball.ply"
    trimesh.creation.icosphere(subdivisions=5, radius=1.0).export(path)
    depth = render(load_scene(path), (-4.0, 0.0, 0.0), HEIGHT).depth_m
    cos = centre_directions(HEIGHT)[:, 0].astype(np.float64).reshape(HEIGHT, -1)
    inside = 16 * cos**2 - 15
    truth = np.where((cos > 0) & (inside > 0), 4 * cos - np.sqrt(np.maximum(inside, 0)), np.inf)
    clear = np.abs(inside) > 0.15  # away from the silhouette
    assert (np.isinf(depth) == np.isinf(truth))[clear].all()
    hit = clear & np.isfinite(truth)
    np.testing.assert_allclose(depth[hit], truth[hit], atol=5e-3)
    assert np.isinf(depth).mean() > 0.9


def test_the_camera_is_put_inside_the_bounds_in_free_space(tmp_path):
    path = tmp_path / "room.ply"
    trimesh.creation.box(ROOM_M).export(path)
    scene = load_scene(path)
    positions = camera_positions(scene, 3, np.random.Generator(np.random.PCG64(0)))
    assert (np.abs(positions) < ROOM_M / 2 - 0.2).all()
    assert (np.diff(np.sort(positions[:, 0])) > 0).all()


def colored(path, visual) -> np.ndarray:
    """Mean sRGB (3,) of the walls of a room with this visual, seen from inside."""
    room = trimesh.creation.box(ROOM_M)
    room.visual = visual(room)
    room.export(path)
    return render(load_scene(path), (0, 0, 0), 16).rgb.mean(axis=(0, 1))


def red_image(room: trimesh.Trimesh, material) -> TextureVisuals:
    picture = Image.new("RGB", (8, 8), (220, 30, 20))
    uv = np.random.Generator(np.random.PCG64(0)).uniform(size=(len(room.vertices), 2))
    return TextureVisuals(uv=uv, material=material(picture))


@pytest.mark.parametrize(
    ("name", "visual"),
    [
        ("vertex.ply", lambda room: trimesh.visual.ColorVisuals(room, vertex_colors=[220, 30, 20, 255])),
        ("face.glb", lambda room: trimesh.visual.ColorVisuals(room, face_colors=[220, 30, 20, 255])),
        ("image.glb", lambda room: red_image(room, lambda picture: PBRMaterial(baseColorTexture=picture))),
        ("image.obj", lambda room: red_image(room, lambda picture: SimpleMaterial(image=picture))),
        ("factor.glb", lambda room: TextureVisuals(material=PBRMaterial(baseColorFactor=[200, 5, 3, 255]))),
    ],
)
def test_colours_of_files_are_seen(tmp_path, name, visual):
    red, green, blue = colored(tmp_path / name, visual)
    assert red > 2 * green
    assert red > 2 * blue


def test_a_mesh_without_colours_is_grey(tmp_path):
    path = tmp_path / "plain.ply"
    path.write_bytes(trimesh.exchange.ply.export_ply(trimesh.creation.box(ROOM_M), include_attributes=False))
    rgb = render(load_scene(path), (0, 0, 0), 16).rgb.astype(int)
    assert np.ptp(rgb.mean(axis=(0, 1))) < 12
    assert 60 < rgb.mean() < 220


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.glb", b"glTF\x02\x00\x00\x00 and then nothing"),
        ("broken.ply", b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nend_header\n0 zero"),
        ("empty.obj", b""),
        ("points.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"),
        ("mesh.stl2", b"solid"),
    ],
)
def test_an_unreadable_mesh_gives_one_clear_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=name) as caught:
        load_scene(path)
    assert "\n" not in str(caught.value)


def test_a_missing_mesh_gives_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load_scene(tmp_path / "nowhere.glb")

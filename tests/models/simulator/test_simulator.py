"""The simulator's scenes and panoramas: exact distances, determinism, seams, both kinds and looks."""

import numpy as np
import pytest

from dap_engine.models.simulator.appearance.looks import FieldCamera, compressed
from dap_engine.models.simulator.geometry.mesh import TEMPLATES, Frame, MeshBuilder
from dap_engine.models.simulator.geometry.rays import centre_directions, rotation
from dap_engine.models.simulator.rendering.panoramas import labelled_panoramas
from dap_engine.models.simulator.rendering.render import render, render_depth
from dap_engine.models.simulator.scenes.placement import camera_path, camera_positions, clearance_m
from dap_engine.models.simulator.scenes.scene import build_scene

KINDS_AND_LOOKS = [(kind, look) for kind in ("indoor", "outdoor") for look in ("synthetic", "field")]
HEIGHT = 48


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_rays_follow_the_panorama_convention():
    rays = centre_directions(4).reshape(4, 8, 3)
    assert rays[0, :, 2].min() > 0.9  # row 0 looks up
    np.testing.assert_allclose(rays[:, 3:5].mean(axis=(0, 1))[1:], 0, atol=1e-6)  # the centre column looks along +x
    assert rays[:, 3:5, 0].min() > 0
    assert rays[1, 1, 1] > 0.5  # a quarter from the left edge looks left, +y
    np.testing.assert_allclose(np.linalg.norm(rays, axis=2), 1, atol=1e-6)


def test_rotation_turns_left_looks_up_and_lowers_the_right():
    forward, right = np.array([1, 0, 0]), np.array([0, -1, 0])
    np.testing.assert_allclose(rotation(yaw_rad=np.pi / 2) @ forward, [0, 1, 0], atol=1e-6)
    assert (rotation(pitch_rad=0.1) @ forward)[2] > 0
    assert (rotation(roll_rad=0.1) @ right)[2] < 0


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_template_faces_outwards(name):
    template = TEMPLATES[name]()
    a, b, c = (template.vertices[template.faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    assert np.einsum("ij,ij->", a, normal) > 0  # six times the volume enclosed
    mean_normal = template.normals[template.faces].mean(axis=1)
    assert (np.einsum("ij,ij->i", normal, mean_normal) > 0).all()
    assert np.abs(template.vertices).max() < 0.75


def test_a_frame_inside_an_adopted_builder_lands_where_it_should():
    builder, aside = MeshBuilder(), MeshBuilder()
    Frame(aside).put("box", (1.0, 0.0, 0.5), (0.2, 0.2, 0.2), 0)
    builder.adopt(aside, (10.0, 0.0, 0.0), np.pi / 2)
    centre = builder.build().vertices.mean(axis=0)
    np.testing.assert_allclose(centre, [10.0, 1.0, 0.5], atol=1e-6)


@pytest.mark.parametrize(("kind", "look"), KINDS_AND_LOOKS)
def test_scenes_look_plausible(kind, look):
    for seed in range(3):
        scene = build_scene(kind, look, seed)
        panorama = render(scene, camera_positions(scene, 1, rng(seed))[0], HEIGHT)
        depth = panorama.depth_m
        finite = depth[np.isfinite(depth)]
        assert panorama.rgb.shape == (HEIGHT, 2 * HEIGHT, 3)
        assert panorama.rgb.dtype == np.uint8
        assert depth.dtype == np.float32
        assert finite.min() > 0.1
        assert 30 < panorama.rgb.mean() < 225
        assert panorama.rgb.std() > 12
        below = depth[-1]  # the ground under a camera at eye height
        assert (below < 2.6).all()
        if kind == "outdoor":
            assert np.isinf(depth[: HEIGHT // 2]).mean() > 0.05
            assert finite.max() > 30
        else:
            assert np.median(finite) < 8
            assert np.isinf(depth).mean() < 0.3


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    one, two, other = (
        [(p.key, p.rgb.tobytes(), p.depth_m.tobytes(), p.info) for p in labelled_panoramas(seed, 5, "field", 32)]
        for seed in (3, 3, 4)
    )
    assert one == two
    assert all(a[1] != b[1] for a, b in zip(one, other, strict=True))


def test_a_panorama_does_not_depend_on_which_others_are_rendered():
    many = {p.key: p for p in labelled_panoramas(7, 10, "synthetic", 32)}
    part = list(labelled_panoramas(7, 3, "synthetic", 32, start=5))
    assert [p.key for p in part] == sorted(many)[5:8]
    for panorama in part:
        assert panorama.rgb.tobytes() == many[panorama.key].rgb.tobytes()
        assert panorama.info == many[panorama.key].info


def test_views_share_a_scene_and_scenes_alternate_between_kinds():
    infos = [p.info for p in labelled_panoramas(1, 8, "synthetic", 16)]
    assert [i["scene"] for i in infos] == ["indoor"] * 4 + ["outdoor"] * 4
    assert len({i["scene_id"] for i in infos}) == 2
    assert len({tuple(i["position_m"]) for i in infos}) == 8


def test_field_tilt_stays_small_and_synthetic_is_level():
    tilts = [(p.info["roll_deg"], p.info["pitch_deg"]) for p in labelled_panoramas(2, 16, "field", 16)]
    assert 0 < np.abs(tilts).max() <= 5
    assert all(p.info["roll_deg"] == p.info["pitch_deg"] == 0 for p in labelled_panoramas(2, 4, "synthetic", 16))


@pytest.mark.parametrize(("kind", "look"), KINDS_AND_LOOKS)
def test_the_seam_is_no_worse_than_any_other_column(kind, look):
    scene = build_scene(kind, look, 11)
    panorama = render(scene, camera_positions(scene, 1, rng())[0], HEIGHT)
    rgb = panorama.rgb
    if look == "field":
        rgb = compressed(FieldCamera.draw(rng()), rgb, panorama.depth_m, rng())
    rgb = rgb.astype(float)
    steps = np.abs(rgb - np.roll(rgb, 1, axis=1)).mean(axis=(0, 2))
    assert steps[0] <= np.percentile(steps[1:], 97) + 2


def test_turning_the_camera_by_whole_columns_rolls_the_depth():
    scene = build_scene("indoor", "synthetic", 4)
    where = camera_positions(scene, 1, rng())[0]
    level, turned = render_depth(scene, where, HEIGHT), render_depth(scene, where, HEIGHT, yaw_rad=np.pi / 2)
    rolled = np.roll(level, HEIGHT // 2, axis=1)
    assert np.isclose(rolled, turned, rtol=1e-4).mean() > 0.98  # all but a few rays that graze an edge


@pytest.mark.parametrize("kind", ["indoor", "outdoor"])
def test_cameras_stand_and_walk_in_free_space(kind):
    scene = build_scene(kind, "field", 5)
    positions = camera_positions(scene, 6, rng())
    assert (clearance_m(scene, positions) > 0.3).all()
    path, yaw = camera_path(scene, 20, 4.0, rng())
    steps = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1)
    assert path.shape == (20, 3)
    assert yaw.shape == (20,)
    assert (clearance_m(scene, path) > 0.3).all()
    assert 0.3 < steps.sum() < 4.2
    assert steps.max() < 3 * steps.mean()  # no jumps


def test_the_field_camera_changes_pictures_and_adds_haze_with_distance():
    rgb = np.full((32, 64, 3), 40, np.uint8)
    near, far = (np.full((32, 64), d, np.float32) for d in (0.5, 400.0))
    hazy = [compressed(FieldCamera.draw(rng(3)), rgb, depth_m, rng(3)).mean() for depth_m in (near, far)]
    assert hazy[1] > hazy[0] + 5


def test_unknown_kinds_and_looks_are_refused():
    with pytest.raises(ValueError, match="underwater"):
        build_scene("underwater", "field", 0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="oil"):
        build_scene("indoor", "oil", 0)  # pyright: ignore[reportArgumentType]

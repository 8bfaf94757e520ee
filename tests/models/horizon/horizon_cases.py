"""Real pictures to measure horizon validation on: which files it may be tuned on, and what is made of the others."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from dap_engine.models.data.pictures import read_picture
from dap_engine.models.geometry import equirectangular as erp
from dap_engine.models.horizon.sphere_view import erp_rays, turned, view
from dap_engine.models.video.frames import sample_frames

HEIGHT = 512

# Fixed by name. The weights learn from LEARNT; thresholds and trusts were chosen on both. All other files are unseen.
LEARNT = frozenset(
    [
        "pager_church_meeting_room_indoor",
        "pager_eth_campus_plaza_outdoor",
        "pager_zurich_tree_intersection_outdoor",
        "polyhaven_apartment_indoor",
        "polyhaven_lobby_indoor",
        "polyhaven_night_outdoor",
        "polyhaven_warehouse_indoor",
        "gltf_camp_0_outdoor_rgb",
        "gltf_garage_0_indoor_rgb",
        "gltf_home-theater_0_indoor_rgb",
        "pansplat_insta360_corridor_indoor_1024x512",
        "threejs_lhc_tunnel_indoor_1920x1080_sar9-8",
        "vrview_richo_alcatraz_indoor_426x214",
        "axis360_hostel_indoor",
        "pannellum_jordan_pond_outdoor",
        "polyhaven_park_outdoor",
        "sdnet_room_indoor",
        "sdnet_room_indoor_upper",
    ]
)
CHOSEN_ON = frozenset(
    [
        "odmax_gopromax_conservatory_indoor",
        "panolens_dawn_outdoor",
        "panolens_golf_outdoor",
        "panolens_lamp_outdoor",
        "panolens_rock_outdoor",
        "panolens_tent_outdoor",
        "psv_bryce_canyon_outdoor",
    ]
)


def unseen_panoramas(folder: Path) -> dict[str, np.ndarray]:
    """Upright panoramas by file name, a frame of every video among them, that nothing was learnt from or chosen on."""
    rows = [row for row in manifest(folder) if row["expect"] == "keep" and row["kind"] != "negative_image_derived"]
    names = [row["file"] for row in rows if Path(row["file"]).stem not in LEARNT | CHOSEN_ON]
    return {name: picture(folder / name) for name in names}


def manifest(folder: Path) -> list[dict[str, str]]:
    with open(folder / "MANIFEST.csv", newline="") as file:
        return list(csv.DictReader(file))


def picture(path: Path) -> np.ndarray:
    return (
        read_picture(str(path)) if path.suffix in (".jpg", ".png") else next(sample_frames(str(path), 1e6, HEIGHT)).rgb
    )


def leaning(rgb: np.ndarray, roll_deg: float, pitch_deg: float) -> np.ndarray:
    """What a camera turned so takes where a level one took `rgb`."""
    return turned(rgb, erp.rotation_matrix(roll_deg=roll_deg, pitch_deg=pitch_deg).numpy(), HEIGHT)


def other_layouts(rgb: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """The panorama as everything that is not one: the codes it deserves, and the picture."""
    faces = [_lens(rgb, 90, 1.0, *angles) for angles in ((0, 0), (90, 0), (180, 0), (270, 0), (0, 89.9), (0, -89.9))]
    yield "cubemap", np.vstack([np.hstack(faces[:3]), np.hstack(faces[3:])])
    yield "cubemap", np.hstack(faces)
    yield "dual_fisheye", np.hstack([_fisheye(rgb, 0), _fisheye(rgb, 180)])
    yield "fisheye", _fisheye(rgb, float(rng.uniform(0, 360)))
    aside = np.roll(rgb, rgb.shape[1] // 90, axis=1)
    yield "stereo_top_bottom", np.vstack([rgb, aside])
    yield "stereo_top_bottom", _stretched(np.vstack([rgb, aside]))
    yield "stereo_side_by_side", _stretched(np.hstack([rgb, aside]))
    for field_deg in (60, 90, 120):
        yaw_deg, pitch_deg = float(rng.uniform(0, 360)), float(rng.uniform(-30, 30))
        yield "perspective", _lens(rgb, field_deg, 16 / 9, yaw_deg, pitch_deg)
        yield "perspective", _lens(rgb, field_deg, 2.0, yaw_deg, pitch_deg)
    yield "partial", rgb[len(rgb) // 4 : -len(rgb) // 4]
    yield "partial", rgb[: -len(rgb) // 4]


def stretched_parts(rgb: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Parts of the panorama stretched to 2:1, which the shape does not give away: what was done, and the picture."""
    height, width = rgb.shape[:2]
    around = np.roll(rgb, int(rng.integers(width)), axis=1)
    for degrees in (120, 180, 240):
        yield f"{degrees}° of 360°", _stretched(around[:, : width * degrees // 360])
    for share in (0.2, 0.3):
        rows = int(height * share)
        yield f"{share:.0%} cut off above", _stretched(rgb[rows:])
        yield f"{share:.0%} cut off below", _stretched(rgb[:-rows])
        yield f"{share:.0%} cut off above and below", _stretched(rgb[rows:-rows])
    for degrees in (90, 120, 150):
        yield f"cylinder of {degrees}°", view(rgb, _cylinder_rays(degrees))


def _stretched(rgb: np.ndarray) -> np.ndarray:
    return cv2.resize(rgb, (2 * HEIGHT, HEIGHT), interpolation=cv2.INTER_AREA)


def _lens(rgb: np.ndarray, field_deg: float, aspect: float, yaw_deg: float, pitch_deg: float) -> np.ndarray:
    half = np.tan(np.radians(field_deg / 2))
    y, z = np.meshgrid(np.linspace(half, -half, round(400 * aspect)), np.linspace(half, -half, 400) / aspect)
    rotation = erp.rotation_matrix(yaw_deg=yaw_deg, pitch_deg=pitch_deg).numpy()
    return view(rgb, _unit(np.stack([np.ones_like(y), y, z], axis=2)) @ rotation.T)


def _fisheye(rgb: np.ndarray, yaw_deg: float) -> np.ndarray:
    """A circle of 195°, equidistant, black outside."""
    y, z = np.meshgrid(np.linspace(1, -1, HEIGHT), np.linspace(1, -1, HEIGHT))
    radius = np.hypot(y, z)
    angle = radius * np.radians(195 / 2)
    rays = np.stack([np.cos(angle), np.sin(angle) * y / radius, np.sin(angle) * z / radius], axis=2)
    return np.where(radius[..., None] < 1, view(rgb, rays @ erp.rotation_matrix(yaw_deg=yaw_deg).numpy().T), 0)


def _cylinder_rays(height_deg: float) -> np.ndarray:
    rise = np.linspace(1, -1, HEIGHT)[:, None] * np.tan(np.radians(height_deg / 2))
    x, y, _ = np.moveaxis(erp_rays(HEIGHT)[HEIGHT // 2], 1, 0)
    return _unit(np.stack(np.broadcast_arrays(x, y, rise), axis=2))


def _unit(rays: np.ndarray) -> np.ndarray:
    return rays / np.linalg.norm(rays, axis=2, keepdims=True)

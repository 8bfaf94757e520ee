"""What files declare is read as ffmpeg reads it, and more; what is broken declares nothing."""

import struct
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dap_engine.models.video.decoder import Decoder
from dap_engine.models.video.frames import sample_frames
from dap_engine.models.video.spherical_metadata import Declared, declared_projection
from tests.footage import panorama, write_video
from tests.spherical import box, declare, equi, full_box, st3d, sv3d, xml_v1

FFMPEG_PROJECTIONS = ("equirectangular", "cubemap", "equirectangular")  # whole, cubemap, with bounds
FFMPEG_STEREO = ("mono", "side_by_side", "top_bottom")
WHOLE_SPHERE = Declared("equirectangular")
VR180 = Declared("equirectangular", "side_by_side", bounds=(0, 0, 0.25, 0.25))
CUBEMAP = full_box(b"cbmp", struct.pack(">2I", 0, 0))
MESH = full_box(b"mshp", struct.pack(">I", 0), b"raw ")

CASES = {
    "equirectangular": ([sv3d(equi())], WHOLE_SPHERE),
    "top_bottom": ([st3d("top_bottom"), sv3d(equi())], replace(WHOLE_SPHERE, stereo="top_bottom")),
    "vr180": ([sv3d(equi(left=0.25, right=0.25)), st3d("side_by_side")], VR180),
    "cubemap": ([st3d("mono"), sv3d(CUBEMAP)], Declared("cubemap")),
    "only_stereo": ([st3d("top_bottom")], Declared("unknown", "top_bottom")),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("plain") / "v.mp4", [panorama(64)] * 4)


@pytest.fixture
def video(plain, tmp_path) -> Path:
    path = tmp_path / "v.mp4"
    path.write_bytes(plain.read_bytes())
    return path


def as_ffmpeg_reads(path: Path) -> tuple[str, tuple[float, ...], str]:
    """Projection, bounds and stereo layout of the first frame's side data: C structs of ffmpeg."""
    with av.open(str(path)) as container:
        data = {side.type.name: bytes(side) for side in next(container.decode(video=0)).side_data}
    kind, *numbers = struct.unpack("<i3i5I", data.get("SPHERICAL", bytes(36)).ljust(36, b"\0")[:36])
    left, top, right, bottom = (bound / 2**32 for bound in numbers[3:7])
    stereo = FFMPEG_STEREO[struct.unpack_from("<i", data["STEREO3D"])[0]] if "STEREO3D" in data else "mono"
    projection = FFMPEG_PROJECTIONS[kind] if "SPHERICAL" in data else "unknown"
    return projection, (top, bottom, left, right), stereo


def remuxed(path: Path, suffix: str) -> Path:
    """The same packets in another container, with the metadata that ffmpeg carries over."""
    other = path.with_suffix(suffix)
    with av.open(str(path)) as source, av.open(str(other), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return other


@pytest.mark.parametrize("case", CASES)
def test_boxes_are_read_as_ffmpeg_reads_them(video, case):
    boxes, expected = CASES[case]
    declare(video, *boxes)
    assert declared_projection(str(video)) == expected
    projection, bounds, stereo = as_ffmpeg_reads(video)
    assert (projection, stereo) == (expected.projection, expected.stereo)
    assert bounds == pytest.approx(expected.bounds, abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_matroska_says_the_same(video, case):
    boxes, expected = CASES[case]
    assert declared_projection(str(remuxed(declare(video, *boxes), ".mkv"))) == expected


def test_quicktime_and_files_that_say_nothing(video, tmp_path):
    assert declared_projection(str(video)) is None
    mov = write_video(tmp_path / "v.mov", [panorama(64)] * 4)
    assert declared_projection(str(declare(mov, sv3d(equi())))) == WHOLE_SPHERE
    for name in ("v.mkv", "v.avi", "v.ts"):
        assert declared_projection(str(write_video(tmp_path / name, [panorama(64)] * 4))) is None
    assert declared_projection(str(declare(video, st3d("mono")))) is None


def test_what_ffmpeg_does_not_tell(video):
    """Meshes (VR180 of most cameras), and right eyes first."""
    declare(video, sv3d(MESH), st3d("right_left"))
    assert declared_projection(str(video)) == Declared("mesh", "side_by_side", left_first=False)


def test_stereo_of_a_mesh_itself(video):
    assert declared_projection(str(declare(video, sv3d(MESH), st3d("custom")))) == Declared("mesh", "other")


@pytest.mark.parametrize(("mode", "stereo", "left_first"), [(2, "top_bottom", False), (11, "side_by_side", False)])
def test_right_eye_first_in_matroska(tmp_path, mode, stereo, left_first):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.metadata["stereo_mode"] = str(mode)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(panorama(64), format="rgb24")))
        container.mux(stream.encode(None))
    assert declared_projection(str(path)) == Declared("unknown", stereo, left_first)


def test_version_1(video):
    declare(video, xml_v1(StereoMode="top-bottom"), inside=b"trak")
    assert declared_projection(str(video)) == replace(WHOLE_SPHERE, stereo="top_bottom")


def test_version_1_of_a_part_of_the_sphere(video):
    crop = {"CroppedAreaLeftPixels": 1000, "CroppedAreaTopPixels": 0, "CroppedAreaImageWidthPixels": 2000}
    crop |= {"CroppedAreaImageHeightPixels": 2000, "FullPanoWidthPixels": 4000, "FullPanoHeightPixels": 2000}
    declare(video, xml_v1(**crop), inside=b"trak")
    declared = declared_projection(str(video))
    assert declared == replace(WHOLE_SPHERE, bounds=(0, 0, 0.25, 0.25))
    assert not declared.covers_sphere


def test_version_1_in_matroska(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.metadata["SPHERICAL-VIDEO"] = xml_v1()[24:].decode()
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(panorama(64), format="rgb24")))
        container.mux(stream.encode(None))
    assert declared_projection(str(path)) == WHOLE_SPHERE


@pytest.mark.parametrize(
    "xml", [b"<!DOCTYPE a [<!ENTITY b '" + b"x" * 9000 + b"'>]>&b;", b"\xff" * 50, xml_v1()[24:70], b""]
)
def test_hostile_xml_declares_nothing(video, xml):
    declare(video, box(b"uuid", xml_v1()[8:24], xml), inside=b"trak")
    assert declared_projection(str(video)) is None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_broken_boxes_never_raise(tmp_path_factory, plain, data):
    path = tmp_path_factory.getbasetemp() / f"broken{data.draw(st.sampled_from(['.mp4', '.mkv']))}"
    path.write_bytes(plain.read_bytes())
    declare(path, sv3d(equi()), st3d("top_bottom"))
    whole = (remuxed(path, ".2.mkv") if path.suffix == ".mkv" else path).read_bytes()
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(broken[: data.draw(st.integers(0, len(whole)))])
    declared = declared_projection(str(path))
    assert declared is None or isinstance(declared, Declared)


def eyes(layout: str) -> np.ndarray:
    pair = panorama(64, 1), panorama(64, 2)
    return np.concatenate(pair, axis=0 if layout == "top_bottom" else 1)


@pytest.mark.parametrize("layout", ["top_bottom", "side_by_side"])
def test_the_left_eye_at_its_own_size(tmp_path, layout):
    video = write_video(tmp_path / "v.mp4", [eyes(layout)] * 3)
    declare(video, sv3d(equi()), st3d(layout))
    frame = next(sample_frames(str(video), 1, 64, eye="left"))
    assert frame.declared == replace(WHOLE_SPHERE, stereo=layout)
    assert frame.display_aspect == pytest.approx(2)
    assert np.abs(frame.rgb.astype(int) - panorama(64, 1)).mean() < 15
    assert np.abs(frame.rgb.astype(int) - panorama(64, 2)).mean() > 30
    both = next(sample_frames(str(video), 1, 64))
    assert both.display_aspect == pytest.approx(1 if layout == "top_bottom" else 4)


def test_the_left_eye_where_the_right_one_is_first(tmp_path):
    video = write_video(tmp_path / "v.mp4", [eyes("side_by_side")] * 3)
    declare(video, sv3d(equi()), st3d("right_left"))
    frame = next(sample_frames(str(video), 1, 64, eye="left"))
    assert np.abs(frame.rgb.astype(int) - panorama(64, 2)).mean() < 15


def test_halves_where_nothing_is_declared(tmp_path):
    video = str(write_video(tmp_path / "v.mp4", [eyes("top_bottom")] * 3))
    whole, left, half = (next(sample_frames(video, 1, 64, eye=eye)) for eye in ("both", "left", "top_half"))
    assert np.array_equal(whole.rgb, left.rgb)
    assert np.abs(half.rgb.astype(int) - panorama(64, 1)).mean() < 15


def test_the_child_hands_it_all_over(tmp_path):
    video = str(declare(write_video(tmp_path / "v.mp4", [eyes("top_bottom")] * 3), *CASES["vr180"][0]))
    with Decoder() as decoder:
        (apart,) = decoder.sample_frames(video, 1, 64, eye="top_half", snap_to_keyframes=True)
    (here,) = sample_frames(video, 1, 64, eye="top_half", snap_to_keyframes=True)
    assert apart.declared == here.declared == VR180
    assert np.array_equal(apart.rgb, here.rgb)

"""Perspective pictures and their truth, from every layout; what is wrong is one line that names the file."""

import numpy as np
import pytest

from dap_engine.models.datasets.base import DatasetError
from dap_engine.models.datasets.perspective import PICTURE_SETS
from tests.models.datasets import perspective_layouts as layouts

EVERY = [("stereo", name) for name in layouts.STEREO] + [("perspective", name) for name in layouts.PERSPECTIVE]


def read_all(kind: str, root, split=None):
    pictures = PICTURE_SETS[kind]
    return [pictures.read(root, entry) for entry in pictures.find(root, split)]


@pytest.mark.parametrize(("kind", "layout"), EVERY)
def test_every_layout(kind, layout, tmp_path):
    (layouts.STEREO if kind == "stereo" else layouts.PERSPECTIVE)[layout](tmp_path)
    found = read_all(kind, tmp_path)
    assert len(found) == {"kitti 2012": 1, "kitti": 1}.get(layout, 3 if kind == "perspective" else 2)
    for seed, picture in enumerate(found):
        known = np.isfinite(picture.truth)
        np.testing.assert_array_equal(picture.truth[known], layouts.truth(seed)[known])
        assert known.mean() > 0.7
        assert abs(picture.rgb[..., 0].astype(int) - layouts.picture(seed)[..., 0]).max() < 20  # one is a JPEG
        has_pair = kind == "stereo" and layout != "plain"
        assert picture.focal_px == (None if (kind, layout) == ("stereo", "plain") else layouts.FOCAL_PX)
        assert picture.baseline_m == (layouts.BASELINE_M if has_pair else None)


def test_splits_of_kitti(tmp_path):
    layouts.kitti_2015(tmp_path)
    (first, _), (fewer, _) = (read_all("stereo", tmp_path, split) for split in ("occ", "noc"))
    assert np.isfinite(first.truth).sum() > np.isfinite(fewer.truth).sum()
    (tmp_path / "one.txt").write_text("training/image_2/000001_10.png training/disp_noc_0/000001_10.png\n")
    (listed,) = read_all("stereo", tmp_path, "one.txt")
    assert np.isfinite(listed.truth).sum() == np.isfinite(fewer.truth).sum()
    with pytest.raises(
        DatasetError, match="no split 'val', which is no list file, either; its own splits are occ, noc"
    ):
        read_all("stereo", tmp_path, "val")


def test_plain_folders_have_no_splits(tmp_path):
    layouts.STEREO["plain"](tmp_path)
    with pytest.raises(DatasetError, match="has no split 'noc': left/ and disparity/ are one"):
        read_all("stereo", tmp_path, "noc")


@pytest.mark.parametrize(
    ("kind", "file", "content", "message"),
    [
        ("stereo", "disparity/0.pfm", b"PF\n4 2\n-1.0\n", "is no gray PFM"),
        ("stereo", "disparity/0.pfm", b"Pf\n40 24\n-1.0\n1234", "damaged"),
        ("stereo", "disparity/0.pfm", b"Pf\n99999999 99999999\n-1.0\n", "are too many"),
        ("stereo", "disparity/0.pfm", b"Pf\n20 24\n-1.0\n" + bytes(20 * 24 * 4), "is 20×24, its picture 40×24"),
        ("stereo", "disparity/1.png", None, "no such file"),
        ("stereo", "disparity/1.png", b"no picture", "damaged"),
        ("stereo", "left/1.png", b"no picture", "damaged"),
        ("perspective", "intrinsics.txt", b"no numbers\n", "is no calibration"),
        ("perspective", "intrinsics.txt", b"-5 5 1 1\n", "is no calibration: a focal length or baseline of -5"),
        ("perspective", "intrinsics.txt", b"P2: 1 2\n", "is no calibration"),
        ("perspective", "depth/1.npy", b"", "damaged"),
    ],
)
def test_damage_is_one_line_that_names_the_file(kind, file, content, message, tmp_path):
    (layouts.plain_stereo if kind == "stereo" else layouts.plain_perspective)(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    named = file.replace("1.png", "1.p(ng|fm)") if content is None else file
    with pytest.raises(DatasetError, match=f"{named}: .*{message}") as error:
        read_all(kind, tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_of_something_else(tmp_path):
    for kind in PICTURE_SETS:
        with pytest.raises(DatasetError, match=f"holds no picture of {kind}: expected "):
            read_all(kind, tmp_path)
        with pytest.raises(DatasetError, match="no such folder"):
            read_all(kind, tmp_path / "nowhere")

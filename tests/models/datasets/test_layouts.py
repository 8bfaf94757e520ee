"""Every data set in its own layout: known values come back, in metres, with what is missing and what is beyond."""

import numpy as np
import pytest
import torch

from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.datasets.base import DatasetError
from dap_engine.models.datasets.catalogue import DATASETS, open_dataset
from dap_engine.models.geometry.cassini import cassini_to_erp
from tests.models.datasets import layouts
from tests.models.datasets.layouts import LAYOUTS, H, W


def read_all(name, root, split=None):
    dataset = open_dataset(name)
    return [dataset.read(root, entry) for entry in dataset.find(root, split)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_images_and_distances_come_back(name, tmp_path):
    seeds = LAYOUTS[name](tmp_path)
    found = read_all(name, tmp_path)
    assert len({item.key for item in found}) == len(seeds)
    for item, seed in zip(found, seeds, strict=True):
        np.testing.assert_array_equal(item.depth_m, layouts.depth_m(seed))
        assert item.depth_m.dtype == np.float32
        limit = 40 if name == "matterport3d-skybox" else 0  # which is JPEG
        assert abs(item.rgb.astype(int) - layouts.rgb(seed)).max() <= limit


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "shards"])
def test_a_wrong_root_is_one_line_that_names_it(name, tmp_path):
    with pytest.raises(DatasetError, match="no such folder") as nowhere:
        open_dataset(name).find(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"holds no panorama of .*: expected ") as empty:
        open_dataset(name).find(tmp_path)
    for error, place in ((nowhere, tmp_path / "nowhere"), (empty, tmp_path)):
        assert str(error.value).startswith(f"{place}: ")
        assert "\n" not in str(error.value)


def test_an_unknown_name():
    with pytest.raises(ValueError, match=r"no data set 'kitti'; known are \['airsim360'"):
        open_dataset("kitti")


@pytest.mark.parametrize(
    ("name", "split", "seeds"),
    [
        ("stanford2d3d", "train", [3]),
        ("stanford2d3d", "test", [4]),
        ("structured3d", "train", [7]),
        ("structured3d", "val", [8]),
        ("structured3d", "test", [9]),
    ],
)
def test_splits_of_the_data_sets_own(name, split, seeds, tmp_path):
    LAYOUTS[name](tmp_path)
    found = read_all(name, tmp_path, split)
    assert [item.depth_m.tolist() for item in found] == [layouts.depth_m(seed).tolist() for seed in seeds]


@pytest.mark.parametrize("name", ["airsim360", "dap-test"])
def test_far_outdoors_is_beyond_the_range(name, tmp_path):
    folder = tmp_path / "raw_data_x" / "panorama"
    layouts.write_image(folder / "panorama_7.png", layouts.rgb(0))
    values_m = layouts.depth_m(0)
    values_m[0, :5] = 100, 100.1, np.inf, np.nan, -1
    np.save(folder / "erp_distance_7.npy", values_m)  # beside the image
    (found,) = read_all(name, tmp_path)
    np.testing.assert_array_equal(found.depth_m[0, :5], [100, np.inf, np.inf, np.nan, np.nan])
    assert found.scene == "outdoor"


def test_stanford_has_missing_distances_and_black_bands(tmp_path):
    values_m, rgb = layouts.depth_m(1), layouts.rgb(1)
    values_m[4, :2] = 0, 65535 / 512
    rgb[:2], rgb[-1:] = 0, 3
    rgb[3] = 0  # a black row between the bands is a black row
    layouts.write_image(tmp_path / "area_3/pano/rgb/a_domain_rgb.png", rgb)
    layouts.write_units(tmp_path / "area_3/pano/depth/a_domain_depth.png", values_m, 512)
    (found,) = read_all("stanford2d3d", tmp_path)
    missing = np.zeros((H, W), bool)
    missing[:2], missing[-1:], missing[4, :2] = True, True, True
    np.testing.assert_array_equal(np.isnan(found.depth_m), missing)
    np.testing.assert_array_equal(found.depth_m[~missing], values_m[~missing])


def test_a_render_that_hit_nothing_has_no_distance(tmp_path):
    values_m = layouts.depth_m(1)
    values_m[0, :3] = np.inf, 0, 1e10
    layouts.write_image(tmp_path / "s/3_spherical_1_emission_center_0.png", layouts.rgb(1))
    layouts.write_exr(tmp_path / "s/3_spherical_1_depth_center_0.exr", values_m, "Z")
    (found,) = read_all("matterport3d", tmp_path)
    assert np.isnan(found.depth_m[0, :3]).all()
    assert np.isfinite(found.depth_m[1:]).all()


def test_deep360_is_turned_from_cassini(tmp_path):
    """A smooth world, given in Cassini, comes back as the panorama that it was; distances stay some that were there."""
    height, width = 64, 128
    columns, rows = np.meshgrid(np.arange(width) * 2 * np.pi / width, np.arange(height) * np.pi / height)
    rgb = (127 + 100 * np.stack([np.sin(rows) * np.cos(columns), np.cos(rows), np.sin(rows) * np.sin(columns)], 2)) / 1
    values_m = (10 + 5 * np.cos(rows)).astype(np.float32)
    values_m[:20] = 1000  # sky
    folder = tmp_path / "ep1_500frames" / "testing"
    cassini = cassini_to_erp(torch.from_numpy(rgb).permute(2, 1, 0)[None].float())[0].permute(2, 1, 0).numpy()
    layouts.write_image(folder / "rgb" / "000001_12_rgb1.png", np.rint(cassini).astype(np.uint8))
    (folder / "depth").mkdir()
    turned_m = cassini_to_erp(torch.from_numpy(values_m.T)[None, None], mode="nearest")[0, 0].numpy().T
    np.savez_compressed(folder / "depth" / "000001_depth.npz", turned_m)
    (found,) = read_all("deep360", tmp_path, "testing")
    assert found.rgb.shape == (height, width, 3)
    assert np.median(abs(found.rgb - rgb)) < 2
    np.testing.assert_array_equal(np.isinf(found.depth_m[:18]), True)
    assert np.median(abs(found.depth_m[24:] - values_m[24:])) < 0.3
    assert set(np.unique(found.depth_m)) <= {*np.unique(values_m), np.inf}
    with pytest.raises(DatasetError, match="no panorama of the split 'training'"):
        read_all("deep360", tmp_path, "training")


def test_an_image_larger_than_its_depth_is_made_to_fit(tmp_path):
    layouts.matterport3d(tmp_path)
    layouts.write_image(tmp_path / "scene" / "0_spherical_1_emission_center_0.png", layouts.rgb(5, 2 * H))
    (found,) = read_all("matterport3d", tmp_path)
    assert found.rgb.shape == (H, W, 3)


def test_our_own_shards(tmp_path):
    from tests.models.datasets.shards import write_shard

    sky_m = layouts.depth_m(1)
    sky_m[0] = np.inf
    sample = {"jpg": layouts.rgb(1), "depth.png": encode_depth_png(sky_m)}
    write_shard(tmp_path / "000000.tar", {"b": sample | {"json": {"split": "test", "scene": "outdoor"}}})
    write_shard(tmp_path / "000001.tar", {"a": sample | {"json": {}}})
    both = read_all("shards", tmp_path)
    assert [(item.key, item.scene) for item in both] == [("b", "outdoor"), ("a", "unknown")]
    np.testing.assert_array_equal(both[0].depth_m, sky_m)
    assert [item.key for item in read_all("shards", tmp_path, "test")] == ["b"]
    with pytest.raises(DatasetError, match="no panorama of the split 'val'"):
        read_all("shards", tmp_path, "val")


def test_a_list_may_name_files_in_the_root_itself(tmp_path):
    (tmp_path / "pairs.txt").write_text("image.png depth.npz\n")
    (entry,) = open_dataset("deep360").find(tmp_path, str(tmp_path / "pairs.txt"))
    assert (entry.image, entry.depth) == ("image.png", "depth.npz")

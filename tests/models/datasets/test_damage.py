"""Damaged, missing and hostile files and lists: one line that names the file, and a code; nothing is unpickled."""

import io
import os
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.datasets.base import DatasetError
from dap_engine.models.datasets.catalogue import open_dataset
from dap_engine.models.datasets.files import read_exr_m, read_npy_m, read_npz_m, read_png_m, read_rgb
from tests.models.datasets import layouts
from tests.models.datasets.layouts import LAYOUTS, H, W
from tests.models.datasets.shards import write_shard


def npz(values, name="arr_0") -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: values})
    return buffer.getvalue()


def npy(values, **settings) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, **settings)
    return buffer.getvalue()


def bomb() -> bytes:
    """An archive whose array says of itself that it is larger than any memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        header = npy(np.zeros((2, 2))).replace(b"(2, 2), ", b"(9999999, 9999999), ").ljust(256)
        archive.writestr("arr_0.npy", header)
    return buffer.getvalue()


DEPTH_M = layouts.depth_m(0)
READERS = {
    "a.npy": read_npy_m,
    "a.npz": read_npz_m,
    "a.exr": read_exr_m,
    "a.png": lambda path: read_png_m(path, 512),
    "a.jpg": read_rgb,
}


@pytest.mark.parametrize("name", READERS)
def test_no_such_file(name, tmp_path):
    with pytest.raises(DatasetError, match=f"{name}: no such file") as error:
        READERS[name](tmp_path / name)
    assert error.value.code == "missing_file"


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("data", [b"", b"no such thing", bytes(4096)], ids=["empty", "text", "zeros"])
def test_no_such_format(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=f"{name}: damaged") as error:
        READERS[name](tmp_path / name)
    assert error.value.code == ("bad_image" if name == "a.jpg" else "bad_depth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated(name, kept, tmp_path):
    path = tmp_path / name
    write_good(path)
    READERS[name](path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DatasetError, match=f"{name}: damaged"):
        READERS[name](path)


def write_good(path) -> None:
    rng = np.random.default_rng(0)
    values_m = rng.uniform(1, 50, (16, 32)).astype(np.float32)
    if path.suffix == ".exr":
        layouts.write_exr(path, values_m)
    elif path.suffix == ".jpg":
        layouts.write_image(path, rng.integers(0, 255, (16, 32, 3), np.uint8))
    else:
        path.write_bytes({".npy": npy, ".npz": npz, ".png": encode_depth_png}[path.suffix](values_m))


@pytest.mark.parametrize("name", READERS)
def test_whatever_bytes_are_wrong_it_is_one_clear_line_or_a_map(name, tmp_path, capfd):
    path, rng = tmp_path / name, np.random.default_rng(3)
    write_good(path)
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for position in rng.integers(0, min(len(data), 400), rng.integers(1, 6)):
            data[position] = rng.integers(0, 256)
        path.write_bytes(data)
        with suppress(DatasetError):
            assert READERS[name](path).ndim in (2, 3)
    assert capfd.readouterr().out == "", "stdout is for JSON"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)),
        ("a.npz", npz(np.array([{"a": 1}], dtype=object))),
        ("a.npy", npy(np.array([["x"]]))),
        ("a.npy", npy(np.zeros((3, 4, 5)))),
        ("a.npz", npz(DEPTH_M, "depth")),
        ("a.npz", bomb()),
        ("a.npy", npy(np.zeros((2, 2))).replace(b"(2, 2), ", b"(9999999, 9999999), ")),
    ],
    ids=["pickle", "pickles", "text", "three axes", "another name", "bomb", "huge"],
)
def test_arrays_that_are_no_depth(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=name):
        READERS[name](tmp_path / name)


def test_an_exr_without_a_depth_channel(tmp_path):
    layouts.write_exr(tmp_path / "a.exr", DEPTH_M, "mist")
    assert read_exr_m(tmp_path / "a.exr").shape == (H, W)  # the only one
    import OpenEXR

    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"mist": DEPTH_M, "fog": DEPTH_M}).write(str(tmp_path / "b.exr"))
    with pytest.raises(DatasetError, match=r"b\.exr: .*'fog', 'mist'"):
        read_exr_m(tmp_path / "b.exr")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_depth_is_named(name, tmp_path):
    LAYOUTS[name](tmp_path)
    for path in [
        p for p in tmp_path.rglob("*") if "dep" in p.name or "dist" in p.name or p.parent.name == "pano_depth"
    ]:
        if path.is_file():
            path.unlink()
    dataset = open_dataset(name)
    with pytest.raises(DatasetError) as error:
        dataset.read(tmp_path, dataset.find(tmp_path)[0])
    assert error.value.code == "missing_file"


@pytest.mark.parametrize(("height", "width"), [(H, H), (H, 3 * H)])
def test_what_is_not_twice_as_wide_as_high_is_no_panorama(height, width, tmp_path):
    layouts.matterport3d(tmp_path)
    layouts.write_exr(tmp_path / "scene" / "0_spherical_1_depth_center_0.exr", np.ones((height, width)))
    dataset = open_dataset("matterport3d")
    with pytest.raises(DatasetError, match=f"is {width}×{height}, and no panorama") as error:
        dataset.read(tmp_path, dataset.find(tmp_path)[0])
    assert error.value.code == "bad_shape"


def test_lists_of_pairs(tmp_path):
    layouts.stanford2d3d(tmp_path)
    image = "area_5a/pano/rgb/camera_4_equirectangular_domain_rgb.png"
    depth = image.replace("rgb/", "depth/").replace("rgb.png", "depth.png")
    (tmp_path / "few.txt").write_text(f"# the second only\n\n{image} {depth}\n{image} {depth}\n")
    dataset = open_dataset("stanford2d3d")
    for split in ("few.txt", str(tmp_path / "few.txt")):
        (entry,) = dataset.find(tmp_path, split)
        np.testing.assert_array_equal(dataset.read(tmp_path, entry).depth_m, layouts.depth_m(4))
        assert entry in dataset.find(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "my rooms/a b.png\tmy rooms/a b.npy",
        '"my rooms/a b.png" "my rooms/a b.npy"',
        "it's.png\tit's.npy",
        "it's.png it's.npy",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_with_spaces_in_lists_of_pairs(tmp_path, line, encoding):
    (tmp_path / "few.txt").write_bytes(f"{line}\r\n".encode(encoding))
    (entry,) = open_dataset("stanford2d3d").find(tmp_path, "few.txt")
    stem = "it's" if "it's" in line else "my rooms/a b"
    assert (entry.image, entry.depth) == (f"{stem}.png", f"{stem}.npy")


def test_a_pair_whose_names_are_not_utf8(tmp_path):
    (tmp_path / "few.txt").write_bytes(b"bal\xe9.png bal\xe9.npy\n")
    (entry,) = open_dataset("stanford2d3d").find(tmp_path, "few.txt")
    assert os.fsencode(entry.image) == b"bal\xe9.png"


def test_no_file_hides_a_split_and_a_list_of_the_root_comes_first(tmp_path, monkeypatch):
    """What lies in the folder where one happens to work is asked last."""
    root, here = tmp_path / "root", tmp_path / "here"
    layouts.stanford2d3d(root)
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("test", "few.txt", "mine.txt"):
        (here / name).write_text("no/such.png no/such.png\n")
    (root / "few.txt").write_text("image.png depth.png\n")
    found = open_dataset("stanford2d3d").find
    assert [entry.image.split("/")[0] for entry in found(root, "test")] == ["area_5a"]
    assert [entry.image for entry in found(root, "few.txt")] == ["image.png"]
    assert [entry.image for entry in found(root, "mine.txt")] == ["no/such.png"]
    with pytest.raises(DatasetError, match="no list file, either; its own splits are train, test"):
        found(root, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a.png\n", r"few\.txt:1: expected a pair"),
        (b"a.png b.png c.png\n", "expected a pair"),
        (b"a.png b.png\n../a.png b.png\n", r"few\.txt:2: \.\./a\.png leads out"),
        (b"a.png /etc/passwd\n", "leads out"),
        (b"\xff\xfe\x00", "is no text"),
        (b"\n", "no panorama of the split"),
    ],
)
def test_lists_that_are_none(text, message, tmp_path):
    (tmp_path / "few.txt").write_bytes(text)
    with pytest.raises(DatasetError, match=message):
        open_dataset("stanford2d3d").find(tmp_path, "few.txt")


SAMPLE = {"jpg": layouts.rgb(0), "depth.png": encode_depth_png(DEPTH_M), "json": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jpg": b"no"}, r"0\.tar: a: "),
        ({"depth.png": b"no"}, r"0\.tar: a: not a PNG"),
        ({"jpg": layouts.rgb(0, 2 * H)}, "differ in size"),
        ({"jpg": None}, r"0\.tar: has no a\.jpg"),
        ({"json": None}, r"0\.tar: has no a\.json"),
    ],
)
def test_damaged_samples_of_shards(change, message, tmp_path):
    write_shard(tmp_path / "0.tar", {"a": {k: v for k, v in (SAMPLE | change).items() if v is not None}})
    dataset = open_dataset("shards")
    with pytest.raises(DatasetError, match=message):
        dataset.read(tmp_path, dataset.find(tmp_path)[0])


def test_a_damaged_shard_is_named(tmp_path):
    write_shard(tmp_path / "0.tar", {"a": SAMPLE})
    whole = (tmp_path / "0.tar").read_bytes()
    for number, data in enumerate((whole[:700], b"x" * 3000)):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "bad.tar").write_bytes(data)
        with pytest.raises(DatasetError, match=r"bad\.tar: "):
            open_dataset("shards").find(tmp_path / f"{number}")
    with pytest.raises(DatasetError, match="no tar shards there"):
        open_dataset("shards").find(tmp_path / "nowhere")

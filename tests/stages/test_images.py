"""A user's own panoramas: pictures of many kinds to a column like `frames`, checked as frames are."""

import numpy as np
import OpenEXR
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from PIL import Image

from dap_engine.engine.execution.runner import check_nodes
from dap_engine.engine.planning.recipe import Node, RecipeError
from dap_engine.engine.storage.storage import Storage
from dap_engine.engine.verification.verify import verify_run
from dap_engine.models.data.pictures import read_picture
from dap_engine.stages.images import Images
from tests.footage import panorama, perspective
from tests.runs import finished, hashes, rows_of

HEIGHT = 64


def images(files, **settings) -> Images:
    return Images(str(files), **{"height": HEIGHT, "min_sharpness": 0, "validation_share": 0, **settings})


def gpano(**tags: object) -> bytes:
    """An XMP packet as cameras write it."""
    said = " ".join(f'GPano:{name}="{value}"' for name, value in tags.items())
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {said}/></x:xmpmeta>'.encode()


def save(path, rgb, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, **options)


def save_exr(path, rgb):
    """A picture as linear light, a thousand times as bright as a screen."""
    shown = rgb.astype(np.float32) / 255
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": 1000 * shown**2.2}).write(str(path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    save(folder / "a.jpg", panorama(128, 0), quality=95)
    save(folder / "deep" / "a.PNG", panorama(128, 1))
    save(folder / "b.webp", panorama(128, 2), quality=95)
    save_exr(folder / "light.exr", panorama(128, 3))
    save(folder / "lens.jpg", perspective(128), quality=95)
    save(folder / "cut.jpg", panorama(128, 4)[:, 80:176], quality=95)
    (folder / "broken.png").write_bytes((folder / "deep" / "a.PNG").read_bytes()[:900])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run"), images(folder))


def test_whole_panoramas_are_kept_with_their_origin_and_measurements(run):
    rows = rows_of(run, "photos")
    files = {row["json"]["file"]: key for key, row in rows.items()}
    assert sorted(files) == ["a.jpg", "b.webp", "deep/a.PNG", "light.exr"]
    for file, key in files.items():
        info = rows[key]["json"]
        assert key == f"{info['video_id']}-0"
        assert key.startswith(f"photos-{file.split('/')[-1].split('.')[0]}-")
        assert (info["width"], info["height"], info["split"]) == (2 * HEIGHT, HEIGHT, "train")
        assert {"seam_gap", "aspect", "levelled"} <= info["horizon"].keys()
        assert simplejpeg.decode_jpeg(rows[key]["jpg"]).shape == (HEIGHT, 2 * HEIGHT, 3)


def test_what_is_none_is_dropped_with_the_codes_that_footage_has(run):
    drops = run.receipts("photos").drops
    assert drops == {"damaged": 1, "perspective": 1, "wrong_aspect": 1}


def test_the_run_is_as_it_should_be(run):
    assert verify_run(run).problems == []
    assert list(run.receipts("photos")) == ["photos-000000"]


def test_added_pictures_change_no_other_shard(folder, run, tmp_path):
    few = finished(tmp_path / "few", images(folder, panoramas_per_shard=2))
    assert len(few.receipts("photos")) > 1
    before = hashes(few, "photos")
    more = tmp_path / "more"
    for file in folder.rglob("*.*"):
        (more / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (more / file.relative_to(folder)).write_bytes(file.read_bytes())
    save(more / "new.jpg", panorama(128, 9))
    after = hashes(finished(tmp_path / "few", images(more, panoramas_per_shard=2)), "photos")
    assert len(before.items() - after.items()) == 1


def test_a_list_says_splits_and_rights_and_what_is_missing_is_dropped(folder, tmp_path):
    listed = pa.table(
        {
            "uri": [str(folder / "a.jpg"), str(folder / "gone.jpg")],
            "split": ["test", None],
            "license": ["cc-by-4.0", None],
        }
    )
    pq.write_table(listed, tmp_path / "list.parquet")
    run = finished(tmp_path / "run", images(tmp_path / "list.parquet", column="rooms"))
    (info,) = (row["json"] for row in rows_of(run, "rooms").values())
    assert (info["split"], info["license"]) == ("test", "cc-by-4.0")
    assert run.receipts("rooms").drops == {"missing_file": 1}
    other = finished(tmp_path / "run", images(tmp_path / "list.parquet", column="rooms", licenses=["CC0-1.0"]))
    assert other.receipts("rooms").drops == {"license": 2}


@pytest.mark.parametrize("said", [{"split": ["val", "test"]}, {"license": ["cc0-1.0", None]}])
def test_a_picture_that_is_listed_twice_is_of_one_split_and_licence(folder, said, tmp_path):
    pq.write_table(pa.table({"uri": [str(folder / "a.jpg")] * 2, **said}), tmp_path / "list.parquet")
    (name, (one, other)) = next(iter(said.items()))
    with pytest.raises(
        RecipeError, match=rf"list.parquet: \S*a.jpg is listed twice, with the {name} {one!r} and {other!r}"
    ):
        check_nodes([Node("images", images(tmp_path / "list.parquet"))])


def test_pictures_of_an_object_store_are_those_of_a_folder(folder, run, s3_uri, tmp_path):
    storage = Storage(s3_uri)
    for file in folder.rglob("*.*"):
        storage.write_bytes(file.relative_to(folder).as_posix(), file.read_bytes())
    there = rows_of(finished(tmp_path, images(s3_uri)), "photos")
    assert there == rows_of(run, "photos")


def test_a_declared_crop_is_believed_where_the_picture_is_no_whole_panorama(tmp_path):
    part = {"ProjectionType": "equirectangular", "FullPanoWidthPixels": 1024, "FullPanoHeightPixels": 512}
    part |= {"CroppedAreaImageWidthPixels": 1024, "CroppedAreaImageHeightPixels": 256}
    part |= {"CroppedAreaLeftPixels": 0, "CroppedAreaTopPixels": 128}
    save(tmp_path / "belt.jpg", panorama(128)[32:96], xmp=gpano(**part))
    save(tmp_path / "belt.webp", panorama(128)[32:96], xmp=gpano(**part))
    save(tmp_path / "whole.jpg", panorama(128), xmp=gpano(**part))
    run = finished(tmp_path / "run", images(tmp_path))
    assert [row["json"]["file"] for row in rows_of(run, "photos").values()] == ["whole.jpg"]
    assert run.receipts("photos").drops == {"partial": 2}


def test_an_exr_picture_of_any_brightness_is_shown_as_a_camera_would(tmp_path):
    rgb = panorama(128, 3)
    save_exr(tmp_path / "a.exr", rgb)
    shown = read_picture(tmp_path / "a.exr")
    assert 60 < shown.mean() < 160
    assert np.corrcoef(shown.ravel(), rgb.ravel())[0, 1] > 0.95
    OpenEXR.File({}, {"Z": np.ones((64, 128), np.float32)}).write(str(tmp_path / "depth.exr"))
    with pytest.raises(ValueError, match="unreadable: an OpenEXR file with the channels"):
        read_picture(tmp_path / "depth.exr")
    (tmp_path / "cut.exr").write_bytes((tmp_path / "a.exr").read_bytes()[:3000])
    with pytest.raises(ValueError, match="damaged"):
        read_picture(tmp_path / "cut.exr")


def test_heic_is_read_where_its_package_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    heif = pillow_heif.from_bytes(mode="RGB", size=(256, 128), data=panorama(128).tobytes())
    heif.save(tmp_path / "a.heic", quality=90)
    shown = read_picture(tmp_path / "a.heic")
    assert np.abs(shown.astype(int) - panorama(128)).mean() < 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"files": "nowhere"}, "pictures: nowhere: no such file or folder"),
        ({"files": "."}, r"pictures: \.: holds no picture \(\.bmp \.exr"),
    ],
)
def test_files_that_are_not_there_are_refused_before_any_work(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=message):
        check_nodes([Node("images", Images(**settings))])


@pytest.mark.parametrize("column", ["frames", "models", "My photos", "labels-1", ""])
def test_the_column_is_a_word_that_nothing_else_has(column):
    with pytest.raises(ValueError, match="give a word"):
        Images("x", column=column)

"""Loose files: images and videos alike become pictures, and what is neither is one clear line."""

import numpy as np
import pytest
from PIL import Image

from dap_engine.jobs.commands.parts.loose_files import Picture, check_files, read_pictures
from dap_engine.jobs.errors import UsageError
from tests.footage import panorama, write_video


def test_an_image_is_one_picture_at_its_own_size(tmp_path):
    path = tmp_path / "room.png"
    Image.fromarray(panorama(64)).save(path)
    (picture,) = read_pictures(str(path), every_s=1.0, height=16)
    assert (picture.rgb == panorama(64)).all()
    assert (picture.name, picture.entry()) == ("room", {"file": str(path)})


def test_a_video_gives_frames_at_the_height_asked_for_with_their_time(tmp_path):
    path = write_video(tmp_path / "walk.mp4", [panorama(64, turn=i / 20) for i in range(20)])
    pictures = list(read_pictures(str(path), every_s=0.5, height=32))
    assert [picture.timestamp_s for picture in pictures] == pytest.approx([0, 0.5, 1, 1.5], abs=2e-3)
    assert {picture.rgb.shape for picture in pictures} == {(32, 64, 3)}
    assert len({picture.name for picture in pictures}) == 4
    assert pictures[1].entry() == {"file": str(path), "timestamp_s": pictures[1].timestamp_s}


@pytest.mark.parametrize("name", ["broken.jpg", "broken.mp4", "notes.txt"])
def test_what_cannot_be_read_is_one_clear_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"neither picture nor film")
    with pytest.raises(UsageError, match=rf"{name}: [a-z_]+: ") as caught:
        list(read_pictures(str(path), every_s=1.0, height=16))
    assert "\n" not in str(caught.value)


def test_the_first_missing_file_is_named(tmp_path):
    (tmp_path / "there.jpg").touch()
    with pytest.raises(UsageError, match=r"gone\.jpg: no such file"):
        check_files([str(tmp_path / "there.jpg"), str(tmp_path / "gone.jpg")])


def test_names_of_frames_sort_by_time():
    names = [Picture("a.mp4", np.zeros((1, 2, 3), np.uint8), time_s).name for time_s in (2.0, 10.5, 1000.25)]
    assert names == sorted(names)

"""`dap try` and `dap predict` on loose images and videos."""

import json
import re

import cv2
import numpy as np
import trimesh

from dap_engine.jobs.__main__ import main
from dap_engine.models.data.depth_png import decode_depth_png
from dap_engine.models.geometry.equirectangular import rotation_matrix
from dap_engine.models.horizon.sphere_view import turned
from dap_engine.models.network.discriminator import Discriminator, DiscriminatorConfig


def document(capsys, *arguments: object):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_try_horizon_tells_panoramas_from_others(capsys, picture, footage, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"")
    half = tmp_path / "half.png"
    cv2.imwrite(str(half), cv2.imread(str(picture))[:, :60])
    (video,) = list(footage.glob("000001/*.mp4"))
    entries = document(capsys, "try", "horizon", picture, half, broken, video, "--every", "1")
    by_file = {entry["file"]: entry for entry in entries}
    assert by_file[str(picture)]["valid"]
    assert not by_file[str(half)]["valid"]
    assert by_file[str(broken)]["reasons"] == ["empty_file"]
    frames = [entry for entry in entries if entry["file"] == str(video)]
    assert [entry["timestamp_s"] for entry in frames] == [0, 1, 2, 3, 4, 5]
    assert {"roll_deg", "pitch_deg", "reasons"} <= set(frames[0])


def test_try_horizon_draws_what_it_found(capsys, picture, footage, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    (video,) = list(footage.glob("000001/*.mp4"))
    entries = document(capsys, "try", "horizon", picture, broken, video, "--every", "3", "--out", tmp_path / "out")
    drawn = [entry["picture"] for entry in entries if "picture" in entry]
    assert len(drawn) == len(set(drawn)) == 3
    assert sorted(str(path) for path in (tmp_path / "out").iterdir()) == sorted(drawn)
    assert cv2.imread(drawn[0]).shape[1] == 512
    assert "picture" not in next(entry for entry in entries if entry["file"] == str(broken))


def test_the_limit_of_tilt_is_an_option(capsys, picture, tmp_path):
    leaning = tmp_path / "leaning.png"
    cv2.imwrite(str(leaning), turned(cv2.imread(str(picture)), rotation_matrix(roll_deg=45).numpy(), 128))
    (entry,) = document(capsys, "try", "horizon", leaning)
    assert (entry["valid"], entry["reasons"]) == (False, ["tilted"])
    (entry,) = document(capsys, "try", "horizon", leaning, "--max-tilt", "90")
    assert entry["valid"]


def test_a_broken_file_does_not_lose_the_others(capsys, picture, tiny_model, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"")
    depth = ["--model", tiny_model, "--out", tmp_path / "out"]
    for what, field, options in (("tag", "scene", []), ("depth", "depth_png", depth)):
        failed, done = document(capsys, "try", what, broken, picture, *options)
        assert failed["file"] == str(broken)
        assert "empty_file" in failed["error"]
        assert field in done


def test_try_tag_says_which_tagger_it_is(capsys, picture):
    (entry,) = document(capsys, "try", "tag", picture)
    assert entry["scene"] in ("indoor", "outdoor", "unsure")
    assert 0 <= entry["p_indoor"] <= 1
    assert entry["model"].startswith("embedded")


def test_try_tag_is_calibrated_by_a_truth(capsys, picture, tmp_path):
    other, truth = tmp_path / "other.jpg", tmp_path / "truth.csv"
    cv2.imwrite(str(other), 255 - cv2.imread(str(picture)))
    truth.write_text(f"note,file,scene\nby its name,{picture.name},indoor\nwhole,{other},outdoor\n")
    found = document(capsys, "try", "tag", picture, other, "--truth", truth)
    assert set(found) == {"files", "accuracy", "calibration_error", "threshold", "temperature"}
    assert [entry["truth"] for entry in found["files"]] == ["indoor", "outdoor"]
    assert found["accuracy"] == sum(entry["truth"] == said(entry) for entry in found["files"]) / 2
    assert main(["try", "tag", str(picture), str(other), "--truth", str(truth)]) == 0
    assert f"temperature: {found['temperature']:g}" in capsys.readouterr().out
    for text, complaint in (
        ("file,scene\npanorama.jpg,garden\n", "line 2: a file and its scene"),
        ("file,scene\nelse.jpg,indoor\n", "does not say the scene of"),
        ("file,scene\npanorama.jpg,indoor\n", "both scenes are needed"),
        ("file,scene\na/panorama.jpg,indoor\nb/panorama.jpg,outdoor\n", "does not say the scene of"),
        ('file,scene\n"panorama\n.jpg",garden\n', "line 3: a file and its scene"),
        ("", "does not say the scene of"),
    ):
        truth.write_text(text)
        assert main(["try", "tag", str(picture), "--truth", str(truth)]) == 2
        assert complaint in capsys.readouterr().err


def said(entry: dict) -> str:
    return "indoor" if entry["p_indoor"] >= 0.5 else "outdoor"


def test_try_depth_writes_what_it_says(capsys, picture, tiny_model, tmp_path):
    (entry,) = document(capsys, "try", "depth", picture, "--model", tiny_model, "--out", tmp_path / "out")
    with open(entry["depth_png"], "rb") as file:
        depth = decode_depth_png(file.read())
    assert depth.depth_m.shape == cv2.imread(str(picture)).shape[:2]
    assert abs(np.median(depth.depth_m[depth.valid]) - entry["median_m"]) < 0.01


def test_try_quality_scores_a_labelers_depth(capsys, picture, tiny_model, tmp_path):
    Discriminator.new(DiscriminatorConfig.tiny(), seed=0).save_pretrained(tmp_path / "judge")
    judge = ["--model", tmp_path / "judge", "--labeler", tiny_model]
    (entry,) = document(capsys, "try", "quality", picture, *judge)
    assert 0 < entry["score"] < 1
    assert main(["try", "quality", str(picture)]) == 2
    assert "needs --model" in capsys.readouterr().err


def test_predict_leaves_depth_a_picture_and_points(picture, tiny_model, tmp_path):
    assert main(["predict", str(picture), "--model", str(tiny_model), "--out", str(tmp_path), "--ply"]) == 0
    height, width = cv2.imread(str(picture)).shape[:2]
    depth = decode_depth_png((tmp_path / "panorama.depth.png").read_bytes())
    assert depth.depth_m.shape == (height, width)
    assert cv2.imread(str(tmp_path / "panorama.colour.png")).std() > 1
    cloud = trimesh.load(tmp_path / "panorama.ply")
    distances_m = np.linalg.norm(cloud.vertices, axis=1)
    assert np.isclose(np.median(distances_m), np.median(depth.depth_m[depth.valid]), atol=0.01)


def test_two_files_of_one_name_do_not_overwrite_each_other(capsys, picture, tmp_path):
    other = tmp_path / picture.name
    other.write_bytes(picture.read_bytes())
    assert main(["predict", str(picture), str(other), "--out", str(tmp_path / "out")]) == 2
    assert "would both be written as panorama" in capsys.readouterr().err


def test_predict_takes_videos(footage, tiny_model, tmp_path):
    (video,) = list(footage.glob("000000/*.mp4"))
    assert main(["predict", str(video), "--model", str(tiny_model), "--out", str(tmp_path), "--every", "3"]) == 0
    assert len(list(tmp_path.glob("*.depth.png"))) == 2


def test_predict_on_a_real_panorama(shared_data, tmp_path):
    image = shared_data / "panos" / "polyhaven_lobby_indoor.jpg"
    assert main(["predict", str(image), "--out", str(tmp_path)]) == 0
    depth = decode_depth_png((tmp_path / "polyhaven_lobby_indoor.depth.png").read_bytes())
    assert depth.depth_m.shape == (512, 1024)
    assert depth.valid.mean() > 0.5


def test_what_was_tried_can_be_looked_at_in_one_page(capsys, picture, tiny_model, tmp_path):
    page, broken = tmp_path / "page.html", tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    for what, options, maps in (("horizon", [], []), ("tag", [], []), ("depth", ["--out", tmp_path], ["depth"])):
        options += ["--model", tiny_model] if what == "depth" else []
        entry, *_ = document(capsys, "try", what, picture, broken, "--html", page, *options)
        (scene,) = json.loads(re.search(r'id="scenes">(.*?)</script>', page.read_text(), re.S)[1])
        assert (scene["title"], list(scene["maps"])) == (picture.stem, maps)
        said = dict(scene["facts"])
        assert said.keys() == {name for name, value in entry.items() if name != "file" and value is not None}
    assert main(["try", "tag", str(picture), "--html", str(tmp_path / "nowhere/page.html")]) == 2

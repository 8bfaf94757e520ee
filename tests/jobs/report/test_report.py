"""`dap report`: what its pages say of a run, that it is whole or not there, and how it opens in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.jobs.report import results
from dap_engine.jobs.report.build import build_report
from dap_engine.models.data.depth_png import decode_units
from dap_engine.stages.tag import Tag
from tests.jobs.whole_run import whole_run
from tests.runs import FRAMES, Bring, finished, frame

BLACK = "b-db0f8b31c1-00000005"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    return whole_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def site(run_dir, tmp_path_factory) -> Path:
    """The report of a small run, whose labeler is measured, too."""
    out = tmp_path_factory.mktemp("report") / "site"
    assert build_report(RunDir(str(run_dir)), str(out), ("labeler-1", "labelled-sim")) == out / "index.html"
    return out


class Links(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.targets += [values[name] for name in ("href", "src") if values.get(name)]
        self.anchors |= {values["id"]} if "id" in values else set()


def text_of(site: Path, page: str) -> str:
    return (site / page).read_text()


def scene_of(site: Path, key: str) -> dict:
    script = text_of(site, f"scenes/{key}.js")
    return json.loads(script.removeprefix("dapScene(").removesuffix(");\n"))


def selected(run_dir: Path) -> list[dict]:
    return pq.read_table(run_dir / "selection-1/000000.parquet").to_pylist()


def test_every_link_and_picture_is_there(site):
    pages = {page: Links(page) for page in site.rglob("*.html")}
    scenes = {file.stem for file in (site / "scenes").iterdir()}
    for page, links in pages.items():
        for target in links.targets:
            if target.startswith("data:"):
                continue
            assert "//" not in target, f"{page}: {target} leaves the report"
            path, _, anchor = unquote(target).partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page}: {target}"
            if anchor:
                known = scenes if there.name == "viewer.html" else pages[there].anchors
                assert anchor in known, f"{page}: {target}"


def test_links_of_scenes_are_there(site):
    for file in (site / "scenes").iterdir():
        for _, _, href in scene_of(site, file.stem)["facts"]:
            path, _, anchor = href.partition("#")
            assert not href or (site / path).exists()
            assert not anchor or anchor in Links(site / path).anchors, href


def test_the_funnel_counts_what_the_run_holds(site, run_dir):
    text = text_of(site, "index.html")
    figure = json.loads(re.search(r'id="funnel">(.*?)</script>', text, re.S)[1])
    counts = dict(zip(figure["data"][0]["y"], figure["data"][0]["x"], strict=True))
    frames = RunDir(str(run_dir)).receipts("frames")
    assert counts["frames kept"] == frames.samples[1]
    assert counts["frames looked at"] == frames.samples[1] + sum(frames.drops.values())
    assert counts["in training set selected"] == len(selected(run_dir))


def test_a_drop_is_shown_with_what_decided_and_the_threshold(site):
    section = text_of(site, "drops.html").partition('id="frames-black"')[2].partition("</section>")[0]
    assert BLACK in section
    assert "grey level that 1 % exceeds <b>0</b> &lt; 16" in section
    picture = cv2.imread(str(site / f"pictures/{BLACK}.jpg"))
    assert picture.shape == (128, 256, 3)
    assert picture.mean() < 3


def test_a_video_that_was_dropped_whole_shows_some_of_its_frames(site):
    section = text_of(site, "drops.html").partition('id="frames-partial"')[2].partition("</section>")[0]
    assert section.count("<img src=") == 2
    assert re.search(r"worse pole is cut off <b>[0-9.]+</b> &gt; 2.5", section)


def test_a_file_that_is_no_video_has_its_reason_alone(site):
    section = text_of(site, "drops.html").partition('id="frames-unreadable"')[2].partition("</section>")[0]
    assert re.search(r"noise-\w+</a>: Invalid data found", section)
    assert "<img" not in section


def test_a_sample_leads_from_its_video_to_its_training_shard(site, run_dir):
    key = selected(run_dir)[0]["key"]
    page = text_of(site, f"video/{key.rpartition('-')[0]}.html")
    of_frame = page.partition(f'id="{key}"')[2].partition("</figure>")[0]
    for words in ("tags:", "labels-1:", "scores-1:", "rank ", "train-selected/train-"):
        assert words in of_frame


def test_scenes_hold_the_values_of_the_file(site, run_dir):
    import base64
    import tarfile

    key = selected(run_dir)[0]["key"]
    with tarfile.open(run_dir / "labels-1/000000.tar") as tar:
        stored = tar.extractfile(f"{key}.depth.png").read()
    sent = base64.b64decode(scene_of(site, key)["maps"]["labels-1"].partition(",")[2])
    assert np.array_equal(decode_units(sent), decode_units(stored))


def test_a_model_that_is_measured_shows_its_worst_images_worst_first(site):
    text = text_of(site, "evaluation.html").partition('id="measured"')[2].partition("</section>")[0]
    errors = [float(value) for value in re.findall(r'viewer.html#[^"]+">([0-9.]+)<', text)]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) >= 2


def test_curves_of_a_training_are_drawn_also_of_one_that_goes_on(run_dir, tmp_path):
    run = shutil.copytree(run_dir, tmp_path / "run")
    folder = run / "models/student/training"
    (folder / "images").mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,loss/silog,loss/total,lr\n10,0.5,0.9,\n20,0.4,0.7,0.001\n30,0.")
    (folder / "images/step-20.jpg").write_bytes((next((run_dir.parent).rglob("pictures/*.jpg"))).read_bytes())
    build_report(RunDir(str(run)), str(tmp_path / "site"))
    text = text_of(tmp_path / "site", "training.html").partition('id="student"')[2].partition("</section>")[0]
    assert "going on, or not finished" in text
    figures = [json.loads(found) for found in re.findall(r'json" id="student-\d">(.*?)</script>', text, re.S)]
    lines = {trace["name"]: trace["y"] for figure in figures for trace in figure["data"]}
    assert lines == {"loss/silog": [0.5, 0.4], "loss/total": [0.9, 0.7], "lr": [0.001]}
    assert (tmp_path / "site/pictures/models.student.training.images.step-20.jpg").exists()


# From the command line


def test_the_command_writes_where_it_is_told_and_again(dap_here, run_dir, tmp_path):
    for _ in range(2):
        done = dap_here("report", "--run-dir", run_dir, "--out", tmp_path / "site")
        assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'site/index.html'}\n")
        assert "frames" in done.stderr  # progress
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "{there}"], "holds something that is no report"),
        (["--model", "labeler-1"], "--model and --data go together"),
        (["--out", "{new}", "--model", "labeler-1", "--data", "frames"], "the run has ['labelled-sim']"),
        (["--out", "{new}", "--model", "/nowhere", "--data", "labelled-sim"], "--model /nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_leaves_nothing(dap_here, run_dir, tmp_path, arguments, words):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    places = {"there": tmp_path / "mine", "new": tmp_path / "site"}
    done = dap_here("report", "--run-dir", run_dir, *(argument.format(**places) for argument in arguments))
    assert done.returncode == 2
    assert words in done.stderr.strip().splitlines()[-1]
    assert (tmp_path / "mine/thesis.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_is_no_run_is_refused(dap_here, tmp_path):
    done = dap_here("report", "--run-dir", tmp_path, "--out", tmp_path / "site")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.slow
def test_a_run_on_an_object_store_has_the_same_pages(site, run_dir, tmp_path, s3_uri):
    run = RunDir(s3_uri)
    for file in run_dir.rglob("*"):
        if file.is_file():
            run.storage.write_bytes(file.relative_to(run_dir).as_posix(), file.read_bytes())
    build_report(run, str(tmp_path / "site"), ("labeler-1", "labelled-sim"))
    names = {path.relative_to(site) for path in site.rglob("*") if path.is_file()}
    assert names == {path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert all(
        (site / name).read_bytes() == (tmp_path / "site" / name).read_bytes() for name in names if name.suffix == ".js"
    )


def test_a_report_that_fails_leaves_the_one_before(run_dir, tmp_path, monkeypatch):
    build_report(RunDir(str(run_dir)), str(tmp_path / "site"))
    before = (tmp_path / "site/index.html").read_bytes()

    def fail(*_):
        raise RuntimeError("half way")

    monkeypatch.setattr(results, "write_lineage", fail)
    with pytest.raises(RuntimeError, match="half way"):
        build_report(RunDir(str(run_dir)), str(tmp_path / "site"))
    assert (tmp_path / "site/index.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_run_that_has_only_begun_has_a_report_too(run_dir, tmp_path):
    run = tmp_path / "run"
    for part in ("run.yaml", "plan", "receipts/plan"):
        (run / part).parent.mkdir(parents=True, exist_ok=True)
        source = run_dir / part
        shutil.copytree(source, run / part) if source.is_dir() else shutil.copy(source, run / part)
    build_report(RunDir(str(run)), str(tmp_path / "site"))
    assert "0 frames kept" in text_of(tmp_path / "site", "frames.html")
    assert "The run has no tags yet" in text_of(tmp_path / "site", "tags.html")


def test_a_shard_of_which_nothing_was_kept_has_no_pictures(tmp_path):
    frames = Bring(FRAMES, {"000000": [], "000001": [frame("a-0")]})
    build_report(finished(tmp_path / "run", frames, Tag()), str(tmp_path / "site"))
    assert "a-0" in text_of(tmp_path / "site", "tags.html")


# In a browser


@pytest.mark.slow
def test_every_page_opens_from_disk_and_fits_a_narrow_screen(visit, site):
    for page in sorted(site.glob("*.html")) + sorted(site.glob("video/*.html"))[:2]:
        opened = visit(page, viewport={"width": 360, "height": 700})
        assert opened.evaluate("() => document.documentElement.scrollWidth") <= 360, page
        for chart in opened.locator(".chart").all():
            chart.locator(".main-svg").first.wait_for()
        assert opened.evaluate("() => [...document.images].every(image => !image.complete || image.naturalWidth > 0)")
        opened.context.close()


@pytest.mark.slow
def test_the_viewer_shows_without_a_click_and_follows_the_address(visit, site, run_dir):
    small = {"width": 500, "height": 400}  # it is drawn without a card
    visit(site / "index.html", viewport=small).wait_for_selector("#viewer[data-ready]")
    first, second = (row["key"] for row in selected(run_dir)[:2])
    page = visit(f"{site}/viewer.html#{first}", viewport=small)
    page.wait_for_selector("#viewer[data-ready]")
    assert page.locator("h1").text_content() == first
    page.evaluate(f"() => {{ location.hash = '{second}' }}")
    page.wait_for_function(f"() => document.querySelector('h1').textContent === '{second}'")
    page.wait_for_selector("#viewer[data-ready]")
    assert page.locator(".distance").text_content() != ""
    page.get_by_role("link", name="next").click()
    page.wait_for_function(f"() => document.querySelector('h1').textContent !== '{second}'")


@pytest.mark.slow
def test_pages_are_dark_for_who_wants_it(visit, site):
    for scheme, dark in (("light", False), ("dark", True)):
        page = visit(site / "index.html", color_scheme=scheme)
        colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (int(re.findall(r"\d+", colour)[0]) < 60) is dark
        labels = page.locator(".chart .ytick text").first
        labels.wait_for()
        fill = re.findall(r"\d+", labels.evaluate("text => getComputedStyle(text).fill"))
        assert (int(fill[0]) > 180) is dark

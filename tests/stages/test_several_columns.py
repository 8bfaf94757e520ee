"""Panoramas of several columns in one run: each step takes every shard from the column that has it."""

from dataclasses import dataclass, field, replace

import pytest

from dap_engine.engine.planning.recipe import RecipeError
from dap_engine.engine.records.sample import Sample
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.verification.verify import verify_run
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.network.discriminator import Discriminator, DiscriminatorConfig
from dap_engine.stages.batches.panorama_source import PanoramaSource
from dap_engine.stages.label import Label
from dap_engine.stages.pack import Pack, Source
from dap_engine.stages.packing.assignment import assigned_rows
from dap_engine.stages.ranking.choice import Diversity
from dap_engine.stages.score import Score
from dap_engine.stages.select import Select
from dap_engine.stages.tag import Tag
from tests.footage import panorama
from tests.runs import FRAMES, Bring, finished, frame, rows_of

BOTH = ["frames", "photos"]
MADE = ("tags", "labels-1", "scores-1", "selection-1")
A, B, C = (frame(key, seed, shot=seed, frame_index=seed) for seed, key in enumerate(["a-00", "a-01", "b-00"]))
FIRST = Bring(FRAMES, {"000000": [A, B], "000001": [C]})


@dataclass
class Photos(PanoramaSource):
    """Two panoramas that are of no video, as `images` and `generate` write them."""

    name = "bring-photos"

    column: str = field(default="photos", kw_only=True)

    def shards(self):
        return [self.shard(0)]

    def source(self, shard):
        return (Sample(self.key(name), {"panorama": {"name": name}}) for name in "cd")

    def process(self, batch):
        for sample in batch:
            name = sample["panorama"]["name"]
            yield self.checked(name, panorama(64, ord(name)), {"file": f"{name}.jpg"})


SECOND = Photos(height=32, min_sharpness=0)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    DapModel.new(DapConfig.tiny(image_height=32), seed=3).save_pretrained(folder / "depth")
    Discriminator.new(DiscriminatorConfig.tiny(image_height=32), seed=1).save_pretrained(folder / "judge")
    return str(folder / "depth"), str(folder / "judge")


def steps(models, images):
    depth, judge = models
    top = {"indoor": 9, "outdoor": 9, "unsure": 9}
    return (
        Tag(images=images),
        Label(model=depth, images=images),
        Score(model=judge, images=images),
        Select(top=top, images=images, diversity=Diversity(max_per_shot=1)),
        Pack("all", [Source(images, "labels-1", "selection-1")], seed=1),
    )


@pytest.fixture(scope="module")
def run(models, tmp_path_factory) -> RunDir:
    return finished(tmp_path_factory.mktemp("both"), FIRST, SECOND, *steps(models, BOTH))


def test_every_step_has_the_samples_of_both_columns(run):
    keys = ["a-00", "a-01", "b-00", "photos-c-0", "photos-d-0"]
    assert {column: list(rows_of(run, column)) for column in MADE} == dict.fromkeys(MADE, keys)
    packed = rows_of_packed(run)
    assert sorted(packed) == keys
    assert {row["source"] for row in packed.values()} == {"labels-1"}


def rows_of_packed(run: RunDir) -> dict[str, dict]:
    return {row["key"]: row for row in assigned_rows(run, "train-all", "", "\x7f")}


def test_the_assignment_says_of_which_column_a_sample_is(run):
    places = {key: row["jpg"]["path"] for key, row in rows_of_packed(run).items()}
    assert places["b-00"] == "frames/000001.tar"
    assert places["photos-d-0"] == "photos/photos-000000.tar"


def test_what_is_made_of_frames_is_what_it_is_without_another_column(run, models, tmp_path):
    alone = finished(tmp_path, FIRST, *steps(models, "frames")[:3])
    for column in MADE[:3]:
        stated = run.receipts(column)
        for shard, receipt in alone.receipts(column).items():
            assert (receipt.fingerprint, receipt.output) == (stated[shard].fingerprint, stated[shard].output)


def test_nothing_is_wrong_with_such_a_run(run):
    assert verify_run(run).problems == []


def test_columns_that_do_not_fit_are_refused_before_any_work(models, tmp_path):
    tag, label, score, select, pack = steps(models, BOTH)
    near = Select(images="frames", diversity=Diversity(max_per_shot=1))
    scored, selected = (replace(step, images="frames") for step in (score, select))
    refused = [
        ("'scores-1' .* 'bring-photos-1', .* not in 'tags'", replace(tag, images="frames"), label, score, select),
        ("'scores-1' .* not in 'frames'", tag, label, score, near),
        ("'photos' .* not in 'labels-1'", replace(label, images="frames"), Pack("all", [Source(BOTH, "labels-1")])),
        ("'photos' .* not in 'selection-1'", tag, label, scored, selected, pack),
    ]
    for message, *made in refused:
        with pytest.raises(RecipeError, match=message):
            finished(tmp_path, FIRST, SECOND, *made)


@pytest.mark.parametrize("images", [[], "", ["frames", ""]])
def test_no_column_is_no_setting(images):
    for make in (Tag, Label, Score, Select):
        with pytest.raises(ValueError, match="names no column"):
            make(images=images)

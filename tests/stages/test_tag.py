"""The tag stage: frames in, a row or a drop out for each."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg

from dap_engine.engine.records.sample import Drop, Row, Sample
from dap_engine.engine.steps.step import StageContext
from dap_engine.engine.storage.storage import Storage
from dap_engine.stages.tag import Tag
from tests.models.tagging.tiny_models import save_tiny_qwen2vl


def jpeg(seed: int, height: int = 64) -> bytes:
    generator = np.random.Generator(np.random.PCG64(seed))
    return simplejpeg.encode_jpeg(generator.integers(0, 255, (height, 2 * height, 3), dtype=np.uint8))


def samples(*jpegs: bytes) -> list[Sample]:
    return [Sample(f"video-{i:03d}", {"frames": {"jpg": data, "json": {}}}) for i, data in enumerate(jpegs)]


def run(stage: Tag, batch: list[Sample], assets: dict[str, str] | None = None) -> list[Row | Drop]:
    stage.setup(StageContext(Storage("/"), assets or {}))
    return list(stage.process(batch))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_qwen2vl(tmp_path_factory.mktemp("models") / "tiny-qwen")


@pytest.mark.parametrize("model", ["embedded", "qwen"])
def test_every_frame_becomes_a_row_under_its_key(model, request):
    if model == "qwen":
        model = str(request.getfixturevalue("qwen"))
    batch = samples(jpeg(0), jpeg(1, height=96), jpeg(2))
    stage = Tag(model=model, min_pixels=4 * 784, max_pixels=16 * 784)
    rows = run(stage, batch, stage.assets())
    assert [row.key for row in rows] == [sample.key for sample in batch]
    for row in rows:
        assert set(row.fields) == {"scene", "p_indoor", "model"}
        assert row.fields["scene"] in ("indoor", "outdoor", "unsure")
        assert 0 <= row.fields["p_indoor"] <= 1


def test_a_broken_jpeg_is_dropped_and_the_others_are_tagged():
    whole = [jpeg(0), jpeg(1), jpeg(2)]
    alone = run(Tag(), samples(*whole))
    broken = [b"no jpeg", whole[1][: len(whole[1]) // 2], b""]
    mixed = run(Tag(), samples(broken[0], whole[0], broken[1], whole[1], broken[2], whole[2]))
    assert [item.code for item in mixed if isinstance(item, Drop)] == ["bad_image"] * 3
    assert [item.fields for item in mixed if isinstance(item, Row)] == [row.fields for row in alone]


def test_a_batch_of_broken_jpegs_alone_is_only_drops(qwen):
    stage = Tag(model=str(qwen))
    assert [item.code for item in run(stage, samples(b"", b"x"), stage.assets())] == ["bad_image", "bad_image"]


def test_rows_fill_the_column(tmp_path):
    stage = Tag()
    writer = stage.writes.writer(tmp_path)
    for row in run(stage, samples(jpeg(0), jpeg(1))):
        writer.add(row)
    table = pq.read_table(writer.finish())
    assert stage.writes.name == "tags"
    assert table.column_names == ["key", "scene", "p_indoor", "model"]
    assert table["model"].to_pylist() == ["embedded-v1"] * 2
    assert table.schema.field("p_indoor").type == pa.float32()


def test_the_threshold_decides_when_it_is_unsure():
    batch = samples(jpeg(0))
    assert run(Tag(threshold=1.0), batch)[0].fields["scene"] == "unsure"
    assert run(Tag(threshold=0.5), batch)[0].fields["scene"] in ("indoor", "outdoor")


def test_the_weights_are_an_asset_and_the_tags_name_the_recipe_s_model(qwen):
    assert Tag().assets() == {}
    stage = Tag(model="hub/Qwen2-VL-2B-Instruct")
    assert stage.assets() == {"model": "hub/Qwen2-VL-2B-Instruct"}
    rows = run(stage, samples(jpeg(0)), {"model": str(qwen)})
    assert rows[0].fields["model"] == "Qwen2-VL-2B-Instruct"


def test_a_pickled_stage_gives_the_same_rows():
    stage = Tag(threshold=0.7, batch_size=2)
    copy = pickle.loads(pickle.dumps(stage))  # noqa: S301 - our own bytes
    assert copy.settings() == stage.settings()
    assert run(copy, samples(jpeg(0))) == run(stage, samples(jpeg(0)))
    settings = {"prompt", "threshold", "temperature", "engine", "height", "min_pixels", "max_pixels", "batch_size"}
    assert set(stage.settings()) == settings


def test_a_threshold_that_decides_nothing_is_refused_before_any_work():
    with pytest.raises(ValueError, match="threshold"):
        Tag(threshold=0.2)

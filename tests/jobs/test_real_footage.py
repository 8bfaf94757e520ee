"""Curation of real footage, 360° and not, in one folder as a crawler leaves it."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dap_engine.engine.rundir.rundir import RunDir


@pytest.mark.slow
@pytest.mark.shared
def test_every_360_video_gives_frames_and_every_other_one_a_code(dap, shared_data, tiny_model, tmp_path):
    with (shared_data / "MANIFEST.csv").open() as file:
        expected = {row["file"]: row["expect"] for row in csv.DictReader(file) if row["file"].startswith("videos/")}
    place = tmp_path / "run"
    settings = ["--set", f"videos={shared_data / 'videos'}", "--set", f"label.model={tiny_model}"]
    done = dap("run", "curate", "--run-dir", place, *settings)
    assert done.returncode == 0, done.stderr

    run = RunDir(str(place))
    videos = {row.key: row.fields["uri"] for r in run.receipts("plan").values() for row in run.rows(r)}
    assert len(videos) == len(expected)
    frames = run.receipts("frames").values()
    kept = {row.fields["json"]["video_id"] for receipt in frames for row in run.rows(receipt)}
    labelled = {row.key for receipt in run.receipts("labels-1").values() for row in run.rows(receipt)}
    assert labelled == {row.key for receipt in frames for row in run.rows(receipt)}
    drops = pa.concat_tables(pq.read_table(place / r.drops_output.path) for r in frames if r.drops_output).to_pylist()
    dropped = {drop["key"]: drop["code"] for drop in drops}
    for video_id, uri in videos.items():
        expect = expected[f"videos/{uri.rsplit('/', 1)[1]}"]
        if expect == "keep":
            assert video_id in kept, uri
        if expect == "drop":
            assert video_id not in kept, uri
            assert dropped.get(video_id), uri
    assert json.loads(dap("verify", "--run-dir", place, "--json").stdout)["ok"]

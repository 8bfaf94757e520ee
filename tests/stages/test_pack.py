"""Packing: every sample once, in its split, thoroughly shuffled, and counted exactly."""

import hashlib
import json
import os
import re
import tarfile
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.engine.records.column import ParquetColumn, TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.hashing import hash_file
from dap_engine.engine.storage.storage import Storage
from dap_engine.engine.verification.verify import verify_run
from dap_engine.models.data.depth_png import decode_depth_png, encode_depth_png
from dap_engine.stages.pack import Pack, Source
from dap_engine.stages.packing.assignment import assigned
from dap_engine.stages.packing.index import read_index
from dap_engine.stages.packing.shuffle import Shuffle
from tests.runs import FRAMES, Bring, failure, finished, hashes, jpeg

JPEG = jpeg(0, height=16)
ROWS_OF_TEST = pa.schema([("key", pa.string()), ("split", pa.string())])
LABELLED = Source(images="labelled-sim")
PSEUDO = Source(images="frames", labels="labels-1")
SELECTED = Source(images="frames", labels="labels-1", selection="selection-1")


def depth_png(distance_m: float) -> bytes:
    return encode_depth_png(np.full((16, 32), distance_m, np.float32))


def labelled(counts: dict[str, int], shards: int = 2) -> Bring:
    """`labelled-sim` with so many samples of every split; sample n is n + 1 metres away."""
    splits = [split for split, count in counts.items() for _ in range(count)]
    rows = [
        Row(f"s-{n:03d}", {"jpg": JPEG, "depth.png": depth_png(n + 1), "json": {"split": split, "scene": "indoor"}})
        for n, split in enumerate(splits)
    ]
    column = TarColumn("labelled-sim", ("depth.png", "jpg", "json"))
    return Bring(column, {f"{s:06d}": rows[s::shards] for s in range(shards)})


def pseudo(videos: int, frames: int) -> list[Bring]:
    """Frames and labels of videos, one a shard, every third video in `val`; the last frame of each has no label."""
    images, labels = {}, {}
    for video in range(videos):
        keys = [f"v{video}-{n:04d}" for n in range(frames)]
        info = {"video_id": f"v{video}", "split": "val" if video % 3 == 2 else "train"}
        images[f"{video:06d}"] = [Row(key, {"jpg": JPEG, "json": info}) for key in keys]
        labels[f"{video:06d}"] = [
            Row(key, {"depth.png": depth_png(40), "json": {"median_m": 40.0}}) for key in keys[:-1]
        ]
    return [Bring(FRAMES, images), Bring(TarColumn("labels-1", ("depth.png", "json")), labels)]


def selection(shards: dict[str, list[str]]) -> Bring:
    column = ParquetColumn("selection-1", pa.schema([("rank", pa.int64())]))
    return Bring(column, {shard: [Row(key, {"rank": 1}) for key in keys] for shard, keys in shards.items()})


def keys_of(run: RunDir, column: str) -> dict[str, list[str]]:
    """The keys of every shard that the index names, in their order, by plain means."""
    folder = Path(run.uri) / column
    found = {}
    for entry in json.loads((folder / "index.json").read_text())["shards"]:
        with tarfile.open(folder / entry["name"]) as tar:
            found[entry["name"]] = list(dict.fromkeys(member.name.partition(".")[0] for member in tar))
    return found


def samples_of(run: RunDir, column: str) -> dict[str, dict]:
    """All samples of the index, read with webdataset alone."""
    urls = [str(Path(run.uri) / column / entry["name"]) for entry in read_index(run.storage, column)]
    return {sample["__key__"]: sample for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)}


def assignment(splits: dict[str, str], per_shard: int, seed: int, rows_at_once: int) -> dict[str, list[str]]:
    """The keys of every shard; rows come in the order of `splits`, seven at a time."""
    table = pa.table({"key": list(splits), "split": list(splits.values())}, schema=ROWS_OF_TEST)
    with tempfile.TemporaryDirectory() as folder:
        shuffle = Shuffle(Path(folder), seed, rows_at_once)
        for first in range(0, len(table), 7):
            shuffle.add(table.slice(first, 7))
        return {shard: rows["key"].to_pylist() for shard, rows in assigned(shuffle, ["train", "val"], per_shard)}


@given(
    st.dictionaries(st.text("abcdef0123", min_size=1, max_size=5), st.sampled_from(["train", "val"]), max_size=60),
    st.integers(1, 20),
    st.integers(0, 3),
    st.randoms(),
)
def test_an_assignment_is_even_whole_and_does_not_depend_on_the_order_of_the_rows(splits, per_shard, seed, random):
    shards = assignment(splits, per_shard, seed, rows_at_once=10)
    assert Counter(key for part in shards.values() for key in part) == Counter(list(splits))
    assert all(shard.startswith(splits[key]) for shard, part in shards.items() for key in part)
    for split in set(splits.values()):
        parts = {shard: part for shard, part in shards.items() if shard.startswith(split)}
        sizes = [len(part) for part in parts.values()]
        assert len(sizes) == -(-sum(sizes) // per_shard)
        assert max(sizes) - min(sizes) <= 1
        by_hash = sorted(
            (key for key in splits if splits[key] == split),
            key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest(),
        )
        assert [key for shard in sorted(parts) for key in parts[shard]] == by_hash
    again = dict(random.sample(sorted(splits.items()), len(splits)))
    assert assignment(again, per_shard, seed, rows_at_once=1000) == shards


def test_shards_may_be_of_about_so_many_bytes(tmp_path):
    pack = Pack(train="x", sources=[LABELLED], bytes_per_shard=20_000)
    index = read_index(finished(tmp_path, labelled({"train": 40, "val": 2}), pack).storage, "train-x")
    sizes = [entry["bytes"] for entry in index if entry["split"] == "train"]
    assert len(sizes) > 4
    assert set(sizes) == {20_480, 30_720}  # a tar is written in blocks of 10 KiB
    assert "bytes_per_shard" not in Pack(train="x", sources=[LABELLED]).settings()  # what was packed before stays


def test_the_index_counts_exactly_and_every_sample_is_there_once(tmp_path):
    pack = Pack(train="x", sources=[LABELLED], samples_per_shard=4)
    run = finished(tmp_path, labelled({"train": 10, "val": 3, "test": 2}), pack)
    packed, index = keys_of(run, "train-x"), read_index(run.storage, "train-x")
    assert {entry["name"]: (entry["split"], entry["samples"]) for entry in index} == {
        "train-000000.tar": ("train", 3),
        "train-000001.tar": ("train", 3),
        "train-000002.tar": ("train", 4),
        "val-000000.tar": ("val", 3),
    }
    for entry in index:
        path = tmp_path / "train-x" / entry["name"]
        assert len(packed[entry["name"]]) == entry["samples"]
        assert (hash_file(path), path.stat().st_size) == (entry["sha256"], entry["bytes"])
    assert sorted(key for keys in packed.values() for key in keys) == [f"s-{n:03d}" for n in range(13)]
    assert verify_run(run).problems == []


def test_splits_are_never_mixed_and_other_splits_stay_out(tmp_path):
    run = finished(tmp_path, labelled({"train": 10, "val": 3, "test": 2}), Pack(train="x", sources=[LABELLED]))
    samples = samples_of(run, "train-x")
    for name, keys in keys_of(run, "train-x").items():
        assert {json.loads(samples[key]["json"])["split"] for key in keys} == {name.partition("-")[0]}
    wanted = Pack(train="held", sources=[LABELLED], splits=["test"])
    run = finished(tmp_path, labelled({"train": 10, "val": 3, "test": 2}), wanted)
    assert sorted(samples_of(run, "train-held")) == ["s-013", "s-014"]


def test_the_shuffle_is_global(tmp_path):
    """Frames of one video, neighbours in their column, are spread over all shards and rarely stand together."""
    run = finished(tmp_path, *pseudo(8, 41), Pack(train="x", sources=[PSEUDO], samples_per_shard=60))
    train = [
        [key.partition("-")[0] for key in keys] for name, keys in keys_of(run, "train-x").items() if "train" in name
    ]
    assert [len(videos) for videos in train] == [60, 60, 60, 60]
    assert all(Counter(videos).keys() == {"v0", "v1", "v3", "v4", "v6", "v7"} for videos in train)
    together = [one == other for videos in train for one, other in pairwise(videos)]
    assert np.mean(together) < 0.3  # one in six by chance


def test_another_seed_assigns_anew_and_the_same_seed_the_same_bytes(tmp_path):
    column = labelled({"train": 12})
    runs = [
        finished(tmp_path / name, column, Pack(train="x", sources=[LABELLED], samples_per_shard=5, seed=seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert hashes(runs[0], "train-x") == hashes(runs[1], "train-x")
    assert keys_of(runs[0], "train-x") != keys_of(runs[2], "train-x")


def test_a_sample_keeps_its_own_image_and_depth_and_says_where_it_comes_from(tmp_path):
    run = finished(tmp_path, labelled({"train": 6}), *pseudo(2, 3), Pack(train="x", sources=[LABELLED, PSEUDO]))
    samples = samples_of(run, "train-x")
    assert sorted(samples) == [*(f"s-{n:03d}" for n in range(6)), "v0-0000", "v0-0001", "v1-0000", "v1-0001"]
    for number in range(6):
        sample = samples[f"s-{number:03d}"]
        assert (decode_depth_png(sample["depth.png"]).depth_m == number + 1).all()
        assert json.loads(sample["json"]) == {"scene": "indoor", "source": "labelled-sim", "split": "train"}
    pictures = [simplejpeg.decode_jpeg(sample["jpg"]) for sample in samples.values()]
    assert {picture.shape for picture in pictures} == {(16, 32, 3)}
    assert (decode_depth_png(samples["v1-0001"]["depth.png"]).depth_m == 40).all()
    assert json.loads(samples["v1-0001"]["json"]) == {
        "label": {"median_m": 40.0},
        "source": "labels-1",
        "split": "train",
        "video_id": "v1",
    }


def test_a_selection_is_honoured(tmp_path):
    chosen = selection({"000000": ["v0-0001"], "000001": [], "000002": ["v2-0000", "v2-0002"]})  # no label
    run = finished(tmp_path, *pseudo(3, 3), chosen, Pack(train="x", sources=[SELECTED]))
    assert keys_of(run, "train-x") == {
        "train-000000.tar": ["v0-0001"],
        "val-000000.tar": ["v2-0000"],
    }  # v2-0002: no label


def test_a_finished_pack_is_left_alone_and_a_killed_one_ends_the_same(tmp_path):
    steps = (labelled({"train": 12}), Pack(train="x", sources=[LABELLED], samples_per_shard=4))
    run = finished(tmp_path, *steps)
    before = hashes(run, "train-x")
    assert {receipt.attempt for receipt in finished(tmp_path, *steps).receipts("train-x").values()} == {1}
    for lost in ("index", "train-000001"):  # as if killed between the first and the second shard's receipt
        run.storage.delete(f"receipts/train-x/{lost}.json")
    (tmp_path / "train-x" / "train-000001.tar").unlink()
    again = finished(tmp_path, *steps)
    assert hashes(again, "train-x") == before
    assert again.receipts("train-x")["train-000000"].attempt == 1


def test_a_smaller_pack_leaves_nothing_of_a_larger_one(tmp_path):
    finished(tmp_path, labelled({"train": 12}), Pack(train="x", sources=[LABELLED], samples_per_shard=3))
    column = labelled({"train": 12})
    run = finished(tmp_path, column, Pack(train="x", sources=[LABELLED], samples_per_shard=6))
    fresh = finished(tmp_path / "fresh", column, Pack(train="x", sources=[LABELLED], samples_per_shard=6))
    assert hashes(run, "train-x") == hashes(fresh, "train-x")
    assert sorted(path.name for path in (tmp_path / "train-x").glob("*.tar")) == [
        "train-000000.tar",
        "train-000001.tar",
    ]


def test_a_source_that_was_deleted_or_cut_is_made_again_first(tmp_path):
    steps = (labelled({"train": 4}), Pack(train="x", sources=[LABELLED]))
    before = hashes(finished(tmp_path, *steps), "train-x")
    (tmp_path / "labelled-sim" / "000001.tar").unlink()
    (tmp_path / "train-x" / "train-000000.tar").write_bytes(b"cut")
    (tmp_path / "receipts" / "train-x" / "index.json").unlink()
    assert hashes(finished(tmp_path, *steps), "train-x") == before
    assert (tmp_path / "labelled-sim" / "000001.tar").is_file()


def test_a_part_that_was_overwritten_is_an_error(tmp_path):
    steps = (labelled({"train": 4}), Pack(train="x", sources=[LABELLED]))
    run = finished(tmp_path, *steps)
    for shard in ("index", "samples", "train-000000"):
        run.storage.delete(f"receipts/train-x/{shard}.json")
    source = tmp_path / "labelled-sim" / "000001.tar"
    before = source.stat()
    source.write_bytes(bytes(before.st_size))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))  # else the source itself would be made again
    error = failure(tmp_path, *steps)
    assert error.startswith("1 shards failed, first train-000000:")
    assert list(run.receipts("train-x")) == ["deal"]


def test_one_key_from_two_sources_is_refused(tmp_path):
    """In different shards it would go unnoticed, and a model would see one sample twice."""
    error = failure(
        tmp_path, labelled({"train": 4}), Pack(train="x", sources=[LABELLED, LABELLED], samples_per_shard=1)
    )
    assert re.search("'s-00[0-3]' comes from labelled-sim and from labelled-sim", error)
    assert "\n" not in error


def test_nothing_to_pack_is_one_clear_line(tmp_path):
    error = failure(tmp_path, labelled({"test": 4}), Pack(train="x", sources=[LABELLED]))
    assert error == "nothing to pack: no sample of the splits ['train', 'val'] in ['labelled-sim']"


def test_an_unpacked_column_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match=r"train-x: no index\.json"):
        read_index(Storage(str(tmp_path)), "train-x")


@pytest.mark.parametrize("settings", [{"sources": []}, {"sources": [LABELLED], "samples_per_shard": 0}])
def test_wrong_settings(settings):
    with pytest.raises(ValueError, match="pack needs sources"):
        Pack(train="x", **settings)

import io
import json
import math
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
import webdataset as wds

from dap_engine.models.data.shards import ShardRef, ShardSet, Stored, scan_shard, scan_shards
from tests.models.panoramas import write_shard


class InMemory:
    """Keeps what is asked of it."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, list[str]()

    def open(self, path: str) -> io.BytesIO:
        self.asked.append(f"open {path}")
        return io.BytesIO(self.content)

    def peek(self, path: str, offset: int, size: int) -> bytes:
        self.asked.append(f"range {path}")
        return self.content[offset : offset + size]


def test_samples_are_those_that_webdataset_reads(tmp_path: Path) -> None:
    shards = [
        write_shard(tmp_path / f"{n}.tar", samples, seed=n, source=f"sim-{n % 2}")
        for n, samples in enumerate([3, 1, 4])
    ]
    read = ShardSet(scan_shards(shards))
    expected = list(wds.WebDataset([s.url for s in shards], shardshuffle=False, empty_check=False))
    assert len(read) == len(expected) == 8
    assert read.sizes == [3, 1, 4]
    for number, sample in enumerate(expected):
        source = f"sim-{int(sample['__key__'][0]) % 2}"
        assert read.read(number) == Stored(sample["__key__"], source, sample["jpg"], sample["depth.png"], number)


def test_an_index_may_be_mapped_from_a_file(tmp_path: Path) -> None:
    index = scan_shards([write_shard(tmp_path / f"{n}.tar", 3, seed=n) for n in range(2)])
    with pa.OSFile(str(tmp_path / "index.arrow"), "wb") as file, pa.ipc.new_file(file, index.schema) as writer:
        writer.write_table(index)
    mapped = ShardSet(pa.ipc.open_file(pa.memory_map(str(tmp_path / "index.arrow"))).read_all())
    assert [mapped.read(n) for n in range(6)] == [ShardSet(index).read(n) for n in range(6)]


def test_a_sample_is_one_range_of_its_storage(tmp_path: Path) -> None:
    storage = InMemory(Path(write_shard(tmp_path / "0.tar", 2, seed=0).url).read_bytes())
    samples = ShardSet(scan_shards([ShardRef("shard.tar", 2)], storage), storage, "column/")
    assert [samples.read(n).key for n in (1, 0)] == ["0-001", "0-000"]
    assert storage.asked == ["open shard.tar", "range column/shard.tar", "range column/shard.tar"]


def test_a_wrong_count_names_the_shard(tmp_path: Path) -> None:
    url, _ = write_shard(tmp_path / "0.tar", 2, seed=0)
    with pytest.raises(ValueError, match=r"0\.tar holds 2 samples where 3 were promised"):
        scan_shards([ShardRef(url, 3)])


@pytest.mark.parametrize("replaced", ["other", "cut"])
def test_a_shard_that_is_not_the_one_of_the_index_is_named(tmp_path: Path, replaced: str) -> None:
    shard = write_shard(tmp_path / "0.tar", 3, seed=0)
    samples, data = ShardSet(scan_shards([shard])), Path(shard.url).read_bytes()
    if replaced == "other":
        write_shard(Path(shard.url), 3, seed=1, height=64)
    else:
        Path(shard.url).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"sample 0-002: .*0\.tar is not what its index says"):
        samples.read(2)


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100])
def test_what_is_no_tar_is_named(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"broken\.tar is no readable tar"):
        scan_shard(io.BytesIO(data), "broken.tar")


def test_links_and_folders_are_no_members(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        folder = tarfile.TarInfo("b.json")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    stream.seek(0)
    assert len(scan_shard(stream, "links.tar")) == 0


@pytest.mark.parametrize(
    ("label", "spread"), [(None, None), ({}, None), ({"spread": 0.25}, 0.25), ({"spread": None}, math.inf)]
)
def test_the_spread_of_a_label_comes_with_its_sample(tmp_path, label, spread):
    info = {"source": "labels-1", "scene": "indoor", **({"label": label} if label is not None else {})}
    path = tmp_path / "few.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (("depth.png", b"png"), ("jpg", b"jpg"), ("json", json.dumps(info).encode())):
            member = tarfile.TarInfo(f"a.{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    shards = ShardSet(scan_shards([ShardRef(str(path), 1)]))
    assert shards.read(0).facts == ("a", "labels-1", "indoor", spread)

import io
import pickle
import tarfile
from pathlib import Path

import pytest
import webdataset as wds

from dap_engine.models.data.shards import ShardRef, ShardSet, index_shard
from tests.models.panoramas import write_shard


def test_samples_are_those_that_webdataset_reads(tmp_path: Path) -> None:
    shards = [write_shard(tmp_path / f"{n}.tar", samples, seed=n) for n, samples in enumerate([3, 1, 4])]
    read = ShardSet(shards)
    expected = list(wds.WebDataset([s.url for s in shards], shardshuffle=False, empty_check=False))
    assert len(read) == len(expected) == 8
    for number, sample in enumerate(expected):
        ours = read[number]
        assert ours["__key__"] == sample["__key__"]
        assert ours["jpg"] == sample["jpg"]
        assert ours["depth.png"] == sample["depth.png"]
        assert ours["json"] == {"source": "labelled"}


def test_a_set_that_has_been_read_still_pickles(tmp_path: Path) -> None:
    samples = ShardSet([write_shard(tmp_path / "0.tar", 2, seed=0)])
    assert samples[1] == pickle.loads(pickle.dumps(samples))[1]  # noqa: S301


def test_another_opener_may_bring_the_bytes(tmp_path: Path) -> None:
    data = Path(write_shard(tmp_path / "0.tar", 2, seed=0).url).read_bytes()
    opened = []

    def opener(url: str) -> io.BytesIO:
        opened.append(url)
        return io.BytesIO(data)

    samples = ShardSet([ShardRef("memory://shard", 2)], opener)
    assert [samples[n]["__key__"] for n in (1, 0)] == ["0-001", "0-000"]
    assert opened == ["memory://shard"]


def test_a_wrong_count_names_the_shard(tmp_path: Path) -> None:
    url, _ = write_shard(tmp_path / "0.tar", 2, seed=0)
    with pytest.raises(ValueError, match=r"0\.tar holds 2 samples where 3 were promised"):
        ShardSet([ShardRef(url, 3)])[0]


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100])
def test_what_is_no_tar_is_named(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"broken\.tar is no readable tar"):
        index_shard(io.BytesIO(data), "broken.tar")


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
    assert index_shard(stream, "links.tar").keys == ()

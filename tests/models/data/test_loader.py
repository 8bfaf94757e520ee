from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch

from dap_engine.models.data.augment_settings import SourceAugment
from dap_engine.models.data.decoding import decode_into
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.data.joined import joined, mixture_of
from dap_engine.models.data.loader import PanoramaDataModule
from dap_engine.models.data.pixel_values import IMAGENET_MEAN, IMAGENET_STD
from dap_engine.models.data.shards import ShardRef, ShardSet, Stored, scan_shards, uniform
from tests.models.panoramas import HEIGHT, box_room, write_shard


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[ShardRef]:
    folder = tmp_path_factory.mktemp("shards")
    return [write_shard(folder / f"s{n}.tar", samples, seed=n) for n, samples in enumerate([5, 1, 8, 3])]


JPEG = simplejpeg.encode_jpeg(np.zeros((8, 16, 3), np.uint8))


def _module(shards: list[ShardRef], **changes: Any) -> PanoramaDataModule:
    settings = {"image_height": HEIGHT, "batch_size": 3, "seed": 7, "augment": 1.0} | changes
    samples = ShardSet(scan_shards(shards))
    return PanoramaDataModule(samples, samples, **settings)


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        for name, value in one.items()
    )


def test_a_batch_holds_what_the_shards_hold(shards: list[ShardRef]) -> None:
    batch = next(iter(_module(shards).loader(training=False)))
    rng = np.random.Generator(np.random.PCG64(0))
    assert batch["key"] == ["s0-000", "s0-001", "s0-002"]
    assert batch["source"] == ["labelled"] * 3
    for index in range(3):
        rgb, depth_m = box_room(rng)
        known = np.isfinite(depth_m)
        assert (batch["valid"][index].numpy() == known).all()
        assert (batch["beyond_range"][index].numpy() == ~known).all()
        assert np.abs(batch["depth_m"][index].numpy() - depth_m)[known].max() <= 0.5 / 512
        assert (batch["depth_m"][index].numpy()[~known] == 0).all()
        restored = (batch["pixel_values"][index].permute(1, 2, 0).numpy() * IMAGENET_STD + IMAGENET_MEAN) * 255
        assert np.abs(restored - rgb).mean() < 6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_do_not_depend_on_the_workers(shards: list[ShardRef], num_workers: int) -> None:
    expected = list(_module(shards).loader(training=True))
    got = list(_module(shards, num_workers=num_workers).loader(training=True))
    assert len(got) == len(expected) == 5
    assert all(_equal(one, other) for one, other in zip(got, expected, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_resumed_loader_gives_the_batches_of_an_undisturbed_one(
    shards: list[ShardRef], world_size: int, num_workers: int
) -> None:
    """Rank 0's state is taken while workers have fetched ahead, and given to the last rank, as Lightning does."""
    module = _module(shards, batch_size=1, num_workers=num_workers)
    rank = {"rank": world_size - 1, "world_size": world_size}
    undisturbed_loader = module.loader(training=True, **rank)
    undisturbed = [batch for _ in range(2) for batch in undisturbed_loader]
    saved = module.loader(training=True, rank=0, world_size=world_size)
    for _, _batch in zip(range(3), saved, strict=False):
        state = saved.state_dict()
    resumed = module.loader(training=True, **rank)
    resumed.load_state_dict(state)
    rest = [batch for _ in range(2) for batch in resumed]
    assert len(rest) == len(undisturbed) - 3
    assert all(_equal(one, other) for one, other in zip(rest, undisturbed[3:], strict=True))


def test_epochs_are_augmented_differently(shards: list[ShardRef]) -> None:
    loader = _module(shards, batch_size=17).loader(training=True)
    first, second = next(iter(loader)), next(iter(loader))
    at = second["key"].index(first["key"][0])
    assert not torch.equal(first["pixel_values"][0], second["pixel_values"][at])


def test_iterating_leaves_the_global_generator_alone(shards: list[ShardRef]) -> None:
    before = torch.get_rng_state()
    list(_module(shards).loader(training=True))
    assert torch.equal(before, torch.get_rng_state())


def test_padding_of_validation_has_nothing_to_measure(shards: list[ShardRef]) -> None:
    last = list(_module(shards, batch_size=10).loader(training=False))[-1]
    assert last["key"][-3:] == ["", "", ""]
    assert not last["valid"][-3:].any()
    assert not last["beyond_range"][-3:].any()
    assert last["present"].tolist() == [True] * 7 + [False] * 3


def test_larger_samples_come_at_the_size_asked_for(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "large.tar", 2, seed=0, height=4 * HEIGHT)
    batch = next(iter(_module([shard], batch_size=2).loader(training=False)))
    assert batch["pixel_values"].shape == (2, 3, HEIGHT, 2 * HEIGHT)
    _, depth_m = box_room(np.random.Generator(np.random.PCG64(0)), 4 * HEIGHT)
    kept = np.unique(np.rint(depth_m[np.isfinite(depth_m)] * 512))
    found = batch["depth_m"][0][batch["valid"][0]] * 512
    assert np.isin(found.numpy(), kept).all()  # depth is picked, never mixed across an edge


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jpg": b"broken"}, "sample k:"),
        ({"depth_png": b"broken"}, "sample k: not a PNG"),
        ({"jpg": None}, "sample k has no jpg"),
        ({"depth_png": None}, r"sample k has no depth\.png"),
    ],
)
def test_a_bad_sample_is_named(change: dict[str, Any], message: str) -> None:
    sample = Stored("k", "labelled", JPEG, encode_depth_png(np.ones((8, 16), np.float32)), 0)
    rgb, units = np.empty((8, 16, 3), np.uint8), np.empty((8, 16), np.uint16)
    decode_into(sample, rgb, units)
    with pytest.raises(ValueError, match=message):
        decode_into(replace(sample, **change), rgb, units)


def test_a_sample_becomes_the_same_whatever_its_batch_its_rank_and_its_worker(shards: list[ShardRef]) -> None:
    """Bit for bit: what is drawn for it, and what a batch makes of it, has to do with nothing else."""
    seen: dict[str, list[torch.Tensor]] = {}
    for batch_size, world_size, num_workers in ((1, 1, 0), (4, 1, 2), (2, 2, 1), (17, 1, 2)):
        for rank in range(world_size):
            module = _module(shards, batch_size=batch_size, num_workers=num_workers)
            for batch in module.loader(training=True, rank=rank, world_size=world_size):
                for key, pixels, depth_m in zip(batch["key"], batch["pixel_values"], batch["depth_m"], strict=True):
                    seen.setdefault(key, []).append(torch.cat([pixels, depth_m[None]]))
    assert len(seen) == 17
    assert min(map(len, seen.values())) >= 2  # what does not fill a batch is left out
    assert all(torch.equal(one, made[0]) for made in seen.values() for one in made)


def test_batches_stand_when_later_ones_are_decoded(shards: list[ShardRef]) -> None:
    """Though they were decoded into memory that is used again."""
    kept = list(_module(shards, num_workers=1).loader(training=True))
    one_by_one = (batch for batch in _module(shards, num_workers=1).loader(training=True))
    assert all(_equal(batch, expected) for batch, expected in zip(kept, one_by_one, strict=True))


def test_a_bad_sample_is_named_and_an_empty_one_takes_its_place(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", 3, seed=0)
    data = Path(shard.url).read_bytes()
    at = data.index(b"\xff\xd8\xff")
    Path(shard.url).write_bytes(data[:at] + bytes(100) + data[at + 100 :])
    first, second, _ = _module([shard], num_workers=1, batch_size=1).loader(training=False)
    assert first["damaged"][0].startswith("sample s-000: ")
    assert not (first["valid"] | first["beyond_range"] | first["present"]).any()
    assert second["damaged"] == []
    assert second["present"].all()
    assert second["valid"].any()


def _two_sources(folder: Path, samples: int) -> list[ShardRef]:
    names = ["sim", "labels"]
    return [write_shard(folder / f"{name}.tar", samples, seed=n, source=name) for n, name in enumerate(names)]


MIXED = {"labels": SourceAugment(strength=0.0, cutmix=0.5)}


def test_cutmix_pastes_images_of_the_same_source_with_their_truth(tmp_path: Path) -> None:
    """With turns alone, every pixel is one of the image itself, or of one other; and so is its distance."""
    shards = [
        write_shard(tmp_path / f"{name}.tar", 12, seed=n, source=name) for n, name in enumerate(["sim", "labels"])
    ]
    module = _module(shards, batch_size=4, augment=0.0, augment_by_source=MIXED)
    plain = {key: rgb for batch in _module(shards, batch_size=24, augment=0.0).loader(training=True)
             for key, rgb in zip(batch["key"], batch["depth_m"], strict=True)}  # fmt: skip
    cut = whole = 0
    for batch in module.loader(training=True):
        for key, source, depth_m, mask in zip(
            *(batch[name] for name in ("key", "source", "depth_m", "cut")), strict=True
        ):
            assert source == "labels" or not mask.any()
            rows = [set(row.tolist()) for row in plain[key]]
            assert all(set(row[~at].tolist()) <= rows[n] for n, (row, at) in enumerate(zip(depth_m, mask, strict=True)))
            if mask.any():
                others = [key for key in plain if key.startswith("labels")
                          and all(set(row[at].tolist()) <= set(of.tolist())
                                  for row, at, of in zip(depth_m, mask, plain[key], strict=True))]  # fmt: skip
                assert others
            cut, whole = cut + bool(mask.any()), whole + (source == "labels")
    assert 2 <= cut <= whole - 2


def test_what_cutmix_pastes_depends_on_no_batch_rank_or_worker(tmp_path: Path) -> None:
    """Bit for bit, also where ranks share batches unevenly; and a loader that goes on makes the same of it."""
    shards = _two_sources(tmp_path, 8)
    seen: dict[str, list[torch.Tensor]] = {}
    for batch_size, world_size, num_workers in ((1, 1, 0), (4, 1, 2), (4, 2, 1), (4, 3, 0)):
        for rank in range(world_size):
            module = _module(shards, batch_size=batch_size, num_workers=num_workers, augment_by_source=MIXED)
            for batch in module.loader(training=True, rank=rank, world_size=world_size):
                for key, *maps in zip(*(batch[n] for n in ("key", "pixel_values", "depth_m", "cut")), strict=True):
                    seen.setdefault(key, []).append(torch.cat([maps[0], maps[1][None], maps[2][None]]))
    assert len(seen.pop("")) == 4 * 2  # places that stay empty
    assert {len(made) for made in seen.values()} == {4}
    assert all(torch.equal(one, made[0]) for made in seen.values() for one in made)
    loader, resumed = (_module(shards, batch_size=4, augment_by_source=MIXED).loader(training=True) for _ in range(2))
    whole = list(loader)
    resumed.sampler.batch = 2
    assert all(torch.equal(one["cut"], other["cut"]) for one, other in zip(resumed, whole[2:], strict=True))


def test_chances_are_even_and_keep_apart() -> None:
    values = np.array([uniform(np.arange(4000), seed, epoch, 0) for seed in (0, 1) for epoch in (0, 1)])
    assert ((values >= 0) & (values < 1)).all()
    assert all(np.histogram(one, 4, (0, 1))[0] == pytest.approx(1000, rel=0.1) for one in values)
    assert abs(np.corrcoef(values) - np.eye(4)).max() < 0.06


def test_an_augmentation_of_a_source_that_is_not_there_is_named(shards: list[ShardRef]) -> None:
    with pytest.raises(ValueError, match=r"augmentation of 'labels': the sources are \['labelled'\]"):
        _module(shards, augment_by_source=MIXED)


def test_joined_columns_are_read_each_from_its_place_and_mixed_by_weights(tmp_path: Path) -> None:
    sets = {}
    for seed, (name, samples) in enumerate([("a", 5), ("b", 7), ("c", 0)]):
        (tmp_path / name).mkdir()
        shard = write_shard(tmp_path / name / f"{name}.tar", samples, seed=seed)
        shards = [shard._replace(url=f"{name}.tar")] if samples else []
        sets[name] = ShardSet(scan_shards(shards, folder=f"{tmp_path / name}/"), folder=f"{tmp_path / name}/")
    whole = joined(list(sets.values()))
    assert whole.sizes == [5, 7]
    for number in range(12):
        one = sets["a"].read(number) if number < 5 else sets["b"].read(number - 5)
        assert replace(whole.read(number), number=0) == replace(one, number=0)
    mixture = mixture_of(sets, {"a": 3, "b": 1, "c": 0})
    module = PanoramaDataModule(whole, whole, image_height=HEIGHT, batch_size=4, num_workers=1, mixture=mixture)
    assert all(sorted(key[0] for key in batch["key"]) == ["a", "a", "a", "b"] for batch in module.loader(training=True))
    with pytest.raises(ValueError, match="c has no sample to train on"):
        mixture_of(sets, {"a": 3, "b": 1, "c": 1})


def test_a_batch_holds_the_mixture_of_its_sources(tmp_path: Path) -> None:
    shards = [write_shard(tmp_path / f"{name}.tar", 6, seed=0, source=name) for name in ("sim", "labels")]
    loader = _module(shards, batch_size=4, mixture={"labels": 3, "sim": 1}, num_workers=1).loader(training=True)
    assert [sorted(batch["source"]) for batch in loader] == [["labels"] * 3 + ["sim"]] * 3
    with pytest.raises(ValueError, match=r"mixture \{'sim': 1\}: needs a weight for each of \['labels', 'sim'\]"):
        _module(shards, mixture={"sim": 1})

"""Selection: the best of each scene over the whole run, whatever the shards, and the same every time."""

import math
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.engine.records.column import ParquetColumn
from dap_engine.engine.records.sample import Row
from dap_engine.stages.ranking.choice import Candidate, Chooser, Diversity, Strata
from dap_engine.stages.select import Select, join_on_key, top_ranked
from tests.runs import FRAMES, Bring, failure, finished, hashes, rows_of

TAGS = ParquetColumn("tags", pa.schema([("scene", pa.string())]))
SCENES = ("indoor", "outdoor", "unsure")
SAMPLES = st.dictionaries(
    st.text("abcdefgh01", min_size=1, max_size=6),
    st.tuples(st.sampled_from(SCENES), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    min_size=1,
    max_size=40,
)

Samples = dict[str, tuple[str, float]]


def columns(shards: dict[str, Samples], round: int | str = 1) -> tuple[Bring, Bring]:
    """Tags and scores of {shard: {key: (scene, score)}}."""
    scores = ParquetColumn(f"scores-{round}", pa.schema([("score", pa.float64())]))
    rows = {shard: sorted(samples.items()) for shard, samples in shards.items()}
    tagged = {shard: [Row(key, {"scene": scene}) for key, (scene, _) in items] for shard, items in rows.items()}
    scored = {shard: [Row(key, {"score": score}) for key, (_, score) in items] for shard, items in rows.items()}
    return Bring(TAGS, tagged), Bring(scores, scored)


def many(count: int = 60) -> Samples:
    """Scores with many ties, every scene as often as the others."""
    return {f"v{n % 4}-{n:03d}": (SCENES[n % 3], (n * 7 % 5) / 5) for n in range(count)}


def split_up(samples: Samples, shards: int) -> dict[str, Samples]:
    return {f"{s:06d}": dict(list(samples.items())[s::shards]) for s in range(shards)}


def expected(samples: Samples, top: dict[str, int]) -> dict[str, tuple[str, int]]:
    """{key: (scene, rank)} by the plainest means."""
    ranked = {scene: sorted((-v, k) for k, (s, v) in samples.items() if s == scene)[:n] for scene, n in top.items()}
    return {key: (scene, rank) for scene, best in ranked.items() for rank, (_, key) in enumerate(best, start=1)}


@given(SAMPLES, st.integers(1, 12), st.randoms())
def test_the_best_are_taken_in_order_whatever_the_order_of_the_rows(samples, count, random):
    shuffled = random.sample(list(samples.items()), len(samples))
    table = pa.table(
        {
            "key": [key for key, _ in shuffled],
            "scene": [scene for _, (scene, _) in shuffled],
            "score": [score for _, (_, score) in shuffled],
        }
    )
    for scene in SCENES:
        chosen = top_ranked(table, scene, count)
        found = {row["key"]: (row["scene"], row["rank"]) for row in chosen.to_pylist()}
        assert found == expected(samples, {scene: count})


@given(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 99)))
def test_what_is_joined_holds_no_more_than_its_rows(left, right):
    def keys(numbers: set[int]) -> pa.Array:
        return pa.array([f"{n:04d}" for n in numbers], pa.string())

    scores = pa.array([n / 100 for n in right], pa.float64())
    joined = join_on_key(pa.table({"key": keys(left)}), pa.table({"key": keys(right), "score": scores}))
    assert {row["key"]: row["score"] for row in joined.to_pylist()} == {f"{n:04d}": n / 100 for n in left & right}
    assert joined.get_total_buffer_size() <= joined.nbytes + 1000


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_quotas_are_per_scene_over_the_whole_run(tmp_path, shards):
    samples, top = many(), {"indoor": 7, "outdoor": 3}
    run = finished(tmp_path, *columns(split_up(samples, shards)), Select(top=top))
    rows = rows_of(run, "selection-1")
    assert {key: (row["scene"], row["rank"]) for key, row in rows.items()} == expected(samples, top)
    assert all(row["score"] == samples[key][1] for key, row in rows.items())


def test_unsure_frames_are_never_selected(tmp_path):
    run = finished(tmp_path, *columns(split_up(many(), 2)), Select())
    scenes = [row["scene"] for row in rows_of(run, "selection-1").values()]
    assert (scenes.count("indoor"), scenes.count("outdoor"), len(scenes)) == (20, 20, 40)


def test_a_shard_keeps_its_own_samples_sorted_even_if_none_is_chosen(tmp_path):
    shards = {"000000": {"a-0": ("indoor", 0.1)}, "000001": {"b-1": ("indoor", 0.8), "b-0": ("indoor", 0.9)}}
    run = finished(tmp_path, *columns(shards), Select(top={"indoor": 2}))
    receipts = run.receipts("selection-1")
    assert {shard: (receipt.samples_in, receipt.samples_out) for shard, receipt in receipts.items()} == {
        "000000": (1, 0),
        "000001": (2, 2),
    }
    assert run.table(receipts["000001"])["key"].to_pylist() == ["b-0", "b-1"]


def test_the_same_bytes_twice(tmp_path):
    once, twice = (finished(tmp_path / name, *columns(split_up(many(), 3)), Select(top={"indoor": 9})) for name in "ab")
    assert hashes(once, "selection-1") == hashes(twice, "selection-1")


def test_a_sample_without_a_tag_is_not_selected(tmp_path):
    tags, scores = columns({"000000": {"a-0": ("indoor", 0.1), "a-1": ("indoor", 0.9)}})
    tags = Bring(TAGS, {"000000": [row for row in tags.rows["000000"] if row.key == "a-0"]})
    assert list(rows_of(finished(tmp_path, tags, scores, Select()), "selection-1")) == ["a-0"]


def test_a_score_that_is_no_number_is_not_the_best(tmp_path):
    shards = {"000000": {"a-0": ("indoor", math.nan), "a-1": ("indoor", 0.2)}}
    assert list(rows_of(finished(tmp_path, *columns(shards), Select(top={"indoor": 1})), "selection-1")) == ["a-1"]


def test_another_round_reads_its_own_scores(tmp_path):
    run = finished(tmp_path, *columns({"000000": {"a-0": ("outdoor", 0.5)}}, round=2), Select(round=2))
    assert list(rows_of(run, "selection-2")) == ["a-0"]


@pytest.mark.parametrize("top", [{}, {"indoor": 3, "outdoor": -1}])
def test_wrong_quotas_are_refused(top):
    with pytest.raises(ValueError, match="top"):
        Select(top=top)


def two_scores() -> tuple[Bring, Bring, Bring]:
    """Two rankers that agree on the best one, and not on the next; their scores are of different sizes."""
    by_one = {"a": ("indoor", 0.9), "b": ("indoor", 0.8), "c": ("indoor", 0.1), "d": ("outdoor", 0.5)}
    by_other = {"a": ("indoor", 0.03), "b": ("indoor", 0.01), "c": ("indoor", 0.02), "d": ("outdoor", 0.9)}
    tags, one = columns({"000000": by_one}, round="1-one")
    return tags, one, columns({"000000": by_other}, round="1-other")[1]


def test_of_several_scores_the_mean_of_the_ranks_counts(tmp_path):
    both = Select(scores={"one": 1, "other": 3}, variant="both", top={"indoor": 2, "outdoor": 1})
    rows = rows_of(finished(tmp_path, *two_scores(), both), "selection-1-both")
    assert {key: (row["rank"], row["score"]) for key, row in rows.items()} == {
        "a": (1, 1.0),
        "c": (2, 0.75 * 0.5),
        "d": (1, 0.0),  # alone in its scene
    }


def test_a_variant_is_selected_by_its_own_scores(tmp_path):
    run = finished(tmp_path, *two_scores(), *(Select(variant=v, top={"indoor": 2}) for v in ("one", "other")))
    assert list(rows_of(run, "selection-1-one")) == ["a", "b"]
    assert list(rows_of(run, "selection-1-other")) == ["a", "c"]


def test_a_weight_is_above_nothing():
    with pytest.raises(ValueError, match="weight"):
        Select(scores={"one": 0.0})


def frames(facts: dict[str, tuple[int, int, float]]) -> Bring:
    """Frames of {key: (shot, hash, brightness)}."""
    rows = [
        Row(key, {"jpg": b"", "json": {"shot": shot, "hash": f"{value:x}", "quality": {"brightness": brightness}}})
        for key, (shot, value, brightness) in sorted(facts.items())
    ]
    return Bring(FRAMES, {"000000": rows})


RANKED = {f"{video}-{n}": ("indoor", 1 - n / 10 - (video == "b") / 100) for n in range(4) for video in "ab"}
"""a-0, b-0, a-1, b-1, … from the best to the worst."""


def chosen(place, *more: Bring, **settings) -> list[str]:
    """Keys from the best on."""
    run = finished(place, *columns({"000000": RANKED}), *more, Select(**settings))
    return [key for key, row in sorted(rows_of(run, "selection-1").items(), key=lambda item: item[1]["rank"])]


def test_at_most_so_many_of_a_video(tmp_path):
    assert chosen(tmp_path, top={"indoor": 5}, diversity=Diversity(max_per_video=2)) == ["a-0", "b-0", "a-1", "b-1"]


def test_at_most_so_many_of_a_shot(tmp_path):
    facts = frames({key: (int(key[-1]) // 2, 0, 0.0) for key in RANKED})
    keys = chosen(tmp_path, facts, top={"indoor": 5}, diversity=Diversity(max_per_shot=1))
    assert keys == ["a-0", "b-0", "a-2", "b-2"]


def test_near_duplicates_of_better_samples_of_the_whole_run_are_passed_over(tmp_path):
    facts = frames({key: (0, 0b11 << 20 * int(key[-1]) | (key[0] == "b"), 0.0) for key in RANKED})
    keys = chosen(tmp_path, facts, top={"indoor": 8}, diversity=Diversity(near_duplicate_bits=2))
    assert keys == ["a-0", "a-1", "a-2", "a-3"]


def test_strata_share_a_quota_evenly_and_leave_what_they_cannot_fill_to_the_best(tmp_path):
    night = {"a-3", "b-3", "b-2"}
    facts = frames({key: (0, 0, 20.0 if key in night else 200.0) for key in RANKED})
    settings = {"strata": Strata("quality.brightness", [60.0])}
    assert chosen(tmp_path / "a", facts, top={"indoor": 4}, **settings) == ["a-0", "b-0", "b-2", "a-3"]
    assert chosen(tmp_path / "b", facts, top={"indoor": 8}, **settings) == list(RANKED)


def test_a_shard_without_samples_breaks_no_rule(tmp_path):
    facts = {key: (0, int(key[-1]), 0.0) for key in RANKED}
    there = Bring(FRAMES, {"000000": [], "000001": frames(facts).rows["000000"]})
    run = finished(
        tmp_path,
        *columns({"000000": {}, "000001": RANKED}),
        there,
        Select(top={"indoor": 9}, diversity=Diversity(near_duplicate_bits=0), strata=Strata("quality.brightness")),
    )
    assert len(rows_of(run, "selection-1")) == 4


def test_rules_that_frames_cannot_answer_fail_in_a_line(tmp_path):
    rows = [Row(key, {"jpg": b"", "json": {"place": "Ulm", "frame_index": 0}}) for key in sorted(RANKED)]
    plain = Bring(FRAMES, {"000000": rows})
    by_hash = Select(diversity=Diversity(near_duplicate_bits=2))
    by_shot = Select(diversity=Diversity(max_per_shot=2))
    by_place = Select(strata=Strata("place", [1.0]))
    steps = [*columns({"000000": RANKED}), plain]
    assert "frame a-0 has no 'hash' in its JSON" in failure(tmp_path / "a", *steps, by_hash)
    assert "frame a-0 has no 'shot' in its JSON" in failure(tmp_path / "s", *steps, by_shot)
    assert "strata: place of frame a-0: 'Ulm' is no number" in failure(tmp_path / "b", *steps, by_place)
    by_name = finished(tmp_path / "c", *steps, Select(strata=Strata("place"), top={"indoor": 3}))
    assert len(rows_of(by_name, "selection-1")) == 3


def test_a_floor(tmp_path):
    assert chosen(tmp_path, top={"indoor": 8}, min_score=0.85) == ["a-0", "b-0", "a-1", "b-1"]


def test_a_quota_that_cannot_be_filled_is_taken_as_it_is_or_fails_before_anything_is_written(tmp_path):
    assert len(chosen(tmp_path / "a", top={"indoor": 9})) == 8
    steps = [*columns({"000000": RANKED}), Select(top={"indoor": 9}, shortfall="fail")]
    assert "indoor: 9 wanted, 8 there" in failure(tmp_path / "b", *steps)
    rules = Select(top={"indoor": 5}, shortfall="fail", diversity=Diversity(max_per_video=2))
    assert "indoor: 5 wanted, 4 left by the rules" in failure(tmp_path / "c", *columns({"000000": RANKED}), rules)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.sampled_from("xyz")), max_size=30),
    st.integers(0, 20),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 4),
)
def test_rules_hold_and_nothing_that_could_be_taken_is_left(items, count, per_video, per_shot):
    candidates = [Candidate(video, shot, 0, stratum) for video, shot, stratum in items]
    numbers = Chooser(Diversity(per_video, per_shot)).choose(candidates, count)
    taken = [candidates[number] for number in numbers]
    videos, shots = Counter(c.video_id for c in taken), Counter((c.video_id, c.shot) for c in taken)
    assert len(taken) <= count
    assert max(videos.values(), default=0) <= (per_video or 30)
    assert max(shots.values(), default=0) <= (per_shot or 30)
    if len(taken) < count:
        for number in set(range(len(candidates))) - set(numbers):
            one = candidates[number]
            full = videos[one.video_id] >= (per_video or 31) or shots[one.video_id, one.shot] >= (per_shot or 31)
            assert full

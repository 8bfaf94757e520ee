"""Finding videos: wherever they are named, with ids that stay when the folder moves."""

import io
import re
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from dap_engine.engine.records.keys import check_key
from dap_engine.engine.steps.step import UnreachableError
from dap_engine.engine.storage.place import Place
from dap_engine.engine.storage.storage import Storage, StorageError
from dap_engine.stages.footage.fetch import open_place
from dap_engine.stages.footage.listing import Video, find_videos

PATHS = st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1), min_size=1, max_size=3)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.mp4", "a.MOV", "deep/er/a.mp4", "my trip #1 (50%).mkv"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "videos" / "notes.txt").write_text("no video")
    (tmp_path / "videos" / "folder.mp4").mkdir()
    return tmp_path / "videos"


def relatives(source) -> set[str]:
    return {video.relative for video in find_videos(str(source))}


@given(PATHS, PATHS)
def test_an_id_is_a_key_and_tells_paths_apart(one, other):
    first, second = (Video("", "/".join(parts), 0) for parts in (one, other))
    assert check_key(f"{first.video_id}-{99_999_999:08d}")
    assert (first.video_id == second.video_id) == (one == other)


def test_an_id_shows_the_file_s_name_but_not_where_it_is():
    video = Video("/somewhere/x", "day 1/my.trip (final).mp4", 7)
    assert re.fullmatch(r"my-trip-final-[0-9a-f]{10}", video.video_id)
    assert Video("s3://elsewhere/x", video.relative, 9).video_id == video.video_id


def test_a_folder_is_searched_to_its_depth_and_sorted_by_id(folder):
    found = find_videos(str(folder))
    assert {video.relative: video.bytes for video in found} == {
        name: len(name) for name in ("b.mp4", "a.MOV", "deep/er/a.mp4", "my trip #1 (50%).mkv")
    }
    assert [video.video_id for video in found] == sorted(video.video_id for video in found)
    assert all(video.uri.startswith(str(folder)) for video in found)


def test_ids_stay_when_the_folder_moves(folder, tmp_path):
    before = [video.video_id for video in find_videos(str(folder))]
    moved = folder.rename(tmp_path / "archive")
    assert [video.video_id for video in find_videos(str(moved))] == before


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", {"b.mp4"}),
        ("b*", {"b.mp4"}),
        ("**/*.mp4", {"b.mp4", "deep/er/a.mp4"}),
        ("*", {"b.mp4", "a.MOV", "my trip #1 (50%).mkv"}),
    ],
)
def test_a_glob_finds_the_videos_under_their_ids_in_the_folder(folder, pattern, expected):
    assert relatives(folder / pattern) == expected


def test_a_glob_in_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert relatives("*.mp4") == {"b.mp4"}


def test_a_file_alone(folder):
    assert relatives(folder / "b.mp4") == {"b.mp4"}


@pytest.mark.parametrize("suffix", ["txt", "parquet"])
def test_a_list_names_videos_beside_it_and_uris_and_keeps_what_is_not_there(folder, suffix):
    entries = ["b.mp4", "deep/er/a.mp4", "gone.mp4", "s3://bucket/far.mp4", "b.mp4"]
    path = folder / f"list.{suffix}"
    if suffix == "txt":
        path.write_text("# ours\r\n\r\n" + "\r\n".join(entries))
    else:
        pq.write_table(pa.table({"uri": entries, "title": entries}), path)
    found = {video.relative: video for video in find_videos(str(path))}
    assert set(found) == set(entries)
    assert found["b.mp4"].uri == str(folder / "b.mp4")
    assert found["s3://bucket/far.mp4"].uri == "s3://bucket/far.mp4"
    assert (found["b.mp4"].bytes, found["gone.mp4"].bytes) == (5, -1)
    assert found["deep/er/a.mp4"].video_id in {video.video_id for video in find_videos(str(folder))}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such file or folder"),
        ("nowhere.txt", "No such file"),
        ("nowhere/*.mp4", "holds no video"),
        ("empty", "holds no video"),
        ("broken.parquet", "Parquet"),
        ("other.parquet", "no column 'uri'"),
        ("nosuch://bucket/x", "nosuch"),
        ("file:///nowhere/at/all", "/nowhere/at/all"),
    ],
)
def test_no_videos_is_one_clear_line(tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    pq.write_table(pa.table({"path": ["x.mp4"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=f"^videos: .*{message}") as caught:
        find_videos(source if "://" in source else str(tmp_path / source))
    assert "\n" not in str(caught.value)


def test_videos_in_an_object_store_open_by_their_uri(folder, s3_uri):
    filesystem, root = fs.FileSystem.from_uri(s3_uri)
    fs.copy_files(str(folder), f"{root}/videos", destination_filesystem=filesystem)
    base, _, options = s3_uri.partition("?")
    found = find_videos(f"{base}/videos/?{options}")
    assert [video.video_id for video in found] == [video.video_id for video in find_videos(str(folder))]
    for video in found:
        with open_place(Place.parse(video.uri)) as stream:
            assert stream.read() == video.relative.encode()


def test_file_uris_open_whatever_the_name(folder):
    found = find_videos(folder.as_uri())
    assert [video.video_id for video in found] == [video.video_id for video in find_videos(str(folder))]
    for video in found:
        with open_place(Place.parse(video.uri)) as stream:
            assert stream.read() == video.relative.encode()


def test_linked_folders_are_searched_and_a_circle_is_not(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far.mp4").write_bytes(b"far")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "deep" / "back").symlink_to(folder)
    (folder / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    before = {"b.mp4", "a.MOV", "deep/er/a.mp4", "my trip #1 (50%).mkv"}
    assert relatives(folder) == before | {"linked/far.mp4"}


def test_a_time_of_writing_is_known_where_there_is_a_listing(folder, s3_uri):
    filesystem, root = fs.FileSystem.from_uri(s3_uri)
    fs.copy_files(str(folder), f"{root}/videos", destination_filesystem=filesystem)
    base, _, options = s3_uri.partition("?")
    for source in (str(folder), str(folder / "*.mp4"), f"{base}/videos?{options}"):
        assert all(video.mtime_ns > 10**18 for video in find_videos(source)), source


def test_one_object_by_its_uri(folder, s3_uri):
    filesystem, root = fs.FileSystem.from_uri(s3_uri)
    fs.copy_files(str(folder / "b.mp4"), f"{root}/b.mp4", destination_filesystem=filesystem)
    base, _, options = s3_uri.partition("?")
    (video,) = find_videos(f"{base}/b.mp4?{options}")
    assert (video.relative, video.bytes) == ("b.mp4", 5)


def test_a_parquet_list_is_believed_as_far_as_it_makes_sense(tmp_path):
    uris = [f"s3://bucket/{n}.mp4" for n in range(4)]
    told = {"uri": uris, "seconds": [12.5, -1.0, float("nan"), None], "bytes": [7, None, -3, 9]}
    pq.write_table(pa.table(told), tmp_path / "list.parquet")
    found = {video.uri: (video.seconds, video.bytes) for video in find_videos(str(tmp_path / "list.parquet"))}
    assert [found[uri] for uri in uris] == [(12.5, 7), (None, -1), (None, -1), (None, 9)]


ODD_KEYS = ["with space.mp4", "ünï/日本.mp4", "a+b.mp4", "50%25.mp4", "what?.mp4", "a#b.mp4", "x?v=1&y=.mp4"]


@pytest.mark.parametrize("kind", ["folder", "list.txt", "list.parquet", "relative.txt"])
def test_keys_of_a_store_are_literal_in_folders_and_in_lists_there(s3_uri, kind):
    storage, root = Storage(s3_uri), Place.parse(s3_uri)
    for key in ODD_KEYS:
        storage.write_bytes(f"videos/{key}", key.encode())
    source = root.below("videos")
    if kind != "folder":
        entries = ODD_KEYS if kind == "relative.txt" else [str(source.below(key)) for key in ODD_KEYS]
        table = io.BytesIO()
        pq.write_table(pa.table({"uri": entries}), table)
        data = table.getvalue() if kind.endswith("parquet") else "\n".join(entries).encode()
        storage.write_bytes(f"videos/{kind}", data)
        source = source.below(kind)
    found = find_videos(str(source))
    contents = set()
    for video in found:
        with open_place(Place.parse(video.uri)) as stream:
            contents.add(stream.read().decode())
    assert contents == set(ODD_KEYS)
    assert len(found) == len(ODD_KEYS)


def test_other_files_of_a_store_are_told(s3_uri):
    for name in ("a.mp4", "b.insv", "c.insv"):
        Storage(s3_uri).write_bytes(name, b"x")
    notes = []
    assert len(find_videos(s3_uri, notes)) == 1
    assert [note.split(": ", 1)[1] for note in notes] == [
        "2 files are no videos, or of kinds that are not read: 2 .insv"
    ]


def test_what_is_named_twice_is_one_video(folder):
    (folder / "link.mp4").symlink_to(folder / "b.mp4")
    assert relatives(folder) == {"b.mp4", "a.MOV", "deep/er/a.mp4", "my trip #1 (50%).mkv"}
    names = ["./b.mp4", "b.mp4", "deep/../b.mp4", str(folder / "b.mp4"), (folder / "b.mp4").as_uri(), "link.mp4"]
    for order in (names, names[::-1]):
        (folder / "list.txt").write_text("\n".join(order))
        assert relatives(folder / "list.txt") == {"b.mp4"}


@pytest.mark.parametrize("line", ["s3://", "s3://bucket/a.mp4?region=eu&typo=1", "file://elsewhere/a.mp4"])
def test_an_entry_that_names_nothing_is_told_with_file_and_line(folder, line):
    (folder / "list.txt").write_text(f"b.mp4\n\n{line}\n")
    with pytest.raises(ValueError, match=r"^videos: .*list\.txt: line 3: "):
        find_videos(str(folder / "list.txt"))


@pytest.mark.parametrize("scheme", ["https", "ftp", "hf"])
def test_what_is_not_fetched_here_is_said_at_once(scheme):
    with pytest.raises(UnreachableError, match=f"{scheme}:// is not read: fetch it"):
        find_videos(f"{scheme}://example.org/a.mp4")


def test_a_store_that_does_not_answer_costs_one_try(monkeypatch):
    """One attempt for the first, none for those that follow: it is not a wait a file."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.setenv(name, "true")  # else they are asked for on the network
    began_s = time.monotonic()
    options = "scheme=http&endpoint_override=127.0.0.1:9"
    with pytest.raises(UnreachableError, match="onnect"):
        find_videos(f"s3://bucket/videos?{options}")
    for number in range(100):
        with pytest.raises(StorageError, match="onnect"):
            open_place(Place.parse(f"s3://bucket/{number}.mp4?{options}"))
    assert time.monotonic() - began_s < 5

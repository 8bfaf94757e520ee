"""Places: one parser of paths and URIs, whose keys are literal."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dap_engine.engine.storage.place import OPTIONS, Place
from dap_engine.engine.storage.storage import Storage, StorageError

ODD = st.sampled_from(
    ["?", "#", "%", "%20", "+", " ", "//", "&", "=", "?scheme=http", "?region=x", "ü", "日", "@", ":"]
)
KEYS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=3) | ODD, min_size=1, max_size=5).map(
    "".join
)
VALUES = st.text("abc:.-_0", min_size=1, max_size=5)
IN_NAMES = st.characters(exclude_characters="/", exclude_categories=["Cc", "Cs", "Cn"])
NAMES = st.text(IN_NAMES, min_size=1, max_size=8)


@given(st.sampled_from(sorted(OPTIONS)), KEYS, st.data())
def test_a_uri_that_is_written_is_read_as_the_same_place(scheme, key, data):
    options = data.draw(st.dictionaries(st.sampled_from(sorted(OPTIONS[scheme])), VALUES, max_size=2))
    place = Place(f"{scheme}://bucket", key, "&".join(f"{name}={value}" for name, value in options.items()))
    read = Place.parse(str(place))
    assert (read.root, read.path) == (place.root, place.path)
    assert read.options == place.options or (not place.options and read.options == "scheme=https")


@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name))
def test_a_path_that_is_written_is_read_as_the_same_place(name):
    path = os.path.normpath(os.fsdecode(b"/data/" + name)).replace("//", "/")
    written = str(Place("", path))
    assert Place.parse(written) == Place("", path)
    written.encode()
    assert Place.parse(Path(path).as_uri()) == Place("", path)


@pytest.mark.parametrize(
    ("uri", "root", "path", "options"),
    [
        ("s3://bucket/my trip/50%25 #1.mp4", "s3://bucket", "my trip/50%25 #1.mp4", ""),
        ("s3://bucket/what?.mp4?region=eu&scheme=http", "s3://bucket", "what?.mp4", "region=eu&scheme=http"),
        ("s3://bucket/a?v=1", "s3://bucket", "a?v=1", ""),
        ("s3://bucket?region=eu", "s3://bucket", "", "region=eu"),
        ("S3://bucket//a//b", "s3://bucket", "/a//b", ""),
        ("s3://me:secret@bucket/a", "s3://me:secret@bucket", "a", ""),
        ("gs://bucket/a?region=eu", "gs://bucket", "a?region=eu", ""),
        ("file:///my%20trip/caf%E9?.mp4", "", "/my trip/caf\udce9?.mp4", ""),
        ("2024-01-01T10:00:00.mp4", "", "2024-01-01T10:00:00.mp4", ""),
        ("what?.mp4", "", "what?.mp4", ""),
        ("s3:/no/uri", "", "s3:/no/uri", ""),
    ],
)
def test_what_is_key_and_what_are_options(uri, root, path, options):
    assert Place.parse(uri) == Place(root, path, options)


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "file://elsewhere/a", "s3://bucket/a?region=eu&typo=1"])
def test_what_names_nothing_is_refused(uri):
    with pytest.raises(ValueError, match=r"bucket|this machine|typo"):
        Place.parse(uri)


def test_parents_and_what_lies_below():
    assert str(Place.parse("s3://b/x/y?region=eu").parent) == "s3://b/x?region=eu"
    assert str(Place.parse("s3://b/x").parent.below("z")) == "s3://b/z"
    assert [str(Place.parse(path).parent) for path in ("/a/b", "/a", "a/b", "a")] == ["/a", "/", "a", "."]
    assert [str(Place.parse(path).below("c")) for path in ("/a/", "/", "a", ".")] == ["/a/c", "/c", "a/c", "./c"]


def test_secrets_are_not_public():
    assert Place.parse("s3://me:secret@bucket/a@b").public == "s3://bucket/a@b"


@settings(max_examples=30)
@given(name=NAMES, folder=NAMES)
@example(name="with space.mp4", folder="a+b")
@example(name="50%25.mp4", folder="50%")
@example(name="what?.mp4", folder="x?region=eu")
@example(name="a#b", folder="ü日😀")
@pytest.mark.slow
def test_any_name_comes_back_on_a_disk_and_on_a_store(s3_endpoint, bucket, name, folder):
    """What is put under a key is found, listed and read under that key, as the URI of an object and below a folder."""
    if name in (".", "..") or folder in (".", ".."):
        return
    options = f"endpoint_override={s3_endpoint}&scheme=http"
    with tempfile.TemporaryDirectory() as disk:
        for place in (Place("", disk), Place(f"s3://{bucket}", uuid4().hex, options)):
            below = place.below(folder)
            Storage(str(below)).write_bytes(name, name.encode())
            assert Storage(str(below)).list("") == {name: len(name.encode())}
            assert Storage(str(place)).list("") == {f"{folder}/{name}": len(name.encode())}
            assert Storage(str(place)).read_bytes(f"{folder}/{name}") == name.encode()
            address = Place.parse(Storage(str(below)).address(name))
            with Storage(str(address.parent)).open(address.name) as stream:
                assert stream.read() == name.encode()


@pytest.fixture(scope="module")
def bucket(s3_endpoint):
    from pyarrow import fs

    name = f"places-{uuid4().hex[:8]}"
    fs.S3FileSystem(endpoint_override=s3_endpoint, scheme="http", allow_bucket_creation=True).create_dir(name)
    return name


@pytest.mark.parametrize("key", ["a//b", "/a", "a/../b", "./a"])
def test_a_key_that_would_be_taken_for_another_is_refused(s3_uri, key):
    with pytest.raises(StorageError, match=r"cannot be read|outside"):
        Storage(s3_uri).read_bytes(key)
    with pytest.raises(StorageError, match="cannot be read"):
        Storage(str(replace(Place.parse(s3_uri), path=key))).list("")

import io
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from dap_engine.engine.records.column import FolderColumn, ParquetColumn, TarColumn
from dap_engine.engine.records.keys import ColumnError
from dap_engine.engine.records.rows import merge_on_key, read_rows
from dap_engine.engine.records.sample import Row
from dap_engine.engine.records.tar import index_tar

KEYS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,60}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)
ROWS = st.dictionaries(
    KEYS, st.tuples(st.binary(max_size=2000), st.dictionaries(st.text(max_size=5), JSON)), max_size=8
)


def write(column, rows: list[Row]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        writer = column.writer(Path(folder))
        for row in rows:
            writer.add(row)
        return writer.finish().read_bytes()


@given(ROWS)
def test_tar_round_trip_and_equal_bytes(rows):
    rows = [Row(key, {"bin": data, "json": info}) for key, (data, info) in sorted(rows.items())]
    data = write(TarColumn("x", ("bin", "json")), rows)
    assert list(read_rows("x.tar", io.BytesIO(data))) == rows
    assert write(TarColumn("x", ("json", "bin")), rows) == data


@given(st.dictionaries(KEYS, st.floats(allow_nan=False), max_size=20))
def test_parquet_round_trip_and_equal_bytes(values):
    column = ParquetColumn("x", pa.schema([("score", pa.float64())]))
    rows = [Row(key, {"score": value}) for key, value in sorted(values.items())]
    data = write(column, rows)
    assert [(row.key, row.fields["score"]) for row in read_rows("x.parquet", io.BytesIO(data))] == sorted(
        values.items()
    )
    assert write(column, rows) == data


def test_tar_is_a_webdataset_shard_with_neutral_headers(tmp_path):
    data = write(TarColumn("x", ("jpg", "json")), [Row("a", {"jpg": b"1", "json": {"n": 1}})])
    (tmp_path / "0.tar").write_bytes(data)
    (sample,) = webdataset.WebDataset(str(tmp_path / "0.tar"), shardshuffle=False)
    assert (sample["__key__"], sample["jpg"], sample["json"]) == ("a", b"1", b'{"n":1}')
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "../a", "a b", "é", "x" * 201, "-a", "a\0"])
def test_odd_keys_are_refused(key):
    with pytest.raises(ColumnError, match="key"):
        write(TarColumn("x", ("txt",)), [Row(key, {"txt": b""})])


@pytest.mark.parametrize("second", ["a", "b"])
def test_keys_must_rise(second):
    with pytest.raises(ColumnError, match="rise"):
        write(TarColumn("x", ("txt",)), [Row("b", {"txt": b""}), Row(second, {"txt": b""})])


def test_a_shuffled_column_takes_keys_in_any_order_but_once():
    column = TarColumn("x", ("txt",), shuffled=True)
    assert write(column, [Row("b", {"txt": b""}), Row("a", {"txt": b""})])
    with pytest.raises(ColumnError, match="twice"):
        write(column, [Row("b", {"txt": b""}), Row("b", {"txt": b""})])


def test_missing_field_is_refused():
    with pytest.raises(ColumnError, match="fields"):
        write(TarColumn("x", ("jpg", "json")), [Row("a", {"jpg": b""})])


@pytest.mark.parametrize("fields", [{}, {"means": 1.0}, {"mean": 1.0, "more": 2.0}])
def test_a_row_that_does_not_fit_the_schema_is_refused(fields):
    column = ParquetColumn("x", pa.schema([("mean", pa.float64())]))
    assert write(column, [Row("a", {"mean": 1.0})])
    with pytest.raises(ColumnError, match=r"a: has fields \[.*\], the column \['mean'\]"):
        write(column, [Row("a", fields)])


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a b.txt"])
def test_tar_path_tricks_are_refused(name):
    with pytest.raises(ColumnError):
        list(read_rows("x.tar", io.BytesIO(foreign_tar(tarfile.TarInfo(name)))))


def test_links_in_a_tar_are_refused():
    link = tarfile.TarInfo("a.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(ColumnError, match="member"):
        list(read_rows("x.tar", io.BytesIO(foreign_tar(link))))


def foreign_tar(member: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(member, io.BytesIO())
    return buffer.getvalue()


def test_truncated_tar_is_refused():
    data = write(TarColumn("x", ("txt",)), [Row("a", {"txt": b"x" * 5000}), Row("b", {"txt": b"y" * 5000})])
    with pytest.raises(ColumnError, match="broken tar"):
        list(read_rows("x.tar", io.BytesIO(data[:7000])))


def test_garbage_parquet_is_refused():
    with pytest.raises(ColumnError, match="broken parquet"):
        list(read_rows("x.parquet", io.BytesIO(b"PAR1 no")))


def test_index_points_at_the_bytes():
    rows = [Row(f"k{i}", {"txt": bytes([65 + i]) * (i * 300)}) for i in range(5)]
    data = write(TarColumn("x", ("txt",)), rows)
    members = list(index_tar(io.BytesIO(data)))
    assert [(m.key, data[m.offset : m.offset + m.bytes]) for m in members] == [(r.key, r.fields["txt"]) for r in rows]


def test_folder_column_writes_one_file_a_field(tmp_path):
    writer = FolderColumn("x").writer(tmp_path)
    writer.add(Row("a", {"mp4": b"1", "truth.tar": b"2"}))
    folder = writer.finish()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.mp4": b"1", "a.truth.tar": b"2"}


@given(st.lists(st.sets(KEYS, max_size=12), min_size=1, max_size=3))
def test_merge_is_the_intersection_in_order(columns):
    streams = {str(n): iter([Row(key, {"of": n}) for key in sorted(keys)]) for n, keys in enumerate(columns)}
    merged = list(merge_on_key(streams))
    assert [key for key, _ in merged] == sorted(set.intersection(*columns))
    assert all(fields[str(n)] == {"of": n} for _, fields in merged for n in range(len(columns)))


def test_merge_refuses_a_stream_that_does_not_rise():
    rows = [Row("b", {}), Row("a", {})]
    with pytest.raises(ColumnError, match="rise"):
        list(merge_on_key({"x": iter(rows), "y": iter([Row("a", {}), Row("b", {})])}))

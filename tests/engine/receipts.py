"""Receipts made up for tests: of any content, or of a column that looks finished."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import strategies as st

from dap_engine.engine.rundir.listing import receipt_path
from dap_engine.engine.rundir.receipts import Basis, Receipt
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.storage import Output

_TEXT = st.text(max_size=8)
_COUNT = st.integers(0, 2**63 - 1)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_SETTINGS = st.dictionaries(_TEXT, _JSON, max_size=3)
_HASH = st.binary(min_size=32, max_size=32).map(bytes.hex)
_ASSETS, _INPUTS = (st.dictionaries(_TEXT, hashes, max_size=3) for hashes in (_TEXT, _HASH))
_OUTPUTS = st.builds(Output, _TEXT, _HASH, _COUNT)

bases = st.builds(Basis, _TEXT, _COUNT, _SETTINGS, _SETTINGS, _ASSETS, _INPUTS)


def receipts_of(column: str, shard: str) -> st.SearchStrategy[Receipt]:
    """Receipts of one shard, of whatever content."""
    return st.builds(
        Receipt,
        st.just(column),
        st.just(shard),
        bases,
        _OUTPUTS,
        _COUNT,
        _COUNT,
        st.dictionaries(_TEXT, _COUNT, max_size=3),
        st.none() | _OUTPUTS,
        st.floats(0, 1e9),
        _COUNT,
    )


def receipt(column: str, shard: str, number: int = 0, **values: Any) -> Receipt:
    """A receipt that differs from others by its number alone; all of them are equally long."""
    basis = Basis("made-up", 1, {"number": f"{number:04d}"}, {}, {}, {})
    output = Output(f"{column}/{shard}.tar", f"{number:064d}", 1)
    return Receipt(column, shard, basis, output, **{"samples_in": 1, "samples_out": 1, **values})


def put(run: RunDir, made: Receipt, at_s: int | None = None) -> None:
    """Writes a receipt; on a disk, as if by a clock that shows `at_s` seconds."""
    path = receipt_path(made.column, made.shard)
    run.storage.write_bytes(path, made.to_bytes())
    if at_s is not None:
        os.utime(run.storage.locate(path), ns=(at_s * 10**9, at_s * 10**9))

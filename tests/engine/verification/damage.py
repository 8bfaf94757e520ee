"""Ways to damage a run, for the tests of `dap verify`: by hand, or with receipts that were made to fit."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dap_engine.engine.records.column import Column
from dap_engine.engine.records.sample import Row
from dap_engine.engine.rundir.listing import receipt_path
from dap_engine.engine.rundir.receipts import Receipt
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.storage import Output


def flip_byte(run: RunDir, path: str, place: int) -> None:
    """Turns over the bits of one byte of an object."""
    data = bytearray(run.storage.read_bytes(path))
    data[place] ^= 0xFF
    run.storage.write_bytes(path, bytes(data))


def cut(run: RunDir, path: str, size: int) -> None:
    """Keeps only the first bytes of an object."""
    run.storage.write_bytes(path, run.storage.read_bytes(path)[:size])


def receipt_of(run: RunDir, column: str, shard: str) -> Receipt:
    receipt = run.receipt(column, shard)
    assert receipt is not None
    return receipt


def forge_receipt(run: RunDir, column: str, shard: str, **changes: Any) -> Receipt:
    """Changes fields of a receipt, or of its basis, in such a way that nobody could tell from the receipt itself."""
    receipt = receipt_of(run, column, shard)
    of_basis = {
        name: changes.pop(name) for name in list(changes) if name in {f.name for f in dataclasses.fields(receipt.basis)}
    }
    forged = dataclasses.replace(receipt, basis=dataclasses.replace(receipt.basis, **of_basis), **changes)
    run.storage.write_bytes(receipt_path(column, shard), forged.to_bytes())
    return forged


def forge_output(run: RunDir, column: str, shard: str, data: bytes, **changes: Any) -> None:
    """Replaces an output, and makes its receipt fit."""
    path = receipt_of(run, column, shard).output.path
    run.storage.write_bytes(path, data)
    output = Output(path, hashlib.sha256(data).hexdigest(), len(data))
    forge_receipt(run, column, shard, output=output, **changes)


def encode(column: Column, rows: Sequence[Row], folder: Path) -> bytes:
    """A shard's bytes, as the engine writes them."""
    writer = column.writer(folder)
    for row in rows:
        writer.add(row)
    return writer.finish().read_bytes()

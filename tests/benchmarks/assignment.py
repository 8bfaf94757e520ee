"""The assignment of samples to training shards, at two sizes: its time and memory, from tables alone."""

import multiprocessing
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from dap_engine.engine.records.tar import FACTS, PLACE
from dap_engine.engine.rundir.members import members_path
from dap_engine.engine.rundir.receipts import Basis, Receipt
from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.storage import Output
from dap_engine.stages.packing.assignment import make_assignment
from dap_engine.stages.packing.sources import Source, origins
from tests.benchmarks.measure import Result

SIZES = (200, 2_000)  # source shards
SAMPLES = 1_000  # of each
_SOURCE = Source("frames", "labels-1", "selection-1")
_COLUMNS = {"frames": ("jpg", "json"), "labels-1": ("depth.png", "json"), "selection-1": ()}


def benchmark(_: int) -> Iterator[Result]:
    """Each size once, in a process of its own; every sample is selected."""
    costs = [_cost(shards) for shards in SIZES]
    (small_s, _small), (large_s, _large_mib) = costs
    seconds, peaks = (" / ".join(f"{cost[part]:.0f}" for cost in costs) for part in (0, 1))
    ratio = large_s / small_s * SIZES[0] / SIZES[1]
    figures = f"{seconds} s for 0.2 M / 2 M samples; peak of the process {peaks} MiB; local disk, measured once"
    target = "≤ 1.2; 600 s, 1536 MiB"
    yield Result(
        "assignment of 2,000 shards of 1,000 samples", "time a shard at 200 shards", f"{ratio:.2f}", target, figures
    )


def _cost(shards: int) -> tuple[float, float]:
    with TemporaryDirectory() as folder:
        for work in (_pretend, _assign):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                cost = process.submit(work, folder, shards).result()
    return cost


def _pretend(folder: str, shards: int) -> tuple[float, float]:
    """Writes the tables of tars that are not there, and selections."""
    for shard in range(shards):
        keys = [f"video{shard * 4 + n // 250:06d}abcdef0123-{n % 250:06d}" for n in range(SAMPLES)]
        for column, fields in _COLUMNS.items():
            receipt = _receipt(column, f"{shard:06d}")
            place = members_path(column, receipt.shard, receipt.output.sha256) if fields else receipt.output.path
            (Path(folder) / place).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(_table(keys, fields), Path(folder) / place, compression="zstd")
    return 0.0, 0.0


def _table(keys: list[str], fields: tuple[str, ...]) -> pa.Table:
    columns: dict[str, pa.Array] = {"key": pa.array(keys)}
    if fields:
        columns |= {fact: pa.array(["train"] * len(keys)) for fact in FACTS}
    for number, field in enumerate(fields):
        places = [{"offset": 512 + 300_000 * n + 200_000 * number, "bytes": 150_000 + n} for n in range(len(keys))]
        columns[field] = pa.array(places, PLACE)
    return pa.table(columns)


def _receipt(column: str, shard: str) -> Receipt:
    suffix = ".tar" if _COLUMNS[column] else ".parquet"
    output = Output(f"{column}/{shard}{suffix}", f"{int(shard):064x}"[::-1], 1)
    return Receipt(column, shard, Basis("s", 1, {}, {}, {}, {}), output, SAMPLES, SAMPLES)


def _assign(folder: str, shards: int) -> tuple[float, float]:
    names = [f"{shard:06d}" for shard in range(shards)]
    inputs = {column: {name: _receipt(column, name) for name in names} for column in _COLUMNS}
    started = time.perf_counter()
    samples, assigned = make_assignment(
        RunDir(folder),
        list(origins(inputs, _SOURCE)),
        Path(folder) / "deal.parquet",
        splits=["train", "val"],
        per_shard=1000,
        seed=0,
    )
    if samples != assigned or assigned != shards * SAMPLES:
        raise RuntimeError(f"{assigned} of {samples} samples were assigned")
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

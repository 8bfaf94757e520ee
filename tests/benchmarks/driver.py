"""Does the driver grow while a run goes on? Thousands of trivial shards on Ray, three stages."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.measure import Result
from tests.engine.napping import command

SHARDS = 2000
LOOK_EVERY_S = 1.0
PARTS = (0.1, 0.5, 1.0)  # of all receipts


def benchmark(_: int) -> Iterator[Result]:
    """Measured once, by the system's count of the driver's resident memory."""
    with TemporaryDirectory() as folder:
        started_s = time.perf_counter()
        looks = _resident_mib_by_receipts(folder)
        rate = 3 * SHARDS / (time.perf_counter() - started_s)
    most = max(looks)
    part_mib = [next(mib for receipts, mib in looks.items() if receipts >= part * most) for part in PARTS]
    figures = " / ".join(f"{mib:.0f}" for mib in part_mib)
    yield Result(
        f"driver of a run on Ray, {SHARDS:,} trivial shards through three stages: memory at its end",
        f"memory after {100 * PARTS[0]:.0f} % of the receipts",
        f"{part_mib[-1] / part_mib[0]:.2f}",
        "≤ 1.1",
        f"{figures} MiB after {' / '.join(f'{100 * part:.0f}' for part in PARTS)} % of them;"
        f" {rate:.0f} receipts/s, start-up included",
    )


def _resident_mib_by_receipts(folder: str) -> dict[int, float]:
    with subprocess.Popen(command(folder, f"count.total_shards={SHARDS}")) as driver:
        looks: dict[int, float] = {}
        while driver.poll() is None:
            if resident := _resident_bytes(driver.pid):
                looks[_receipts(folder)] = resident / 2**20
            time.sleep(LOOK_EVERY_S)
    if driver.returncode:
        raise RuntimeError(f"the run ended with {driver.returncode}")
    return looks


def _receipts(folder: str) -> int:
    columns = (Path(folder, "receipts", name) for name in ("numbers", "products", "sums"))
    return sum(len(os.listdir(column)) for column in columns if column.exists())


def _resident_bytes(pid: int) -> int:
    """0 once the process has ended."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

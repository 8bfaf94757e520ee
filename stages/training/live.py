"""What a training shows while it runs: figures as CSV and for TensorBoard, pictures, the best models. Appended to."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...engine.storage.storage import Entry, Storage
from ...models.training.validation import LOWER_IS_BETTER

_METRICS = "metrics.csv"
_LINES = ".jsonl"
_BEST, _FIGURES = "best", "validation.json"


class LiveFolder:
    """A folder of a storage; that of an object store is kept in a local folder, and copied when it is flushed.

    A training that goes on after `step` steps finds what was written up to there, and nothing of later steps.
    """

    def __init__(self, storage: Storage, path: str, step: int) -> None:
        self._storage, self._path = storage, path
        self._copied: dict[str, Entry] = {}
        if step == 0:
            storage.delete_all(path)
        if storage.is_local:
            self._folder = Path(storage.locate(path))
            self._folder.mkdir(parents=True, exist_ok=True)
        else:
            self._temporary = tempfile.TemporaryDirectory()
            self._folder = Path(self._temporary.name)
            self._fetch()
        for name in storage.list(path):
            if (of := _step_of(name)) is not None and of > step:
                self._delete("/".join(name.split("/")[:2]))
        for file in self._folder.glob(f"*{_LINES}"):
            lines = file.read_text().rpartition("\n")[0].splitlines()
            file.write_text("".join(line + "\n" for line in lines if json.loads(line)["step"] < step))
        self._writers = [MetricsCsv(self._folder / _METRICS, step), TensorBoard(self._folder, step)]

    def _fetch(self) -> None:
        """What is appended to."""
        for name in self._storage.list(self._path):
            if name == _METRICS or name.endswith(_LINES):
                (self._folder / name).write_bytes(self._storage.read_bytes(f"{self._path}/{name}"))

    def add(self, figures: Mapping[str, float], step: int) -> None:
        """Adds figures of a step, in any number of calls before the next one."""
        for writer in self._writers:
            writer.add(figures, step)

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds a line of JSON to a file; `row` has a `step`."""
        with (self._folder / name).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def write(self, name: str, data: bytes) -> None:
        """Writes a whole file, such as a picture."""
        self._storage.write_bytes(f"{self._path}/{name}", data)

    def flush(self) -> None:
        """Writes down everything so far."""
        for writer in self._writers:
            writer.flush()

    def upload(self) -> None:
        """Copies to an object store what has changed: whole files, so not every few seconds."""
        if self._storage.is_local:
            return
        for file in (path for path in self._folder.rglob("*") if path.is_file()):
            entry, name = Entry(file.stat().st_size, file.stat().st_mtime_ns), file.relative_to(self._folder).as_posix()
            if self._copied.get(name) != entry:
                self._storage.write_bytes(f"{self._path}/{name}", file.read_bytes())
                self._copied[name] = entry

    def close(self) -> None:
        """Flushes for the last time."""
        for writer in self._writers:
            writer.close()
        self.upload()
        if not self._storage.is_local:
            self._temporary.cleanup()

    def keep_best(
        self, save: Callable[[Path], object], step: int, figures: Mapping[str, float], by: str, keep: int
    ) -> None:
        """Keeps what `save` writes if it is one of the `keep` best so far, in place of one that is not any more."""
        there = {name: json.loads(self._storage.read_bytes(f"{self._path}/{name}"))[by] for name in self._kept()}
        ranked = sorted([*there.values(), figures[by]], reverse=by not in LOWER_IS_BETTER)[:keep]
        if figures[by] in ranked:
            with self._storage.scratch() as scratch:
                save(scratch / "model")
                (scratch / "model" / _FIGURES).write_text(json.dumps(figures, indent=1) + "\n")
                self._storage.publish(scratch / "model", f"{self._path}/{_BEST}/step-{step:06d}")
        for name, value in there.items():
            if value not in ranked:
                self._delete(str(Path(name).parent))

    def _delete(self, name: str) -> None:
        """Deletes a file, or a folder."""
        self._storage.delete_all(f"{self._path}/{name}")
        shutil.rmtree(self._folder / name, ignore_errors=True)  # an object store has no empty folders
        (self._folder / name).unlink(missing_ok=True)

    def _kept(self) -> list[str]:
        return [f"{_BEST}/{name}" for name in self._storage.list(f"{self._path}/{_BEST}") if name.endswith(_FIGURES)]


def _step_of(name: str) -> int | None:
    """The step in the name of a picture or of a kept model."""
    kind, _, rest = name.partition("/step-")
    digits = rest.split("/")[0].split(".")[0]
    return int(digits) if kind in ("images", _BEST) and digits.isdigit() else None


class MetricsCsv:
    """A row a step, a column a figure; appended to, but for a new column, for which the file is written anew."""

    def __init__(self, path: Path, step: int) -> None:
        self._path, self._pending = path, dict[str, Any]()
        rows = self._rows() if path.exists() else []
        self._columns = list(rows[0]) if rows else ["step"]
        self._replace([row for row in rows if int(row["step"]) <= step])

    def _rows(self) -> list[dict[str, Any]]:
        """All that are whole: a kill may leave a part of one."""
        return list(csv.DictReader(self._path.read_text().rpartition("\n")[0].splitlines()))

    def _replace(self, rows: list[dict[str, Any]]) -> None:
        unfinished = self._path.with_name(f".{self._path.name}")
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        unfinished.write_text(text.getvalue())
        unfinished.replace(self._path)
        self._file = self._path.open("a", newline="")

    def add(self, figures: Mapping[str, float], step: int) -> None:
        if self._pending.get("step", step) != step:
            self._write()
        self._pending |= {"step": step, **{name: f"{value:.6g}" for name, value in figures.items()}}

    def _write(self) -> None:
        row, self._pending = self._pending, {}
        if not row:
            return
        if new := [name for name in row if name not in self._columns]:
            self._file.close()
            self._columns += new
            self._replace(self._rows())
        csv.DictWriter(self._file, self._columns, lineterminator="\n").writerow(row)

    def flush(self) -> None:
        self._write()
        self._file.flush()

    def close(self) -> None:
        self.flush()
        self._file.close()


class TensorBoard:
    """Scalars as TensorBoard reads them; of a training that goes on, it passes over what it was told of later steps."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def add(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

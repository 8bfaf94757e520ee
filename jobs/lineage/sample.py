"""Where a sample comes from and where it went: from a frame back to its video, and forth to the models it taught.

Nothing is searched that need not be: a video's shard is found in the plan, training shards through their assignments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, TypeVar

from ...engine.rundir.lineage import drop_rows, find_row, find_rows, first_key, followers
from ...engine.rundir.receipts import Receipt
from ...engine.rundir.rundir import RunDir
from ...stages.packing.assignment import assigned_rows, packed_columns
from ..errors import UsageError
from .weights import Weights

Document = dict[str, Any]
_ABOVE_ALL_KEYS = "\x7f"
_THREADS = 16
_LABELLED, _PACKED = "labelled-", "train-"
_PLACES = {"tag": "tags", "label": "labels", "fuse-scale": "labels", "score": "scores", "select": "selections"}
"""Where the rows of steps are found in a document; of the rest, among the others."""


@dataclass(frozen=True)
class SampleLineage:
    """Answers for the samples of one run, in plain values for JSON."""

    run: RunDir

    def of(self, key: str) -> Document:
        """All that is known of a frame, of a labelled panorama, or of a whole video.

        Raises:
            UsageError: the run has no such sample.
        """
        if (planned := self._planned(key)) is None:
            return self._of_panorama(key)
        video, receipt = planned
        made = list(followers(self.run, receipt).values())[1:]  # the plan itself comes first
        return self._of_video(video, made) if key == video["video_id"] else self._of_frame(key, video, "frames", made)

    def _planned(self, key: str) -> tuple[Document, Receipt] | None:
        """The planned video that a key is, or begins with, and the receipt of its shard."""
        names = sorted({key, key.rpartition("-")[0] or key})

        def look(receipt: Receipt) -> list[Document]:
            rows = find_rows(self.run, receipt, names[0], names[-1])
            return [{"video_id": video_id, **row} for video_id, row in rows if video_id in names]

        receipts = list(self.run.receipts("plan").values())
        found = (
            (receipt, videos[-1]) for receipt, videos in zip(receipts, _all(look, receipts), strict=True) if videos
        )
        receipt, video = next(found, (None, {}))
        return ({**video, **_place(receipt)}, receipt) if receipt else None

    def _of_frame(self, key: str, video: Document | None, column: str, made: list[Receipt]) -> Document:
        """A frame of a video, or of a column that comes from none."""
        entries = self._entries(key, made)
        names = {key, video["video_id"] if video else key}
        drops = self._drops(made, lambda dropped: dropped in names)
        if not entries and not drops:
            raise UsageError(f"no sample {key!r} in {self.run.uri}: its video is known, but has no such frame")
        frames = [entry for entry in entries if entry["column"] == column]
        rest = [entry for entry in entries if entry["column"] != column]
        told = {place: [entry for entry in rest if _PLACES.get(entry["step"]) == place] for place in _PLACES.values()}
        return {
            "key": key,
            "kind": "frame",
            "video": video,
            "frame": next(iter(frames), None),
            "tag": next(iter(told["tags"]), None),
            "labels": told["labels"],
            "scores": told["scores"],
            "selections": told["selections"],  # none: there was no selection, or the frame was not selected
            "others": [entry for entry in rest if entry["step"] not in _PLACES],
            "drops": drops,
            **self._taught(key, key),
        }

    def _of_video(self, video: Document, made: list[Receipt]) -> Document:
        first, last = f"{video['video_id']}-", f"{video['video_id']}-{_ABOVE_ALL_KEYS}"
        taught = self._taught(first, last)
        frames = [
            {"key": key, "frame_index": row["json"]["frame_index"], "timestamp_s": row["json"]["timestamp_s"]}
            for receipt in made
            if receipt.basis.step == "extract"
            for key, row in find_rows(self.run, receipt, first, last)
        ]
        drops = self._drops(made, lambda dropped: dropped == video["video_id"] or dropped.startswith(first))
        return {"key": video["video_id"], "kind": "video", "video": video, "frames": frames, "drops": drops, **taught}

    def _of_panorama(self, key: str) -> Document:
        taught = self._taught(key, key)
        if taught["training"]:
            image = PurePosixPath(taught["training"][0]["image"])
            holder = self.run.receipt(image.parts[0], image.stem)
        else:
            holder = self._holder(key)
        if holder is None and not taught["training"]:
            if drops := self._drops(self.run.receipts("plan").values(), lambda dropped: dropped == key):
                return {"key": key, "kind": "video", "drops": drops, **taught}  # a video that was never planned
            raise UsageError(f"no sample {key!r} in {self.run.uri}: no video of the plan has it, and no other column")
        if holder and not holder.column.startswith(_LABELLED):
            return self._of_frame(key, None, holder.column, list(followers(self.run, holder).values()))
        present = [holder] if holder else []
        panorama = next(iter(self._entries(key, present)), None)
        drops = self._drops(present, lambda dropped: dropped == key)
        return {"key": key, "kind": "labelled", "panorama": panorama, "drops": drops, **taught}

    def _holder(self, key: str) -> Receipt | None:
        """The shard of panoramas that come from no video which holds a key, or dropped it.

        Keys rise: the likeliest are seen first.
        """
        columns = [column for column in self.run.columns() if not column.startswith(_PACKED)]
        there = (receipt for column in columns for receipt in self.run.receipts(column).values())
        receipts = [receipt for receipt in there if not receipt.basis.inputs and receipt.output.path.endswith(".tar")]
        begins = _all(lambda receipt: first_key(self.run, receipt), receipts)
        near = [(begin, receipt) for begin, receipt in zip(begins, receipts, strict=True) if begin <= key]
        for _, receipt in sorted(near, key=lambda pair: pair[0], reverse=True):
            if find_row(self.run, receipt, key):
                return receipt
        dropping = (receipt for receipt in receipts if self._drops([receipt], lambda dropped: dropped == key))
        return next(dropping, None)

    def _entries(self, key: str, receipts: Sequence[Receipt]) -> list[Document]:
        """What each of some shards says of a sample."""
        rows = _all(lambda receipt: find_row(self.run, receipt, key), receipts)
        return [self._entry(receipt, row) for receipt, row in zip(receipts, rows, strict=True) if row]

    def _entry(self, receipt: Receipt, row: Document) -> Document:
        basis, column = receipt.basis, receipt.column
        made = {"step": basis.step, "version": basis.version, "fingerprint": receipt.fingerprint}
        made["weights"] = self._weights.behind(column, basis)
        number = {"round": basis.settings["round"]} if "round" in basis.settings else {}
        return {**_place(receipt), **made, **number, **row.pop("json", {}), **row}

    def _drops(self, receipts: Iterable[Receipt], wanted: Callable[[str], bool]) -> list[Document]:
        return [
            {"column": receipt.column, "shard": receipt.shard, **row}
            for receipt in receipts
            for row in drop_rows(self.run, receipt)
            if wanted(row["key"])
        ]

    def _taught(self, first: str, last: str) -> Document:
        """The training shards that hold samples from one key to another, and the models that learned from them."""
        training = [
            {
                "key": row["key"],
                "column": column,
                "shard": row["shard"],
                "object": f"{column}/{row['shard']}.tar",
                "split": row["shard"].rpartition("-")[0],
                "source": row["source"],
                "image": row["jpg"]["path"],
            }
            for column in packed_columns(self.run)
            for row in assigned_rows(self.run, column, first, last)
        ]
        parts = sorted({(entry["column"], entry["split"]) for entry in training})
        return {"training": training, "models": [model for part in parts for model in self._models_on(*part)]}

    def _models_on(self, column: str, split: str) -> list[Document]:
        """The models that used a split of a packed column: `current` if it is still in the state they used."""
        learned = {name: it for name, it in self._weights.models.items() if column in it.basis.inputs}
        now = self.run.receipts(column).digest if learned else ""
        return [
            {
                "name": name,
                "step": receipt.basis.step,
                "sha256": receipt.output.sha256,
                "column": column,
                "split": split,
                "current": receipt.basis.inputs[column] == now,
            }
            for name, receipt in learned.items()
        ]

    @cached_property
    def _weights(self) -> Weights:
        return Weights(self.run)


def _place(receipt: Receipt) -> Document:
    return {"column": receipt.column, "shard": receipt.shard, "object": receipt.output.path}


_Result = TypeVar("_Result")


def _all(look: Callable[[Receipt], _Result], receipts: Sequence[Receipt]) -> list[_Result]:
    """A look at each of some shards, several at once."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(look, receipts))

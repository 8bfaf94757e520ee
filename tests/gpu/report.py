"""The measurements as they come: printed, and kept as JSON and as a Markdown table after each of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Figure = float | int | str | None


@dataclass(frozen=True)
class Measurement:
    """What was measured, and its figures by name and unit; None is left out of the table."""

    what: str
    figures: Mapping[str, Figure]


@dataclass
class Report:
    """Everything measured so far, by section."""

    folder: Path
    machine: dict[str, Any]
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, section: str, measurement: Measurement) -> None:
        entry = {"what": measurement.what, **measurement.figures}
        self._section(section)["measurements"].append(entry)
        print(f"{section}: {measurement.what}: {shown(measurement.figures)}", flush=True)
        self._write()

    def note(self, section: str, **notes: Any) -> None:
        """What is said of a section as a whole: its seconds, an error, why it was left out."""
        self._section(section).update(notes)
        print(f"{section}: {shown({name: note for name, note in notes.items() if name != 'traceback'})}", flush=True)
        self._write()

    @property
    def failed(self) -> list[str]:
        """The sections in which something raised."""
        return [
            name
            for name, section in self.sections.items()
            if "error" in section or any("error" in entry for entry in section["measurements"])
        ]

    def table(self) -> str:
        rows = [("section", "measured", "figures"), ("---", "---", "---")]
        for name, section in self.sections.items():
            for entry in section["measurements"]:
                rows.append((name, entry["what"], shown({key: entry[key] for key in entry if key != "what"})))
            rows += [(name, kind, str(section[kind])) for kind in ("error", "left out") if kind in section]
        machine = "\n".join(f"- {name}: {value}" for name, value in self.machine.items())
        return machine + "\n\n" + "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows) + "\n"

    def _section(self, name: str) -> dict[str, Any]:
        return self.sections.setdefault(name, {"measurements": []})

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        document = json.dumps({"machine": self.machine, "sections": self.sections}, indent=1, ensure_ascii=False)
        for name, text in (("gpu.json", document), ("gpu.md", self.table())):
            partial = self.folder / f"{name}.partial"
            partial.write_text(text)
            partial.replace(self.folder / name)


def shown(figures: Mapping[str, Figure]) -> str:
    """`12.3 panoramas/s, 4.5 GiB`: numbers before their units, words after their names."""
    return ", ".join(
        f"{name}: {value}" if isinstance(value, str) else f"{_number(value)} {name}"
        for name, value in figures.items()
        if value is not None
    )


def _number(value: float) -> str:
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")

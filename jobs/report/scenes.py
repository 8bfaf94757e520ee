"""Scenes for the 360° viewer: the samples worth a look first, then others, as long as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import simplejpeg

from .pictures import scene_document, script_of
from .progress import tracked
from .run_data import RunData
from .samples import Fact, Samples
from .site import Site

MOST_BYTES = 12_000_000  # of all scenes of a report
_AT_ONCE = 32


@dataclass
class Scenes:
    """Writes scenes while there is room; `keys` are those written, in their order."""

    site: Site
    keys: list[str] = field(default_factory=list)
    _bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room left."""
        return self._bytes >= MOST_BYTES

    def add(self, key: str, jpg: bytes, maps: dict[str, bytes], facts: Sequence[Fact]) -> bool:
        """Writes a scene of a JPEG and of depth PNGs by name; False if there is no room left."""
        if self.is_full:
            return False
        document = scene_document(key, simplejpeg.decode_jpeg(jpg, "RGB"), maps, facts)
        script = script_of("dapScene", document).encode()
        self.site.write(f"scenes/{key}.js", script)
        self._bytes += len(script)
        self.keys.append(key)
        return True

    def add_frames(self, data: RunData, samples: Samples, keys: Sequence[str]) -> None:
        """Frames with their labels."""
        labels = [name for name, _ in samples.of_column("labels-")]
        order = [key for key in dict.fromkeys(keys) if key not in samples.scenes]
        for start in tracked("360° scenes", range(0, len(order), _AT_ONCE)):
            some = order[start : start + _AT_ONCE]
            pictures = data.pictures(some)
            maps = {name: data.fields(name, "depth.png", some) for name in labels}
            for key in some:
                of_key = {name: found[key] for name, found in maps.items() if key in found}
                if self.add(key, pictures[key], of_key, samples.facts(key)):
                    samples.scenes.add(key)
            if self.is_full:
                return


def others(samples: Samples) -> list[str]:
    """A frame of each video, then all, the first of them far apart."""
    keys = list(samples.frames)
    digits = max(len(keys) - 1, 1).bit_length()
    far_apart = sorted(range(len(keys)), key=lambda number: f"{number:0{digits}b}"[::-1])
    return [*(frames[len(frames) // 2].key for frames in samples.by_video.values()), *(keys[n] for n in far_apart)]

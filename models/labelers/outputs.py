"""What a depth model gives, and so what may be done with it.

    metric-depth         metres
    relative-depth       depth up to an unknown scale and shift: a·d + b (Marigold)
    relative-disparity   inverse depth up to scale and shift: a/d + b (MiDaS, relative Depth Anything)

Relative outputs have no metres: they can be measured once they are aligned to the truth, but are no labels.
"""

from typing import Literal, get_args

from ..metrics.alignment import Alignment

Output = Literal["metric-depth", "relative-depth", "relative-disparity"]
OutputSetting = Literal["auto", "metric-depth", "relative-depth", "relative-disparity"]
OUTPUT_SETTINGS: tuple[OutputSetting, ...] = get_args(OutputSetting)

METRIC: Output = "metric-depth"
_ALIGNMENTS: dict[Output, tuple[Alignment, ...]] = {
    "metric-depth": ("none", "median", "scale-shift"),
    "relative-depth": ("scale-shift",),
    "relative-disparity": ("disparity",),
}


def check_output(model: str, given: Output, wanted: OutputSetting) -> Output:
    """What a model is known to give; ValueError if the setting contradicts that."""
    if wanted not in ("auto", given):
        raise ValueError(f"{model} gives {given}: its output cannot be {wanted}")
    return given


def check_alignment(model: str, output: Output, alignment: Alignment) -> None:
    """ValueError if what a model gives cannot be measured under an alignment."""
    allowed = _ALIGNMENTS[output]
    if alignment not in allowed:
        what = "" if output == METRIC else ", which has no metres"
        raise ValueError(f"{model} gives {output}{what}: the alignment must be {' or '.join(allowed)}, not {alignment}")


def check_metric(model: str, output: Output) -> None:
    """ValueError unless a model gives metres."""
    if output != METRIC:
        raise ValueError(
            f"{model} gives {output}, which has no metres: it can be evaluated with alignment, but not label"
        )

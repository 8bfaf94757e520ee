from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from dap_engine.engine.planning.setting_meanings import settings_of, settings_text


@dataclass
class Inner:
    rate: float = 5e-6  # of learning
    kind: Literal["a", "b"] = "a"
    """Which of
    the two."""


@dataclass
class Outer:
    steps: int  # how many
    inner: Inner = field(default_factory=Inner)
    weights: Mapping[str, float] = field(default_factory=dict)
    start: Annotated[str, "asset"] | None = None
    whatever: list[Any] = field(default_factory=list)


@dataclass
class Derived(Outer):
    model: str = ""


def test_settings_say_their_types_defaults_and_meanings():
    assert [tuple(setting) for setting in settings_of(Derived, without={"model"})] == [
        ("steps", "int", "required", "how many"),
        ("inner.rate", "float", "5.0e-06", "of learning"),
        ("inner.kind", "a or b", "a", "Which of the two."),
        ("weights", "mapping[str, float]", "{}", ""),
        ("start", "str or none", "null", ""),
        ("whatever", "list[any]", "[]", ""),
    ]
    assert (
        settings_text(Inner)
        == "  rate: float = 5.0e-06\n      of learning\n  kind: a or b = a\n      Which of the two."
    )

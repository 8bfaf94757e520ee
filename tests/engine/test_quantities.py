import pytest

from dap_engine.engine.quantities import duration, hours, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.0354, "35.4 ms"),
        (2.54, "2.5 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3599.7, "1 h"),
        (11520, "3 h 12 min"),
        (86390, "1 d"),
        (200000, "2 d 8 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (18.4 * 2**20, "18 MiB"),
        (1.4 * 2**40, "1.4 TiB"),
        (2**71, "2048 EiB"),
    ],
)
def test_sizes(count, words):
    assert size(count) == words


def test_hours():
    assert [hours(41.3), hours(2.54), hours(0.00312)] == ["41", "2.5", "0.0031"]

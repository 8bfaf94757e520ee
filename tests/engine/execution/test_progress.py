"""What a run shows while it goes on: bars on a terminal, lines elsewhere."""

import io
import time

from rich.console import Console

from dap_engine.engine.execution.progress import Progress
from dap_engine.engine.steps.outcome import Outcome


def done(node, shard, **counts):
    return Outcome(node, "column", shard, "done", samples_in=10, samples_out=8, seconds=1.0, **counts)


def shown(terminal, every_s=0.05):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=160, force_interactive=terminal)
    return Progress(console, every_s), text


def test_lines_come_also_while_nothing_ends():
    progress, text = shown(terminal=False)
    progress.start("tag", 4, 1, {"new": 2, "put back": 1}, by_shard=True)
    progress.update(done("tag", "0001", drops={"bad_image": 2}))
    while text.getvalue().count("tag: 2/4 shards") < 2:
        time.sleep(0.05)
    progress.finish("tag")
    lines = text.getvalue().splitlines()
    assert lines[0] == "tag: 3 of 4 to do (new 2; put back 1)"
    between = [line for line in lines if line.startswith("tag: 2/4 shards, 8 samples, ")]
    assert len(between) >= 2
    assert all("2 dropped" in line and line.endswith(" left") for line in between)
    assert lines[-1].startswith("tag: 8 samples, ")
    time.sleep(0.15)
    assert text.getvalue().splitlines() == lines


def test_a_terminal_shows_a_bar_with_rate_drops_and_time_left():
    progress, text = shown(terminal=True)
    progress.start("tag", 4, 0, {"new": 4}, by_shard=True)
    for shard in ("0000", "0001"):
        progress.update(done("tag", shard, drops={"bad_image": 2}))
        time.sleep(0.2)
    progress.finish("tag")
    assert "━" in text.getvalue()
    assert "2/4" in text.getvalue()
    assert "4 dropped" in text.getvalue()
    assert "/s" in text.getvalue()


def test_a_barrier_shows_neither():
    progress, text = shown(terminal=False)
    progress.start("train", 1, 0, {"new": 1}, by_shard=False)
    time.sleep(0.2)
    progress.log("train", "step 10 of 20")
    progress.finish("train")
    assert text.getvalue() == "train: 1 of 1 to do (new)\ntrain: step 10 of 20\n"

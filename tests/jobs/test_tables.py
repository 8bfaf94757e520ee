"""Tables and verdicts on a terminal of 80 columns, and where another program reads them."""

import json

import pytest
from rich.table import Table

from dap_engine.jobs.tables import show_table

LONG = "/data/footage/2024-[spring]/a-very-long-name-of-a-folder/panorama-of-the-old-town.mp4"


@pytest.fixture(params=["terminal", "pipe"])
def where(request, monkeypatch):
    if request.param == "terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "80")
    return request.param


def table(columns, cell):
    shown = Table(*(f"column {n}" for n in range(columns)), title="what [bold] is shown")
    for row in range(3):
        shown.add_row(*(f"{cell}{row}.{n}" for n in range(columns)))
    return shown


def plain(text):
    return "".join(part.partition("m")[2] if number else part for number, part in enumerate(text.split("\x1b[")))


@pytest.mark.parametrize("columns", [3, 29])
@pytest.mark.parametrize("cell", ["", LONG, "[/red]"])
def test_nothing_is_lost_of_a_table(capsys, where, columns, cell):
    show_table(table(columns, cell))
    text = plain(capsys.readouterr().out)
    for row in range(3):
        for n in range(columns):
            assert f"{cell}{row}.{n}" in text
    assert "[bold]" in text
    if where == "pipe":
        assert sum(f"{cell}1." in line for line in text.splitlines()) == 1
    elif not cell:
        assert max(map(len, text.splitlines())) <= 80


def test_a_verdict_is_a_line(dap_here, where, picture, tmp_path):
    broken = tmp_path / "[red]broken.jpg"
    broken.write_bytes(b"no picture")
    lines = plain(dap_here("try", "horizon", picture, broken).stdout).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"valid    {picture}: level, roll ")
    assert lines[1].startswith(f"invalid  {broken}: unreadable")
    (entry, _) = json.loads(dap_here("try", "horizon", picture, broken, "--json").stdout)
    said = plain(dap_here("try", "horizon", picture, broken, "--verbose").stdout)
    assert all(name in said for name in entry)

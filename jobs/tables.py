"""Tables for people: whole on a terminal of any width, and a row a line where another program reads them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

_ENDLESS = 100_000  # columns of what is no terminal: nothing is cut or wrapped


def people_console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is: names of files may hold brackets, which rich takes for styles."""
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _ENDLESS
    return console


def show_table(table: Table, *, stderr: bool = False) -> None:
    """Prints a table; a row under the other, a line a value, where its words do not fit beside each other."""
    console = people_console(stderr=stderr)
    if console.measure(table, options=console.options.update(width=_ENDLESS)).minimum > console.width:
        _show_rows(table, console)
    else:
        console.print(table)


def _show_rows(table: Table, console: Console) -> None:
    names = [str(column.header) for column in table.columns]
    width = max(map(len, names))
    if table.title:
        console.print(str(table.title), style="italic", soft_wrap=True)
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for name, value in zip(names, row, strict=True):
            console.print(Text(f"{name:>{width}}  ", style="bold") + Text(str(value)), soft_wrap=True)
        console.print()

"""`make bench`: ratios of our work to a named reference, measured in one run; one table, and BENCHMARKS.md."""

import argparse
from pathlib import Path

from rich.console import Console

from tests.benchmarks.measure import Result
from tests.benchmarks.subjects import SUBJECTS, measure
from tests.benchmarks.table import describe_machine, document, show


def main() -> None:
    """Measures the named subjects and prints the table."""
    arguments = _parse()
    machine = describe_machine()
    progress, results = Console(stderr=True), list[Result]()
    for subject in arguments.subjects or SUBJECTS:
        progress.print(f"measuring {subject} …")
        results += measure(subject, arguments.repeats)
    show(results, machine)
    if arguments.out:
        arguments.out.write_text(document(results, machine, arguments.repeats))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"some of: {', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--repeats", type=int, default=3, help="counted rounds, default 3")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the table as Markdown")
    arguments = parser.parse_args()
    if unknown := set(arguments.subjects) - set(SUBJECTS):
        parser.error(f"unknown subject {min(unknown)!r}; there are {', '.join(SUBJECTS)}")
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    return arguments


if __name__ == "__main__":
    main()

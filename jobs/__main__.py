"""The command line: `dap COMMAND …`. Each command is a module of `commands/` with `add_arguments` and `main`."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from importlib import import_module

from ..engine.execution.placement import ClusterError, ResourceError
from ..engine.planning.recipe import RecipeError
from ..engine.records.keys import ColumnError
from ..engine.rundir.holder import HeldError
from ..engine.steps.barrier import BarrierError
from ..engine.steps.outcome import cause_line
from ..engine.storage.faults import cause
from ..models.support.model_checks import ModelOutputError
from .errors import EXIT_FAILED, EXIT_USAGE, UsageError
from .interruption import interruptible

_COMMANDS = {
    "run": "run a recipe, or resume it",
    "submit": "run a recipe as a job of a Ray cluster, or resume it",
    "plan": "say what a recipe would run, and why",
    "status": "count shards, samples and drops of every column",
    "verify": "check every receipt against every output",
    "retry": "put dropped or failed work of a column back, and do it",
    "lineage": "from a training sample back to its video, from a model back to its data",
    "report": "a run as a static site, with pictures and a 360° viewer",
    "publish": "a model or a packed column with a card, to a folder or the hub",
    "try": "one stage on loose images or videos, without a run directory",
    "simulate": "render labelled panoramas and 360° videos",
    "train": "train a depth model on packed shards",
    "evaluate": "measure a model on a data set",
    "predict": "predict the depth of panoramas",
    "convert": "turn the published DAP weights into a model folder",
}
_MODULES = {"try": "try_stage"}  # `try` is a word of the language


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 wrong usage or recipe, 3 some shards failed."""
    if argv is None:
        _use_utf8()
        argv = sys.argv[1:]
    parser = argparse.ArgumentParser(prog="dap", description="Data engine and training of Depth Any Panoramas.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((word for word in argv if not word.startswith("-")), "")
    for name, summary in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == asked:  # only its module is imported
            module = import_module(f".commands.{_MODULES.get(name, name)}", __package__)
            module.add_arguments(command)
            command.set_defaults(main=module.main)
    arguments = parser.parse_args(argv)
    _prepare_streams()
    with interruptible(arguments.command) as interruption:
        try:
            code = _run(arguments)
        except KeyboardInterrupt as error:
            return interruption.report(str(error))
        except SystemExit:  # a library's answer to an interrupt
            if not interruption.number:
                raise
        return interruption.report() if interruption.number else code


def _run(arguments: argparse.Namespace) -> int:
    try:
        code = arguments.main(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (UsageError, RecipeError, ResourceError, HeldError) as error:
        print(f"dap {arguments.command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (OSError, ClusterError, BarrierError, ModelOutputError) as error:
        print(f"dap {arguments.command}: {_in_one_line(error)}", file=sys.stderr)
        return EXIT_FAILED
    except ColumnError as error:
        print(f"dap {arguments.command}: {error} (dap verify tells more)", file=sys.stderr)
        return EXIT_FAILED


def _in_one_line(error: Exception) -> str:
    try:
        os.getcwd()
    except FileNotFoundError:
        return f"the folder that it was started in is gone ({error})"
    if isinstance(error, OSError) and error.errno and error.filename and not error.filename2:
        return f"{os.fsdecode(error.filename)}: {cause(error)}"
    return cause_line(str(error)) if isinstance(error, OSError) else str(error)  # a loader's worker sends its traceback


def _use_utf8() -> None:
    """Begins anew where the locale has another encoding: names of files, and ids made of them, do not depend on it."""
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # for the workers, too
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _prepare_streams() -> None:
    """A closed stream takes what is printed and drops it; names that the terminal cannot show are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the life of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())

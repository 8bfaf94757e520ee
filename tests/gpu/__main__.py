"""`make gpu`: what the project does on one GPU, measured in at most 8 minutes. Needs neither Ray nor a video decoder.

Leaves gpu.json and gpu.md in a folder, both whole after every measurement. Exits 1 if a section failed.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("torch", "transformers", "lightning", "torchmetrics", "cv2", "simplejpeg", "pyarrow", "webdataset", "rich")
PROJECT = "dap_engine"


def main() -> int | str:
    """Measures; returns the exit code, or the one line that says why nothing can be measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), metavar="DIR", help="default: runs/gpu")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on a CPU too: does the script still work?")
    parser.add_argument("--minutes", type=float, default=7.5, help="sections that do not fit in are left out")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="default: all")
    arguments = parser.parse_args()
    if missing := [name for name in (*NEEDED, PROJECT) if find_spec(name) is None]:
        return f"python -m tests.gpu: cannot import {', '.join(missing)}"
    import torch

    if not (arguments.tiny or torch.cuda.is_available()):
        return f"python -m tests.gpu: torch {torch.__version__} sees no CUDA device (--tiny measures on the CPU)"
    from tests.gpu.sections import SECTIONS, measure

    if unknown := set(arguments.sections) - SECTIONS.keys():
        parser.error(f"no section {min(unknown)!r}; there are {', '.join(SECTIONS)}")
    return measure(arguments.sections or list(SECTIONS), arguments.out, arguments.minutes, tiny=arguments.tiny)


if __name__ == "__main__":
    sys.exit(main())

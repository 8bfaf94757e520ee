"""`dap convert`: the published DAP weights as a model folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...models.network.published import load_published
from ..errors import EXIT_DONE, UsageError
from ..output import output_folder, write_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("file", metavar="FILE", help="the published state dict (.pth or .safetensors)")
    parser.add_argument("--out", required=True, metavar="DIR", help="the model folder to write")


def main(arguments: argparse.Namespace) -> int:
    """Writes config.json, model.safetensors and preprocessor_config.json."""
    if not Path(arguments.file).is_file():
        raise UsageError(f"{arguments.file}: no such file")
    try:
        model = load_published(arguments.file)
    except ValueError as error:
        raise UsageError(str(error)) from error
    out = output_folder(arguments.out)
    write_folder(out, model.save_pretrained)
    backbone = model.config.backbone
    shape = f"{backbone.num_hidden_layers} blocks of width {backbone.hidden_size}"
    print(f"{arguments.file}: {shape}, {model.num_parameters():,} parameters -> {out}", file=sys.stderr)
    return EXIT_DONE

"""Makes `import torchvision` work beside a CPU build of torch.

The torchvision wheel of the package registry is a CUDA build. Beside a CPU torch its C extension does not load, and
`import torchvision` then fails with "operator torchvision::nms does not exist", because its Python part registers
shape functions for operators that are not defined. lightning, torchmetrics, transformers and qwen_vl_utils import
torchvision whenever it is installed, so they fail too.
"""

from importlib.machinery import PathFinder
from importlib.util import find_spec

import torch

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def register_missing_operators() -> None:
    """Define torchvision's operator schemas when torchvision is installed and its extension does not load.

    Call it before the first import of anything that imports torchvision. The schemas carry no kernel: calling
    `torchvision.ops.nms` raises NotImplementedError. Idempotent; does nothing where torchvision is absent or works.
    """
    torchvision = find_spec("torchvision")
    if torchvision is None or _is_registered("nms") or _loads_extension(torchvision.submodule_search_locations):
        return
    for name, schema in _SCHEMAS.items():
        if not _is_registered(name):
            torch.library.define(f"torchvision::{name}", schema)


def _is_registered(name: str) -> bool:
    return hasattr(torch.ops.torchvision, name)


def _loads_extension(search_path: list[str] | None) -> bool:
    """Load torchvision's own operators, as its import would; false where they do not fit this torch."""
    extension = PathFinder.find_spec("_C", search_path or [])
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return _is_registered("nms")

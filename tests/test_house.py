"""The rules of the house: rooms, who may import whom, where Ray lives, and what the distribution installs."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = "dap_engine"
MAY_IMPORT = {
    "engine": {"engine"},
    "models": {"models"},
    "stages": {"stages", "engine", "models"},
    "jobs": {"jobs", "stages", "engine", "models"},
}
MOST_FILES = 15  # of a room, its __init__.py left out
TORCH_AND_PICTURES = {"torch", "decord", "av", "cv2", "transformers", "lightning"}


def sources(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    """The name of a file below the package: `engine/storage/scratch.py` is `engine.storage.scratch`."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for folder in MAY_IMPORT for path in sources(folder)}


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """What a file imports, those for type checking and inside functions too: ours below the package, others whole."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix(f"{PACKAGE}.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _base(path, node)
            found |= {name if (name := f"{base}.{alias.name}") in MODULES else base for alias in node.names}
    return frozenset(found - {module_of(path)})


def _base(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return (node.module or "").removeprefix(f"{PACKAGE}.")
    here = path.relative_to(REPOSITORY).parent.parts
    return ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])


def heads(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def room_of(module: str) -> str:
    """The folder that a file lies in."""
    return module if (REPOSITORY / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_go_one_way(folder):
    for path in sources(folder):
        ours = heads(path) & {*MAY_IMPORT, "tests", "infra"}
        assert ours <= MAY_IMPORT[folder], f"{path} imports {ours - MAY_IMPORT[folder]}"


def test_no_file_imports_itself_in_a_circle():
    arrows = {module: imports(path) & MODULES.keys() for module, path in MODULES.items()}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_no_room_imports_itself_in_a_circle():
    arrows: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        rooms = {room_of(name) for name in imports(path) & MODULES.keys()}
        arrows.setdefault(room_of(module), set()).update(rooms - {room_of(module)})
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of rooms: {' -> '.join(error.args[1])}")


def test_no_room_is_crowded():
    rooms: dict[str, list[str]] = {}
    for path in MODULES.values():
        if path.name != "__init__.py":
            rooms.setdefault(str(path.parent.relative_to(REPOSITORY)), []).append(path.name)
    crowded = {room: len(files) for room, files in rooms.items() if len(files) > MOST_FILES}
    assert not crowded


def test_the_architecture_has_a_sentence_for_every_room():
    architecture = (REPOSITORY / "ARCHITECTURE.md").read_text()
    rooms = {str(path.parent.relative_to(REPOSITORY)) for path in MODULES.values()}
    assert [room for room in sorted(rooms) if f"`{room}/`" not in architecture] == []


def test_ray_is_imported_in_two_files_of_the_engine_and_nowhere_in_stages_and_models():
    users = [module for module, path in MODULES.items() if "ray" in heads(path)]
    assert [user for user in users if not user.startswith("jobs.")] == [
        "engine.execution.ray_executor",
        "engine.execution.ray_pipelines",
    ]


def test_the_engine_knows_no_torch_and_no_video():
    for path in sources("engine"):
        assert not heads(path) & TORCH_AND_PICTURES, path


def test_every_source_file_has_a_docstring():
    for path in MODULES.values():
        text = path.read_text()
        assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{path} does not say what it is for"


def test_nothing_of_ours_is_imported_by_an_absolute_name():
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & {*MAY_IMPORT, PACKAGE}, f"{path} imports {names}"


def test_the_distribution_names_every_package():
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {f"{PACKAGE}.{module_of(path.parent / '__init__.py')}" for path in MODULES.values()}
    assert sorted(listed) == sorted(there)


def test_planning_a_run_imports_nothing_that_computes():
    """`dap status` answers at once, and a worker holds one copy of torch, not two."""
    code = """
import sys
import dap_engine.jobs.__main__
from importlib import import_module, resources
from dap_engine.engine.planning.recipe import load_recipe
from dap_engine.jobs.steps import STEPS
from dap_engine.stages import KINDS
for reference in KINDS.values():
    import_module(reference.split(":")[0])
for recipe in resources.files("dap_engine.jobs.recipes").iterdir():
    if recipe.name.endswith(".yaml"):
        load_recipe(recipe.read_text(), STEPS)
heavy = {"torch", "transformers", "torchmetrics", "lightning", "trimesh", "scipy", "matplotlib", "pandas", "ray"}
print(sorted(heavy & sys.modules.keys()))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

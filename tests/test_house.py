"""The rules of the house: who may import whom, and where ray lives."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
OURS = {"engine", "stages", "models", "jobs", "infra", "tests"}
MAY_IMPORT = {
    "engine": {"engine"},
    "models": {"models"},
    "stages": {"stages", "engine", "models"},
    "jobs": {"jobs", "stages", "engine", "models"},
}
TOP_LEVEL = {
    *("engine", "stages", "models", "jobs", "infra", "tests", "pyproject.toml", "README.md", "ARCHITECTURE.md"),
    *("BENCHMARKS.md", "CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt"),
}


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom):
            found.add(path.parent.name)
    return found


def sources(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_go_one_way(folder):
    for path in sources(folder):
        ours = {module.split(".")[0] for module in imported_modules(path)} & OURS
        assert ours <= MAY_IMPORT[folder], f"{path} imports {ours - MAY_IMPORT[folder]}"


def test_ray_is_imported_in_one_file_of_the_engine_and_nowhere_in_stages_and_models():
    users = [path for folder in MAY_IMPORT for path in sources(folder) if "ray" in _heads(path)]
    assert [path for path in users if path.parts[-2] != "jobs"] == [REPOSITORY / "engine" / "ray_executor.py"]


def test_the_engine_knows_no_torch_and_no_video():
    for path in sources("engine"):
        assert not _heads(path) & {"torch", "decord", "av", "cv2", "transformers", "lightning"}, path


def test_every_source_file_has_a_docstring():
    for folder in MAY_IMPORT:
        for path in sources(folder):
            text = path.read_text()
            assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{path} does not say what it is for"


def _heads(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported_modules(path)}

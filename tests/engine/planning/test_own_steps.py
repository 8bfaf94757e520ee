"""Steps that are not ours: what is wrong with one is one line, and its source stands for it in fingerprints."""

import importlib
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass, replace

import pytest

from dap_engine.engine import AssetUri, Drop, Sample, StageContext
from dap_engine.engine.planning.recipe import RecipeError, load_recipe
from dap_engine.engine.steps.asset_settings import named_assets
from dap_engine.engine.steps.fingerprint import basis_of
from dap_engine.engine.steps.source import copy_sources, hash_source
from dap_engine.engine.storage.storage import Storage
from dap_engine.stages import Film
from tests.engine.steps import STEPS
from tests.own_modules import begin_anew, folder  # noqa: F401 - a fixture

HEAD = """
from dataclasses import dataclass

from dap_engine.engine import AssetUri, Barrier, Drop, ParquetColumn, Row, Sample, SourceStage, Stage, stage
import pyarrow as pa

NUMBERS = ParquetColumn("numbers", pa.schema([("number", pa.int64())]))
"""
DOUBLE = """
@dataclass
class Double(Stage):
    name = "double"
    reads = ("numbers",)
    writes = ParquetColumn("doubles", pa.schema([("double", pa.int64())]))
    factor: int = 2

    def __post_init__(self):
        if self.factor == 0:
            raise ValueError("factor must not be 0")
        if self.factor < 0:
            raise KeyError("no such factor")

    def process(self, batch):
        for sample in batch:
            yield Row(sample.key, {"double": self.factor * sample["numbers"]["json"]["number"]})
"""
FUNCTION = """
@stage(reads=["numbers"], writes=NUMBERS)
def odd(samples, remainder: int = 1, *, divisor: int):
    for sample in samples:
        number = sample["numbers"]["json"]["number"]
        yield Row(sample.key, {"number": number}) if number % divisor == remainder else Drop(sample.key, "even")
"""


def step(text: str):
    """The second step of a recipe, after `count`."""
    return load_recipe(f"steps: {{count: {{step: count}}, mine: {text}}}", STEPS).nodes[1].step


def test_a_class_of_a_module_in_the_folder_takes_settings(folder):  # noqa: F811
    (folder / "doubling.py").write_text(HEAD + DOUBLE)
    made = step('{step: "doubling:Double", factor: 3}')
    assert (type(made).__name__, made.factor, made.reads) == ("Double", 3, ("numbers",))


def test_a_function_takes_its_parameters_as_settings(folder):  # noqa: F811
    (folder / "oddities.py").write_text(HEAD + FUNCTION)
    made = step('{step: "oddities:odd", divisor: 2, batch_size: 5}')
    assert (made.name, made.settings()) == ("odd", {"remainder": 1, "divisor": 2, "batch_size": 5})
    with pytest.raises(RecipeError, match=r"step 'mine'.*divisor"):
        step('{step: "oddities:odd", divisor: two}')
    with pytest.raises(RecipeError, match=r"step 'mine'.*divisor"):
        step('{step: "oddities:odd"}')


def test_a_function_gets_the_local_path_of_an_asset(folder):  # noqa: F811
    (folder / "weighted.py").write_text(
        HEAD
        + FUNCTION.replace("divisor: int", "weights: AssetUri").replace(
            'Row(sample.key, {"number": number}) if number % divisor == remainder else Drop(sample.key, "even")',
            "Drop(weights, str(remainder))",
        )
    )
    made = step('{step: "weighted:odd", weights: "run:models/mine"}')
    assert (made.assets(), made.settings()) == ({"weights": "run:models/mine"}, {"remainder": 1, "batch_size": 1})
    made.setup(StageContext(Storage("/"), {"weights": "/local/mine"}))
    assert list(made.process([Sample("a", {"numbers": {"json": {"number": 1}}})])) == [Drop("/local/mine", "1")]


def test_assets_of_one_name_are_told_apart(folder):  # noqa: F811
    @dataclass
    class Net:
        backbone: AssetUri | None = None

    @dataclass
    class Settings:
        teacher: Net
        student: Net
        init: AssetUri = "I"

    assert named_assets(Settings(Net("T"), Net("S"))) == {"teacher.backbone": "T", "student.backbone": "S", "init": "I"}
    assert named_assets(Settings(Net(), Net("S"))) == {"student.backbone": "S", "init": "I"}


def test_a_source_stands_beside_what_else_is_external(folder):  # noqa: F811
    external = "    def external(self):\n        return {'facts': 1}\n"
    (folder / "facts.py").write_text(HEAD + DOUBLE + external)
    basis = basis_of(step('{step: "facts:Double"}'), {}, {})
    assert basis.external == {"facts": 1, "source:facts": hash_source("facts")}
    assert basis.differences(replace(basis, external={"facts": 1})) == ["source facts changed"]


def test_a_module_of_the_folder_never_stands_in_for_an_installed_one(folder):  # noqa: F811
    (folder / "yaml.py").write_text("raise RuntimeError('the wrong one')")
    (folder / "doubled.py").write_text("import yaml\n" + HEAD + DOUBLE)
    sys.modules.pop("yaml", None)
    assert step('{step: "doubled:Double"}').factor == 2


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ("", '{step: "nosuchmodule:Double"}', "no module 'nosuchmodule', neither in .* nor installed"),
        ("", '{step: "json.nosuch:Double"}', "no module 'json.nosuch'"),
        ("", '{step: "wrong:"}', "'wrong:': write it as MODULE:CLASS"),
        ("", '{step: ":Double"}', "write it as MODULE:CLASS"),
        ("", '{step: "..wrong:Double"}', "write it as MODULE:CLASS"),
        ("", '{step: "wrong:Double"}', "module 'wrong' has no 'Double'"),
        ("Double = 3", '{step: "wrong:Double"}', "wrong:Double is no step: derive it from Stage"),
        ("class Double: ...", '{step: "wrong:Double"}', "wrong:Double is no step: derive it from Stage"),
        ("def Double(rows): ...", '{step: "wrong:Double"}', "is a plain function: put @stage"),
        ("import nosuchpackage", '{step: "wrong:Double"}', "cannot be imported: ModuleNotFoundError.*nosuchpackage"),
        ("1 / 0", '{step: "wrong:Double"}', r"cannot be imported: ZeroDivisionError: .*wrong.py, line \d+\)"),
        ("raise SystemExit(0)", '{step: "wrong:Double"}', "cannot be imported: SystemExit: 0"),
        ("def (", '{step: "wrong:Double"}', r"cannot be imported: SyntaxError: .*\(wrong.py, line \d+\)"),
        (DOUBLE.replace("@dataclass", ""), '{step: "wrong:Double"}', "no dataclass: put @dataclass above it"),
        (DOUBLE.replace('name = "double"', ""), '{step: "wrong:Double"}', "has no name.*name = 'double'"),
        (DOUBLE.replace("def process", "def proces"), '{step: "wrong:Double"}', "abstract method '?process"),
        (DOUBLE.replace('("numbers",)', '"numbers"'), '{step: "wrong:Double"}', "give a tuple of columns"),
        (DOUBLE.replace("writes = Pa", "writes = None  # Pa"), '{step: "wrong:Double"}', "its writes are None"),
        (DOUBLE.replace("factor: int", "factor: Nosuch"), '{step: "wrong:Double"}', "Nosuch"),
        (DOUBLE, '{step: "wrong:Double", factor: two}', "step 'mine'.*factor"),
        (DOUBLE, '{step: "wrong:Double", factr: 2}', "step 'mine'.*factr"),
        (DOUBLE, '{step: "wrong:Double", factor: 0}', "step 'mine': factor must not be 0"),
        (DOUBLE, '{step: "wrong:Double", factor: -1}', r"KeyError: 'no such factor' \(.*wrong.py, line \d+\)"),
        (DOUBLE, '{step: "wrong:Double", pool: {num_cpus: 0}}', "a worker needs CPUs or GPUs"),
        (FUNCTION.replace("remainder: int", "remainder"), '{step: "wrong:odd"}', "'remainder' has no type"),
        (
            FUNCTION.replace("remainder: int", "name: str"),
            '{step: "wrong:odd"}',
            "'name' has a name that every stage uses",
        ),
        (FUNCTION.replace("remainder: int", "batch_size: int"), '{step: "wrong:odd"}', "'batch_size' has a name that"),
        (FUNCTION.replace("*, divisor", "*divisor"), '{step: "wrong:odd"}', "'divisor' cannot be given by name"),
        (FUNCTION.replace("divisor: int", "divisor: list[AssetUri]"), '{step: "wrong:odd"}', "an asset needs a name"),
        (
            DOUBLE.replace("factor: int = 2", "factor: int = 2\n    teachers: list[AssetUri] = ()"),
            '{step: "wrong:Double"}',
            "'mine': setting 'teachers': an asset needs a name: give",
        ),
        (FUNCTION.replace('["numbers"]', '"numbers"', 1), '{step: "wrong:odd"}', "give a list of columns"),
    ],
)
def test_a_wrong_one_is_one_clear_line(folder, source, text, message):  # noqa: F811
    (folder / "wrong.py").write_text(HEAD + source)
    with pytest.raises(RecipeError, match=message) as caught:
        step(text)
    assert "\n" not in str(caught.value)


def fingerprint(place: str) -> str:
    """As a process of its own would have it that begins now."""
    begin_anew([name for name in sys.modules if name.split(".")[0] == re.split("[.:]", place)[0]])
    return basis_of(step(f'{{step: "{place}"}}'), {}, {}).fingerprint


def test_every_edit_of_the_file_is_another_fingerprint(folder):  # noqa: F811
    file = folder / "edited.py"
    file.write_text(HEAD + DOUBLE)
    before = fingerprint("edited:Double")
    (folder / "beside.py").write_text("")
    assert fingerprint("edited:Double") == before
    file.write_text(HEAD + DOUBLE + "# a remark\n")
    assert fingerprint("edited:Double") != before


def test_so_is_one_of_any_python_file_of_its_package_and_of_nothing_else(folder):  # noqa: F811
    package = folder / "package"
    (package / "inner").mkdir(parents=True)
    (package / "inner" / "steps.py").write_text(HEAD + DOUBLE)
    (package / "helpers.py").write_text("")
    before = fingerprint("package.inner.steps:Double")
    (package / "footage.mp4").write_bytes(b"x")
    (package / ".hidden.py").write_text("")
    assert fingerprint("package.inner.steps:Double") == before
    (package / "helpers.py").write_text("# a remark")
    assert fingerprint("package.inner.steps:Double") != before


def test_a_process_that_runs_an_older_source_says_so(folder):  # noqa: F811
    file = folder / "older.py"
    file.write_text(HEAD + DOUBLE)
    step('{step: "older:Double"}')
    file.write_text(HEAD + DOUBLE + "# a remark\n")
    with pytest.raises(RecipeError, match="'older' has changed since it was imported; start this process anew"):
        step('{step: "older:Double"}')


def test_a_source_is_that_of_the_import_not_of_the_first_question(folder, monkeypatch):  # noqa: F811
    monkeypatch.syspath_prepend(folder)
    file = folder / "noted.py"
    file.write_text(HEAD + DOUBLE)
    importlib.import_module("noted")
    file.write_text(HEAD + DOUBLE + "# a remark\n")
    with pytest.raises(RecipeError, match="'noted' has changed since it was imported; start this process anew"):
        step('{step: "noted:Double"}')


def test_a_package_in_two_folders_counts_once(folder, monkeypatch):  # noqa: F811
    """As on a worker, which has a copy before the folder of the command."""
    (folder / "twofold").mkdir()
    (folder / "twofold" / "steps.py").write_text(HEAD + DOUBLE)
    before = fingerprint("twofold.steps:Double")
    shutil.copytree(folder / "twofold", folder / "copy" / "twofold")
    monkeypatch.syspath_prepend(folder / "copy")
    assert fingerprint("twofold.steps:Double") == before
    (folder / "copy" / "twofold" / "steps.py").write_text(HEAD + DOUBLE + "# a remark\n")
    assert fingerprint("twofold.steps:Double") != before


@pytest.mark.parametrize("name", ["zipped.py", "zipped/__init__.py"])
def test_without_a_source_to_read_one_clear_line(folder, monkeypatch, name):  # noqa: F811
    with zipfile.ZipFile(folder / "steps.zip", "w") as archive:
        archive.writestr(name, HEAD + DOUBLE)
    monkeypatch.syspath_prepend(folder / "steps.zip")
    with pytest.raises(
        RecipeError, match=r"^step 'mine': zipped has no Python source, which tells its versions apart$"
    ):
        step('{step: "zipped:Double"}')


def test_workers_are_sent_the_module_alone(folder):  # noqa: F811
    (folder / "footage.mp4").write_bytes(b"x")
    (folder / "single.py").write_text(HEAD + DOUBLE)
    (folder / "several" / "data").mkdir(parents=True)
    (folder / "several" / "steps.py").write_text(HEAD + DOUBLE)
    (folder / "several" / "data" / "weights.pt").write_bytes(b"x")
    kinds = [type(step(f'{{step: "{module}:Double"}}')) for module in ("single", "several.steps")]
    copies = folder / "copies"
    places = copy_sources([*kinds, STEPS["count"], Film], copies)
    assert [place.name for place in places] == ["several", "single.py", "tests"]
    assert [path.name for path in (copies / "several").rglob("*")] == ["steps.py"]
    assert (copies / "single.py").read_bytes() == (folder / "single.py").read_bytes()
    assert hash_source("single") != hash_source("several")

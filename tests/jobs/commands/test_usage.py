"""Wrong usage: exit code 2, one clear line on stderr, no traceback, and nothing begun."""

import pytest

from dap_engine.jobs.__main__ import main


def fails(capsys, *arguments: object) -> str:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert len(captured.err.strip().splitlines()) == 1, captured.err
    return captured.err


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch.yaml"], "no recipe 'nosuch.yaml'"),
        (["curate", "--only", "nosuch"], "no step 'nosuch'"),
        (["curate", "--until", "nosuch"], "no step 'nosuch'"),
        (["curate", "--set", "nosuch.key=1"], "no step 'nosuch'"),
        (["curate", "--set", "extract.every_s=fast"], "every_s"),
        (["curate", "--set", "extract.every_s=-1"], "every_s must be positive"),
        (["curate", "--set", "videos=nowhere"], "nowhere: no such file or folder"),
        (["curate", "--set", "label.model=nowhere"], "nowhere: no such folder"),
        (["curate", "--set", "label.model=run:models/none"], "no step of the recipe writes"),
        (["curate", "--set", "executor=spark"], "executor 'spark'"),
        (["curate", "--set", "label.model=models/nothere"], "models/nothere: no such folder"),
        (["curate", "--set", "tag.batch_size=0"], "batch_size must be at least 1"),
        (["curate", "--set", "extract.every_s=.nan"], "finite"),
        (["curate", "--set", "extract.max_frames=0"], "max_frames"),
        (["curate", "--set", "tag.pool.num_cpus=-1"], "no amount may be negative"),
        (["curate", "--only", "label", "--until", "plan"], "no step is both"),
    ],
)
def test_wrong_recipes_and_settings(capsys, tmp_path, footage, command, arguments, message):
    arguments = arguments if "videos=nowhere" in arguments else [*arguments, "--set", f"videos={footage}"]
    assert message in fails(capsys, command, *arguments, "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_broken_recipe_files(capsys, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    for text, message in [
        (
            "steps: [",
            f"not a recipe: while parsing a flow node expected the node content, but found '<stream end>' "
            f'in "{recipe}", line 1',
        ),
        (
            "steps:\n  a: {step: film, videos: 1,\n    videos: 2}",
            f"the key 'videos' stands there twice in \"{recipe}\", line 3",
        ),
        ("steps:\n  a: {step: film}\n  a: {step: film}", "the key 'a' stands there twice"),
        ("steps: {a: {step: nosuch}}", "no kind of step, nor MODULE:CLASS: 'nosuch'"),
        ("steps: {tag: {step: tag}}", "reads 'frames', which no step"),
        ("!!python/name:os.system", "not a recipe"),
        ("steps: {a: {step: 'nosuch.module:Stage'}}", "no module 'nosuch', neither in"),
        ("steps: {a: {step: 'dap_engine.engine:Row'}}", "dap_engine.engine:Row is no step"),
        ("steps: {a: 5}", "step 'a' needs settings"),
        ("steps: {a: {step: [count]}}", "no kind of step"),
        ("steps: {a: {step: film, videos: 1, column: ../../outside}}", "would write '../../outside'"),
    ]:
        recipe.write_text(text)
        assert message in fails(capsys, "run", recipe, "--run-dir", tmp_path / "run")


def test_the_help_names_the_folder_that_is_written_to(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "(default: dap-evaluate)" in " ".join(capsys.readouterr().out.split())


def test_no_videos(capsys, tmp_path, empty):
    line = fails(capsys, "run", "curate", "--run-dir", tmp_path / "run", "--set", f"videos={empty}")
    assert "holds no video" in line


@pytest.mark.parametrize("command", ["status", "verify"])
def test_no_run_directory(capsys, empty, command):
    assert "no run directory" in fails(capsys, command, "--run-dir", empty)


@pytest.mark.parametrize("arguments", [["try", "tag", "none.jpg"], ["predict", "none.jpg", "--out", "x"]])
def test_missing_files(capsys, arguments):
    assert "none.jpg: no such file" in fails(capsys, *arguments)


def test_a_file_that_is_no_picture(capsys, tmp_path):
    (tmp_path / "a.jpg").write_text("version https://git-lfs.github.com/spec/v1")
    assert "a.jpg" in fails(capsys, "try", "tag", tmp_path / "a.jpg")


def test_a_folder_that_is_no_model(capsys, tmp_path, empty, picture):
    assert "no model folder" in fails(capsys, "predict", picture, "--model", empty, "--out", tmp_path / "out")
    assert "no model folder" in fails(capsys, "try", "depth", picture, "--model", empty)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--every", "0"], "--every must be positive"),
        (["--height", "0"], "--height 16 to"),
        (["--device", "nosuch"], "--device nosuch"),
        (["--out", "{picture}"], "--out"),
    ],
)
def test_wrong_options_of_predict(capsys, tmp_path, picture, options, message):
    options = [option.format(picture=picture) for option in options]
    out = [] if "--out" in options else ["--out", tmp_path / "out"]
    assert message in fails(capsys, "predict", picture, *out, *options)


@pytest.mark.parametrize("what", ["horizon", "depth"])
def test_an_output_folder_that_is_a_file(capsys, picture, what):
    assert f"--out {picture}" in fails(capsys, "try", what, picture, "--out", picture)


def test_nothing_to_simulate(capsys, tmp_path):
    assert "nothing to make" in fails(capsys, "simulate", "--out", tmp_path)


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["run"], ["run", "demo"], ["try", "nosuch", "a.jpg"]])
def test_argparse_agrees(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: dap" in capsys.readouterr().err

"""`dap plan`: says what would run, at any scale, without a cluster and without the storage in reach."""

from jobs.__main__ import main

STEPS = [
    "simulate-outdoor",
    "simulate-indoor",
    "labeler-1",
    "extract",
    "tag",
    "label-1",
    "discriminator",
    "select-1",
    "dap",
]
NOWHERE = "s3://footage/videos?region=us-east-1&scheme=http&endpoint_override=127.0.0.1%3A1"


def test_the_recipe_at_full_scale_is_whole(capsys, tmp_path, footage):
    assert main(["plan", "dap2m", "--run-dir", str(tmp_path / "run"), "--set", f"videos={footage}"]) == 0
    rows = {
        cells[1].strip(): cells for line in capsys.readouterr().out.splitlines() if len(cells := line.split("│")) > 7
    }
    assert set(STEPS) <= set(rows)
    assert [cell.strip() for cell in rows["simulate-outdoor"][5:7]] == ["180", "180"]
    assert not (tmp_path / "run").exists()


def test_footage_out_of_reach_is_said_not_fatal(capsys, tmp_path):
    assert main(["plan", "dap2m", "--run-dir", str(tmp_path / "run"), "--set", f"videos={NOWHERE}"]) == 0
    assert "NETWORK_CONNECTION" in capsys.readouterr().out
    assert main(["run", "dap2m", "--run-dir", str(tmp_path / "run"), "--set", f"videos={NOWHERE}"]) == 2
    assert "step 'plan': videos: s3://footage/videos" in capsys.readouterr().err

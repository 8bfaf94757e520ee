"""What tests of users' files and places share: how a refusal looks, and what they bring."""

import subprocess
from collections import Counter

import numpy as np
from PIL import Image

from dap_engine.engine.rundir.rundir import RunDir

NOT_UTF8 = "bal\udce9"  # a name with the single byte E9
NOBODY = 65534  # a user without rights


def one_line(done, code, *parts):
    assert done.returncode == code, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(str(part) in done.stderr for part in parts), done.stderr
    assert "Traceback" not in done.stderr


def drops(run_dir, column):
    """What a column of a run dropped, by code."""
    receipts = RunDir(str(run_dir)).receipts(column).values()
    return dict(sum((Counter(receipt.drops) for receipt in receipts), Counter()))


def a_pair(root):
    """A labelled panorama of noise, and what names it on the command line."""
    (root / "rgb").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "rgb" / "0.jpg")
    np.save(root / "0.npy", np.ones((64, 128), np.float32))
    (root / "pairs.txt").write_text("rgb/0.jpg 0.npy\n")
    return ["--dataset", "airsim360", "--root", root, "--split", "pairs.txt"]


def set_state(disk, state):
    if state == "full":
        (disk / "rest").write_bytes(bytes(12 << 10))
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

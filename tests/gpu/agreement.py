"""The tests that need a GPU, in a process of their own; without one they are only collected."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from tests.gpu.bench import Bench
from tests.gpu.report import Figure, Measurement

LIMIT_S = 120
REPOSITORY = Path(__file__).resolve().parents[2]


def gpu_tests(bench: Bench) -> Iterator[Measurement]:
    yield bench.measured(f"pytest -m gpu {bench.sizes.gpu_tests}", lambda: _run(bench))


def _run(bench: Bench) -> Mapping[str, Figure]:
    """Counts; raises AssertionError with the names of tests that failed. Files that lack a package are only named."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", bench.sizes.gpu_tests, f"--junitxml={report}"]
        command += ["--continue-on-collection-errors", "-p", "no:cacheprovider"]
        command += [] if bench.on_gpu else ["--collect-only"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if not bench.on_gpu:
            assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-500:]
            return {"collected": sum("::" in line for line in done.stdout.splitlines())}
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None]
    broken = [case for case in cases if case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    missing = {_missing(case) for case in broken}
    bad = failed + [case for case in broken if _missing(case) == ""]
    passed = len(cases) - len(failed) - len(broken) - len(skipped)
    words = {f"{case.get('name')}: {_message(case)}" for case in bad}
    assert passed, f"no test ran: {done.stdout[-1500:]}"
    assert not bad, f"{passed} passed, {len(bad)} failed: {'; '.join(sorted(words))}"
    lacking = f"{len(broken)} without {', '.join(sorted(missing))}" if broken else None
    return {"passed": passed, "failed": 0, "files not collected": lacking}


def _missing(case: ElementTree.Element) -> str:
    """The package for want of which a file could not be imported; "" for any other error."""
    text = "".join(case.itertext())
    _, found, rest = text.rpartition("No module named '")
    return rest.partition("'")[0] if found else ""


def _message(case: ElementTree.Element) -> str:
    return next((str(child.get("message"))[:200] for child in case if child.get("message")), "")

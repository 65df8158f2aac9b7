"""The SDK's own tests notice a dispatcher that is broken on purpose: else that they pass would prove nothing.

`make test-sdk` fetches the SDK's tests, runs all of them, and runs these faults as well; here are the faults alone,
for whoever has the tests at hand.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
CACHE = Path(os.environ.get("TURNOUT_SDK_CACHE", HERE.parent / ".sdk"))
OURS = ("--dispatcher", "turnout.mcp:Dispatcher")


def load(name):
    sys.path.insert(0, str(HERE / "sdk"))
    try:
        spec = importlib.util.spec_from_file_location(f"sdk_{name}", HERE / "sdk" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(HERE / "sdk"))


run = load("run")


def version_of(python):
    asked = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()


@pytest.fixture(scope="module")
def suite():
    if not (CACHE / "ready").exists() or not (CACHE / "chosen.txt").exists():
        pytest.skip(f"the SDK's tests are not in {CACHE.name}; `make test-sdk` fetches them")
    suite = run.Suite(CACHE.resolve())
    if version_of(suite.python) != [str(number) for number in sys.version_info[:2]]:
        pytest.skip("the SDK's tests were set up for another version of Python")
    suite.prepare()
    return suite


def test_the_tests_pass_on_a_dispatcher_that_is_not_broken(suite):
    failed, ran = run.is_noticed(suite, OURS, "intact")
    assert failed == 0
    assert ran > 0


@pytest.mark.parametrize("fault", sorted(set(run.FAULTS) - {"intact"}))
def test_the_tests_fail_on_a_dispatcher_with_a_fault(suite, fault):
    failed, _ = run.is_noticed(suite, OURS, fault)
    assert failed > 0, f"{fault} goes unnoticed"


def test_every_fault_there_is_is_tried():
    source = (HERE / "sdk" / "broken.py").read_text(encoding="utf-8")
    made = {line.split("(")[0].removeprefix("def ") for line in source.splitlines() if "(base: Make)" in line}
    assert made == set(run.FAULTS)


def test_a_test_that_ran_on_the_sdks_own_class_is_counted_as_such():
    def ran(outcome, *classes):
        return {"outcome": outcome, "reason": "why", "ran_on": dict.fromkeys(classes, 1)}

    tally = run.Tally.of(
        {
            "alone": ran("passed", "substitute"),
            "against the SDK's own": ran("passed", "substitute", "stock"),
            "without it": ran("passed", "stock"),
            "on trio": ran("passed", "trio"),
            "with none": ran("passed"),
            "broken": ran("failed", "substitute"),
            "skipped": ran("skipped"),
        }
    )
    assert (tally.ours, tally.theirs, len(tally.failed), len(tally.left_out)) == (2, 3, 1, 1)


def test_what_is_left_out_may_fail_only_where_it_ran_on_the_substitute():
    left_out = next(iter(run.LEFT_OUT))
    end = {"outcome": "failed", "reason": "why", "ran_on": {"stock": 1}}
    assert len(run.Tally.of({left_out: end}).failed) == 1

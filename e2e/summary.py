"""Sums up what the runners of `./dev test` said: what could not run and why, and the last line.

Usage: summary.py DIRECTORY, which holds NAME.log, NAME.code where a runner failed, NAME.xml
(JUnit) where it writes one, and NAME.again where what failed was tried once more. The last line is
`N passed, N failed`; the exit code is 1 when anything failed, when a runner ended without a count,
or when a test did not run that had to; one that is asked for by name, with SONDE_LONG_RUN, had not.
`summary.py --failed LOG` prints the tests that failed.
"""

import collections
import dataclasses
import os
import pathlib
import re
import sys
import xml.etree.ElementTree

# In the reason of a test that runs where a person asks for it.
BY_REQUEST = "SONDE_LONG_RUN=1"


@dataclasses.dataclass
class Count:
    """What one runner said."""

    passed: int = 0
    failed: int = 0
    # Reasons of tests that did not run, each with how many.
    not_run: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    # Tests that failed, and passed alone.
    unsteady: list[str] = dataclasses.field(default_factory=list)


def of_cargo(log: str) -> Count:
    """Sums the closing lines of all test binaries."""
    count = Count()
    pattern = r"^test result: \w+\. (\d+) passed; (\d+) failed"
    for passed, failed in re.findall(pattern, log, re.MULTILINE):
        count.passed += int(passed)
        count.failed += int(failed)
    # A test that needs the kernel passes without one, and says that it did not run.
    for reason in re.findall(r"^NOT RUN:? ?(.*)$", log, re.MULTILINE):
        count.passed -= 1
        count.not_run[reason] += 1
    for reason in re.findall(r"^test .* \.\.\. ignored(?:, (.*))?$", log, re.MULTILINE):
        count.not_run[reason or "ignored without a reason"] += 1
    return count


def of_junit(path: pathlib.Path) -> Count:
    """Reads the cases of a JUnit file."""
    count = Count()
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            count.failed += 1
        elif skipped is not None:
            reason = " ".join(skipped.get("message", "skipped").split())
            count.not_run[reason] += 1
        else:
            count.passed += 1
    return count


def failed_in(log: pathlib.Path) -> list[str]:
    """Names of the tests that failed, as their runner takes them; those of cargo and pytest."""
    text = log.read_text(encoding="utf-8", errors="replace")
    cargo = re.findall(r"^test (\S+) \.\.\. FAILED$", text, re.MULTILINE)
    pytest = re.findall(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", text, re.MULTILINE)
    return sorted(set(cargo + pytest))


def try_again(count: Count, log: pathlib.Path, again: pathlib.Path) -> None:
    """Counts what failed and then passed alone as passed, and keeps its name."""
    passed = sorted(set(failed_in(log)) - set(failed_in(again)))
    text = again.read_text(encoding="utf-8", errors="replace")
    # What broke off before it counted has shown nothing.
    counts = re.findall(r"^(?:test result: \w+\.|=+.*?) ?(\d+) passed", text, re.MULTILINE)
    if sum(map(int, counts)) >= len(passed):
        count.unsteady = passed
        count.failed -= len(passed)
        count.passed += len(passed)


def of_runner(log: pathlib.Path) -> Count:
    """What a runner counted; one failure when it failed without counting one."""
    junit = log.with_suffix(".xml")
    if junit.exists():
        count = of_junit(junit)
    else:
        count = of_cargo(log.read_text(encoding="utf-8", errors="replace"))
    has_failed = log.with_suffix(".code").exists()
    again = log.with_suffix(".again")
    if count.failed and again.exists():
        try_again(count, log, again)
    if log.stem == "format":
        count.passed += not has_failed
    if (has_failed and not count.failed and not count.unsteady) or not (
        count.passed or count.failed or count.not_run
    ):
        count.failed += 1
    if os.environ.get("SONDE_REQUIRE_KERNEL"):
        # Here everything can run: a test that did not is a failure, unless nobody asked for it.
        had_to = (reason for reason in count.not_run.elements() if BY_REQUEST not in reason)
        count.failed += sum(1 for _ in had_to)
    return count


def main() -> int:
    """Prints the summary."""
    if sys.argv[1] == "--failed":
        print("\n".join(failed_in(pathlib.Path(sys.argv[2]))))
        return 0
    directory = pathlib.Path(sys.argv[1])
    total = Count()
    print("\nWhat ran:")
    for log in sorted(directory.glob("*.log"), key=lambda log: log.stat().st_mtime):
        count = of_runner(log)
        print(f"  {log.stem:8} {count.passed} passed, {count.failed} failed")
        total.passed += count.passed
        total.failed += count.failed
        total.not_run += count.not_run
        total.unsteady += count.unsteady
    if total.not_run:
        print("What could not run here, and why:")
        for reason, times in total.not_run.most_common():
            print(f"  {times} x {reason[:300]}")
    if total.unsteady:
        print("Failed once, and passed alone; find the cause, and mend it:")
        for name in total.unsteady:
            print(f"  {name}")
    print(f"{total.passed} passed, {total.failed} failed")
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())

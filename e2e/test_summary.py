"""The last line of `./dev test`, which decides."""

import pytest

import summary

CARGO = """test a::good ... ok
test a::bad ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored
"""
PYTEST = """FAILED e2e/test_x.py::test_a[p q] - AssertionError: one - two
ERROR e2e/test_x.py::test_b - OSError
===== 1 failed, 1 passed, 1 error in 2.31s =====
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Sums up a runner's output, and what came of a second try."""

    def sum_up(log: str, again: str) -> tuple[int, list[str]]:
        (tmp_path / "crates.log").write_text(log)
        (tmp_path / "crates.code").write_text("1")
        if again:
            (tmp_path / "crates.again").write_text(again)
        monkeypatch.delenv("SONDE_REQUIRE_KERNEL", raising=False)
        monkeypatch.setattr("sys.argv", ["summary.py", str(tmp_path)])
        code = summary.main()
        return code, capsys.readouterr().out.splitlines()

    return sum_up


def test_a_failure_is_a_failure(run):
    code, said = run(CARGO, "")
    assert (code, said[-1]) == (1, "1 passed, 1 failed")


def test_what_passes_alone_is_named(run):
    code, said = run(CARGO, "test a::bad ... ok\ntest result: ok. 1 passed; 0 failed\n")
    assert (code, said[-1]) == (0, "2 passed, 0 failed")
    assert said[-2].strip() == "a::bad"


@pytest.mark.parametrize("again", [CARGO, "error: could not compile `a`\n"])
def test_what_fails_again_or_says_nothing_stays_a_failure(run, again):
    code, said = run(CARGO, again)
    assert (code, said[-1]) == (1, "1 passed, 1 failed")


def test_names_of_both_runners_are_read(tmp_path):
    (tmp_path / "log").write_text(CARGO + PYTEST)
    found = summary.failed_in(tmp_path / "log")
    assert found == ["a::bad", "e2e/test_x.py::test_a[p q]", "e2e/test_x.py::test_b"]


@pytest.mark.parametrize(
    ("reason", "failed"),
    [("rollouts of minutes: SONDE_LONG_RUN=1 runs it", 0), ("no kernel", 1)],
)
def test_where_all_can_run_what_did_not_is_a_failure_unless_nobody_asked_for_it(
    tmp_path, monkeypatch, capsys, reason, failed
):
    (tmp_path / "system.log").write_text("")
    (tmp_path / "system.xml").write_text(
        f'<testsuite><testcase/><testcase><skipped message="{reason}"/></testcase></testsuite>'
    )
    monkeypatch.setenv("SONDE_REQUIRE_KERNEL", "1")
    monkeypatch.setattr("sys.argv", ["summary.py", str(tmp_path)])
    assert summary.main() == failed
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"1 passed, {failed} failed"
    assert any(reason in line for line in said)

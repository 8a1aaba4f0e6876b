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

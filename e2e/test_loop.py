"""The control loop: enrolment, wishes, rules, kills, an old copy, ceilings, proxies.

The dashboard and the controller are two programs here. `SONDE_LONG_RUN=1` makes the loops of kills
a thousand rounds long.
"""

import json
import random
import shutil
import subprocess
import threading
import time
import urllib.parse

import pytest

from apart import Apart
from harness import KINDS, LONG_RUN, SONDE, until

KILLS = 1_000 if LONG_RUN else 300
STEPS = 300 if LONG_RUN else 8


def test_a_node_joins_once_and_comes_back_without_its_token(apart):
    apart.join()
    kept = apart.data["controller"] / "controller" / "credential.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    secret = json.loads(kept.read_text())["current"]
    assert secret.startswith("sonde_node_")
    assert secret not in apart.log("controller") + apart.log("dashboard")
    apart.kill("controller")
    apart.flags = []
    apart.start("controller")
    until("polls again", lambda: apart.status().get("poll", {}).get("protocol") == 2, 20)


def test_a_revoked_node_says_so_and_comes_back_when_it_is_let_in(apart):
    apart.join()
    node = apart.status()["id"]
    apart.api("POST", "instances/revoke", {"id": node})

    # The next report is refused.
    def trouble():
        return apart.status()["poll"]["trouble"]

    until("it says that it was revoked", lambda: "join" in (trouble() or ""), 60)
    assert apart.running["controller"].poll() is None, "and goes on with what was wanted"
    apart.api("POST", "instances/readmit", {"id": node})
    until("it is in again", lambda: trouble() is None, 60)


def test_each_step_ends_once_whoever_is_killed_in_between(apart):
    apart.join()
    node = apart.status()["id"]
    chance = random.Random(11)
    made = []
    for number in range(STEPS):
        change = ("refresh", "retry")[number % 2]
        body = {"instance": node, "change": change, "reason": f"round {number}"}
        made.append(apart.api("POST", "steps", body)["id"])
        time.sleep(chance.uniform(0, 0.2))
        who = ("controller", "dashboard")[number % 3 == 2]
        apart.kill(who)
        apart.start(who)
        until("the dashboard answers", lambda: apart.ask("services") is not None, 20)
        until("its socket is there", apart.is_up, 20)

    def ends() -> dict:
        try:
            rows = apart.api("GET", "steps")["steps"]
        except OSError:
            return {}
        return {row["id"]: row.get("end") for row in rows}

    # A step that was lent and not heard of is lent again after 75 seconds.
    until("all have ended", lambda: all(ends().get(one) for one in made), 120)
    # One that a newer one overtook is refused: the last wish wins.
    assert set(ends().values()) <= {"done", "interrupted", "refused"}, ends()
    assert ends()[made[-1]] in ("done", "interrupted")
    log = apart.data["controller"] / "controller" / "steps.log"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    begun = [line["id"] for line in lines if line["phase"] == "running"]
    assert len(begun) == len(set(begun)), "none was begun twice"
    assert {line["why"] for line in lines} <= {f"round {number}" for number in range(len(made))}


def test_the_configuration_of_the_fleet_is_applied_and_told_back(apart):
    apart.join()
    node = apart.status()["id"]
    settings = {"heartbeat_seconds": 60, "log": "debug"}
    apart.api("PUT", "configuration", {"layer": "fleet", "name": "", "settings": settings})
    applied = until("applied", lambda: apart.status().get("configuration"), 20)
    assert applied.get("error") is None, applied
    apart.kill("controller")
    apart.start("controller")
    again = until("kept over a restart", lambda: apart.status().get("configuration"), 20)
    assert again["hash"] == applied["hash"]

    def told():
        return [row for row in apart.api("GET", "status")["instances"] if row["id"] == node]

    until("and told back", lambda: applied["hash"] in json.dumps(told()), 20)


def test_a_node_without_a_good_token_ends_and_says_what_to_do(apart):
    apart.start("dashboard")
    apart.token()
    for flags in ([], ["--token", "sonde_join_wrong"]):
        apart.flags = flags
        apart.start("controller")
        assert apart.running["controller"].wait(timeout=30) == 64
    assert "sonde tokens create --kind join" in apart.log("controller")


def test_a_controller_stands_alone_by_its_own_wishes(kernel, client, tmp_path):
    """Its calls reach any receiver of OTLP, and wait for one that is away."""
    both = Apart(tmp_path)
    program = client(KINDS[0])
    command = [SONDE, "controller", "--standalone", "--data-dir", tmp_path / "alone"]
    command += ["--otlp-endpoint", f"http://127.0.0.1:{both.port}", "--wish", "name=*"]
    with open(tmp_path / "alone.log", "ab") as log:
        alone = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
    try:

        def rows():
            return both.ask("services", at="alone")

        program.call(stream=False)

        def mine():
            return [r for r in rows() if r.get("process.pid") == program.pid]

        def is_on():
            return [r for r in mine() if r["sonde.capture.observed"] == "network"]

        until("captured by its own wish", is_on, 20)
        program.call(stream=False)

        def status():
            return both.ask("controller", "status", at="alone")[0]

        until("a call waits", lambda: status()["calls_waiting"] > 0, 20)
        assert status()["dashboard"] is None
    finally:
        alone.terminate()
        assert alone.wait(timeout=20) == 0
    spool = tmp_path / "alone" / "controller" / "spool"
    assert list(spool.iterdir()), "what waits is on disk"


def test_a_ceiling_of_the_node_is_not_lifted_by_a_wish(kernel, apart, client):
    apart.start("dashboard")
    apart.flags = ["--token", apart.token(), "--observe-only"]
    apart.start("controller")
    program = client(KINDS[0])
    program.call(stream=False)
    key = until("discovered", lambda: apart.row(program.pid), 20)["sonde.workload.key"]
    apart.wish(key, "network")

    def is_blocked():
        return apart.row(program.pid)["sonde.capture.state"] == "blocked"

    until("the node says that it forbids it", is_blocked, 15)
    assert "observe_only" in apart.row(program.pid)["sonde.capture.reason"]


@pytest.mark.kernel
def test_a_wish_takes_effect_within_a_second(captured):
    apart, _program, key = captured
    times = []
    for level in ("network", "off", "network"):
        before = time.monotonic()
        apart.ask("services", "set", key, "--capture", level, "--wait", "10")
        times.append(time.monotonic() - before)
    # The command itself takes its time on a busy machine.
    assert min(times) < 1, times


@pytest.mark.kernel
@pytest.mark.timeout(KILLS * 3 + 300)
def test_the_last_wish_wins_and_no_step_runs_twice_over_hundreds_of_kills(captured):
    """Both sides are killed at random points, also while they start, independently of each other;
    what was acknowledged holds in the end, and the program that is watched notices nothing."""
    apart, program, key = captured
    node = apart.status()["id"]
    done = {"controller": 0, "dashboard": 0}

    def kills(name: str) -> None:
        chance = random.Random(name)
        while done[name] < KILLS:
            time.sleep(min(chance.expovariate(3), 2))
            apart.kill(name)
            apart.start(name)
            done[name] += 1

    killers = [threading.Thread(target=kills, args=(name,)) for name in done]
    for killer in killers:
        killer.start()
    levels, steps, wishes = ["off"], {}, 0
    path = f"services/{urllib.parse.quote(key, safe='')}/capture"
    while any(killer.is_alive() for killer in killers):
        # One that was not acknowledged is wished again: the last attempt is the last word.
        level = "off" if levels[-1] == "network" else "network"
        if apart.tries("PUT", path, {"level": level}):
            levels.append(level)
            wishes += 1
        reason = f"round {wishes}"
        if wishes % 8 == 7 and reason not in steps.values():
            body = {"instance": node, "change": "refresh", "reason": reason}
            if made := apart.tries("POST", "steps", body):
                steps[made["id"]] = reason
        time.sleep(0.2)
        if wishes % 16 == 0:
            assert program.call(stream=False)[0]["ok"]
    for killer in killers:
        killer.join()
    assert done == {"controller": KILLS, "dashboard": KILLS}
    assert wishes > KILLS // 10 and steps, (wishes, steps)
    until("the dashboard answers", apart.is_up, 20)
    until("the last wish is in effect", apart.observes(program, levels[-1]), 40)
    until("it is what is wanted", lambda: wanted(apart, program) == levels[-1], 10)
    assert program.call(stream=False)[0]["ok"]

    def ends() -> dict:
        rows = {row["id"]: row.get("end") for row in apart.api("GET", "steps")["steps"]}
        return {one: rows.get(one) for one in steps}

    # A step that was lent and not heard of is lent again after 75 seconds.
    until("all steps have ended", lambda: all(ends().values()), 150, 0.5)
    begun = apart.begun_steps()
    assert len(begun) == len(set(begun)), "none was begun twice"


def wanted(apart: Apart, program) -> str:
    """The level that is wanted of a program, as the dashboard has it."""
    return (apart.row(program.pid) or {}).get("sonde.capture.desired")


@pytest.mark.kernel
def test_a_rule_holds_on_the_node_at_once_each_time(captured):
    apart, program, key = captured
    apart.wish(key, "network", 20)
    times = []
    for number in range(12):
        is_in = number % 2 == 1
        rules = {"exclude": [] if is_in else [{"name": key}]}
        before = time.monotonic()
        apart.api("PUT", "rules", rules)
        until("it holds", lambda is_in=is_in: bool(apart.row(program.pid)) == is_in, 20, 0.02)
        times.append(time.monotonic() - before)
    # A poll whose wake-up is missed ends after 25 seconds.
    assert max(times) < 5 and sorted(times)[len(times) // 2] < 1, times


@pytest.mark.kernel
def test_a_dashboard_from_an_old_copy_is_told_what_it_forgot(captured):
    apart, program, key = captured
    apart.kill("dashboard")
    copy = apart.directory / "copy"
    shutil.copytree(apart.data["dashboard"], copy, ignore=shutil.ignore_patterns("*.sock"))
    apart.start("dashboard")
    until("the dashboard answers", lambda: apart.ask("services"), 20)
    apart.wish(key, "network", 20)
    until("in effect", apart.observes(program, "network"), 20)
    generation = apart.status()["poll"]["generation"]

    apart.kill("dashboard")
    shutil.rmtree(apart.data["dashboard"])
    shutil.copytree(copy, apart.data["dashboard"])
    apart.start("dashboard")
    until("the dashboard answers", lambda: apart.ask("services"), 20)

    def on_node() -> dict:
        rows = apart.ask("services", at="controller")
        return next(row for row in rows if row.get("process.pid") == program.pid)

    def is_wanted() -> bool:
        assert on_node()["sonde.capture.observed"] == "network", "it never goes out of effect"
        return wanted(apart, program) == "network"

    until("the wish is back", is_wanted, 60)
    until("and seen to be in effect", apart.observes(program, "network"), 20)
    until("on from there", lambda: apart.status()["poll"]["generation"] > generation, 20)
    apart.wish(key, "off", 20)
    until("and the next one is obeyed", apart.observes(program, "off"), 20)

import { describe, expect, test } from "vitest";
import type { Node, Token } from "../api/rows";
import {
  address,
  commands,
  configState,
  isLoopback,
  lockOf,
  losses,
  standingOf,
  tokenState,
  wishes,
} from "./fleet";

const NOW = Date.parse("2026-11-25T12:00:00Z");
const node = (more: Partial<Node> = {}): Node => ({
  id: "host-1",
  host_name: "node-1",
  version: "0.1.0",
  kernel: "6.12",
  last_poll: "2026-11-25T11:59:58.123456789Z",
  connected: true,
  generation: 4,
  ...more,
});

test("the worst thing of a node is said first", () => {
  const missing = [{ name: "btf", standing: "missing" as const, found: "" }];
  const said = (more: Partial<Node>) => standingOf(node(more), NOW).text;
  expect(said({})).toBe("works");
  expect(said({ desired_generation: 5 })).toBe("has not taken the last wish yet");
  expect(said({ doctor: missing, desired_generation: 5 })).toBe("no capture: 1 thing missing");
  expect(said({ connected: false, last_poll: "2026-11-25T11:00:00Z", doctor: missing })).toBe(
    "silent for 1 h",
  );
  expect(said({ connected: false })).toBe("works");
  expect(said({ revoked: true, doctor: missing })).toContain("revoked");
  expect(said({ recorded: true, doctor: missing })).toContain("recording");
});

test("wishes taken over, of those there are", () => {
  expect(wishes(node({ generation: 0 }))).toBe("");
  expect(wishes(node({ desired_generation: 4 }))).toBe("4");
  expect(wishes(node({ desired_generation: 1200 }))).toBe("4 of 1,200");
});

describe("configuration", () => {
  const wanted = { hash: "aa", settings: { heartbeat_seconds: 60 } };
  test("is in effect, on its way, or refused with the reason", () => {
    expect(configState({ configuration: wanted }).text).toBe("not taken over yet");
    expect(configState({ configuration: wanted, applied: { hash: "bb" } }).text).toBe("not taken over yet");
    expect(configState({ configuration: wanted, applied: { hash: "aa" } }).text).toBe("in effect");
    const error = "`log` is not in effect: the file sets it.";
    expect(configState({ configuration: wanted, applied: { hash: "aa", error } })).toEqual({
      tone: "bad",
      text: error,
    });
    expect(configState({}).text).toBe("its own");
  });
  test("a value that a node does not take over is locked with its source", () => {
    const error = "`log` is not in effect: the file sets it.";
    expect(lockOf("log", error)).toBe(error);
    expect(lockOf("rescan_seconds", error)).toBeUndefined();
  });
});

test("losses by reason, the most first", () => {
  expect(losses(node({ lost: { ring_full: 3, none: 0, truncated: 9 } }))).toEqual([
    { reason: "truncated", count: 9 },
    { reason: "ring full", count: 3 },
  ]);
});

test("a token says how long it is good", () => {
  const token = (more: Partial<Token>): Token => ({
    id: "1",
    kind: "join",
    name: "",
    created: "",
    expired: false,
    used: 0,
    ...more,
  });
  const said = (more: Partial<Token>) => tokenState(token(more), NOW).text;
  expect(said({})).toBe("until it is revoked");
  expect(said({ expires: "2026-11-25T12:30:00Z" })).toBe("30 minutes more");
  expect(said({ expires: "2026-11-26T12:00:00Z" })).toBe("24 hours more");
  expect(said({ expires: "2026-12-25T12:00:00Z" })).toBe("30 days more");
  expect(said({ expires: "2026-11-25T11:00:00Z" })).toBe("expired");
  expect(said({ expired: true })).toBe("expired");
  expect(said({ uses: 2, used: 2 })).toBe("used up");
});

describe("the commands", () => {
  test("hold the token and the address", () => {
    for (const place of ["host", "docker", "kubernetes"] as const) {
      const text = commands(place, "https://sonde.example", { token: "sonde_join_ab12" });
      expect(text).toContain("sonde_join_ab12");
      expect(text).toContain("https://sonde.example");
    }
  });
  test("never hold what a shell would read", () => {
    expect(commands("host", "http://a", { token: "x; reboot" })).not.toContain("reboot");
    expect(address("http://x; rm -rf /")).toBeUndefined();
    expect(address("http://a'b$(id).example")).toBeUndefined();
    expect(address("javascript:alert(1)")).toBeUndefined();
    expect(address(" https://sonde.example:8443/fleet?x=1 ")).toBe("https://sonde.example:8443");
    expect(address("http://[fd00::7]:8080")).toBe("http://[fd00::7]:8080");
  });
  test("an address that means another machine elsewhere is told", () => {
    for (const url of ["http://localhost:8080", "http://127.8.0.1", "http://[::1]:80"])
      expect(isLoopback(url), url).toBe(true);
    expect(isLoopback("http://10.0.0.7")).toBe(false);
    expect(isLoopback("nonsense")).toBe(false);
  });
});

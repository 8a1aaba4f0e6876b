import { describe, expect, test } from "vitest";
import type { Service } from "../api/rows";
import {
  byHand,
  coverage,
  dial,
  matches,
  place,
  pollOf,
  rollout,
  runtime,
  sentence,
  strongest,
  sure,
  tiers,
  where,
} from "./service";

const row = (more: Partial<Service> = {}): Service => ({
  "service.name": "chat.py",
  "sonde.workload.key": "host-4c/process:9f3a",
  "sonde.platform": "process",
  "sonde.capture.desired": "off",
  "sonde.capture.observed": "off",
  "sonde.capture.state": "discovered",
  "sonde.capture.reason": "",
  ...more,
});

describe("the dial", () => {
  const wanted = (state: Service["sonde.capture.state"]) =>
    dial(row({ "sonde.capture.desired": "network", "sonde.capture.state": state }));
  test("moves at once, as pending", () => {
    expect(dial(row(), { level: "network" })).toEqual({ level: "network", pending: true });
  });
  test("is pending until the node has done it", () => {
    expect(wanted("pending")).toEqual({ level: "network", pending: true });
    expect(wanted("discovered")).toEqual({ level: "network", pending: true });
  });
  test("snaps back when it failed or cannot be", () => {
    expect(wanted("failed")).toEqual({ level: "off", pending: false });
    expect(wanted("unsupported")).toEqual({ level: "off", pending: false });
  });
  test("snaps back when the dashboard refused, and says why", () => {
    const wish = { level: "network" as const, refused: "cannot switch a recording" };
    expect(dial(row(), wish)).toEqual({ level: "off", pending: false });
    expect(sentence(row(), { wish })).toMatchObject({ tone: "bad", text: "cannot switch a recording" });
  });
  test("keeps a wish for a program that does not run", () => {
    expect(wanted("stopped")).toEqual({ level: "network", pending: false });
  });
  test("switching off is pending while probes are attached", () => {
    const capturing = row({ "sonde.capture.observed": "network", "sonde.capture.state": "capturing" });
    expect(dial(capturing)).toEqual({ level: "off", pending: true });
  });
  test("is locked for a recording", () => {
    expect(dial(row({ "sonde.recorded": true })).locked).toBeDefined();
  });
});

test("the strongest evidence counts", () => {
  const evidence = [
    { provider: "openai", by: "dns", seen: "api.openai.com", last_seen: "" },
    { provider: "openai", by: "sni", seen: "api.openai.com", last_seen: "" },
  ];
  expect(strongest(row({ "sonde.evidence": evidence }))?.by).toBe("sni");
});

test("the state says its cause where something is wrong, and keeps the whole reason", () => {
  const said = (state: string, reason: string) =>
    sentence(row({ "sonde.capture.state": state as never, "sonde.capture.reason": reason }));
  expect(said("discovered", "seen; switch it on")).toEqual({
    tone: "calm",
    text: "discovered",
    more: "seen; switch it on",
  });
  expect(said("unsupported", "no TLS library").text).toBe("no TLS library");
  expect(said("failed", "").text).toBe("failed, will be tried again");
  expect(said("constructor", "").text).toBe("constructor");
  const pending = row({
    "sonde.capture.desired": "network",
    "sonde.capture.state": "pending",
    "host.name": "laptop",
  });
  expect(sentence(pending).text).toBe("pending · waits for laptop");
});

test("unknown ways of recognition come last", () => {
  const evidence = [
    { provider: "openai", by: "magic", seen: "?", last_seen: "" },
    { provider: "openai", by: "address", seen: "1.2.3.4", last_seen: "" },
  ];
  expect(strongest(row({ "sonde.evidence": evidence }))?.by).toBe("address");
});

test("where it runs", () => {
  expect(place("host-4c/systemd:a/b.service")).toEqual({ kind: "systemd", name: "a/b.service" });
  expect(where(row({ "sonde.platform": "systemd", "sonde.workload.key": "h/systemd:agent.service" }))).toBe(
    "systemd agent.service",
  );
  expect(where(row({ "host.name": "laptop" }))).toBe("process · laptop");
  const pod = { "k8s.namespace.name": "shop", "sonde.workload.kind": "Deployment" };
  expect(where(row({ "sonde.platform": "kubernetes", ...pod }))).toBe("shop / Deployment");
  expect(runtime({ "process.runtime.name": "cpython", "process.runtime.version": "3.11" })).toBe(
    "Python 3.11",
  );
});

test("the filter looks at words and fields", () => {
  const service = row({ "sonde.providers": ["openai"], "process.runtime.name": "cpython" });
  expect(matches(service, "  chat  python")).toBe(true);
  expect(matches(service, "provider:openai")).toBe(true);
  expect(matches(service, "platform:openai")).toBe(false);
  expect(matches(service, "constructor:x")).toBe(false);
});

test("a pod, a compose service and a unit say where they are", () => {
  const at = (more: Record<string, unknown>) =>
    where(row({ "host.name": "node-1", ...more } as Partial<Service>));
  expect(
    at({ "sonde.platform": "kubernetes", "k8s.namespace.name": "shop", "sonde.workload.kind": "Rollout" }),
  ).toBe("shop / Rollout");
  expect(at({ "sonde.platform": "docker", "container.label.com.docker.compose.project": "ops" })).toBe(
    "compose ops · node-1",
  );
  expect(at({ "sonde.platform": "systemd", "systemd.unit": "bot.service" })).toBe(
    "systemd bot.service · node-1",
  );
});

test("a filter finds namespaces, users and labels", () => {
  const one = row({
    "k8s.namespace.name": "shop",
    "k8s.pod.label.app": "checkout",
    "sonde.instances": [{ "process.pid": 7, "process.owner": "www-data" }],
  });
  for (const yes of ["namespace:shop", "label:app=check", "user:www", "checkout"])
    expect(matches(one, yes), yes).toBe(true);
  for (const no of ["namespace:prod", "label:tier", "user:root"]) expect(matches(one, no), no).toBe(false);
});

test("coverage is said in words, also a word of a newer node", () => {
  expect(coverage({ extent: "not_yet", reason: "Go carries its own TLS." })).toEqual({
    tone: "warn",
    word: "not covered yet",
    reason: "Go carries its own TLS.",
  });
  expect(coverage({ extent: "half" as never }).word).toBe("half");
});

test("a pending wish says how long ago the node answered, by the dashboard's clock", () => {
  const node = {
    id: "host-1",
    host_name: "node-1",
    version: "",
    kernel: "",
    generation: 0,
    connected: true,
    last_poll: "2026-11-25T12:00:00.000000000Z",
  };
  const waits = row({ "host.name": "node-1" });
  const wish = { level: "network" as const };
  const noon = Date.parse("2026-11-25T12:00:00Z");
  // The browser is an hour behind the dashboard.
  const said = (ms: number, more = {}) =>
    sentence(waits, {
      wish,
      poll: pollOf(waits, [{ ...node, ...more }], noon - 3_600_000 + ms, 3_600_000),
    }).text;
  expect(said(400)).toBe("pending · node-1 answered 0.4 s ago");
  expect(said(29_600)).toBe("pending · node-1 answered 29 s ago");
  expect(said(400_000)).toBe("pending · node-1 is silent for 6 min");
  expect(said(15_000, { connected: false })).toBe("pending · node-1 is silent for 15 s");
  expect(pollOf(row({ "host.name": "other" }), [node], noon, 0)).toBeUndefined();
});

test("a wish that a ceiling, another SDK or a person undid snaps back, and says why", () => {
  for (const state of ["blocked", "conflict", "unhealthy", "drifted"] as const) {
    const one = row({
      "sonde.capture.desired": "network",
      "sonde.capture.state": state,
      "sonde.capture.reason": "The node says why.",
    });
    expect(dial(one), state).toEqual({ level: "off", pending: false });
    expect(sentence(one).text, state).toBe("The node says why.");
  }
});

test("what a rule leaves out is said, unless it runs all the same", () => {
  const leftOut = { rule: "exclude 1: namespace=ci", certain: true };
  const gone = row({ "sonde.capture.state": "stopped" });
  expect(sentence(gone, { leftOut }).text).toBe("left out by a rule: exclude 1: namespace=ci");
  expect(sentence(gone).text).toBe("stopped");
  const runs = row({ "sonde.instances": [{ "process.pid": 7 }] });
  expect(sentence(runs, { leftOut }).text).toBe("discovered");
});

test("evidence stands by tiers, with how sure it is", () => {
  const evidence = [
    { provider: "openai", by: "dns", confidence: "hint" as const, seen: "a", last_seen: "" },
    { provider: "openai", by: "sni", confidence: "certain" as const, seen: "b", last_seen: "" },
    { provider: "ours", by: "sni", confidence: "certain" as const, seen: "c", last_seen: "" },
  ];
  const found = tiers(row({ "sonde.evidence": evidence }));
  expect(found.map((tier) => [tier.by, tier.found.length])).toEqual([
    ["sni", 2],
    ["dns", 1],
  ]);
  expect(sure(evidence[1] as never).word).toBe("certain");
  expect(sure({ ...evidence[0], confidence: "guess" } as never).word).toBe("guess");
});

describe("the SDK in a program", () => {
  test("goes three steps, and says why it stops", () => {
    const at = (progress: "injected" | "loaded" | "unsent" | "sent", detail = "") =>
      rollout({ pid: 7, progress, detail });
    expect(at("injected").reached).toBe(1);
    expect(at("loaded")).toEqual({ reached: 2, tone: "calm", why: "It waits for a library that it knows." });
    expect(at("unsent", "the answer is 401")).toEqual({
      reached: 2,
      tone: "bad",
      why: "Its spans do not arrive: the answer is 401",
    });
    expect(at("sent", "openai=2.54.0").reached).toBe(3);
  });
  test("what keeps it out is said where a node says it apart", () => {
    const kept = row({
      "sonde.capture.desired": "full",
      "sonde.capture.observed": "network",
      "sonde.capture.state": "capturing",
      "sonde.agent": { state: "conflict", reason: "Another SDK is in it." },
    });
    expect(dial(kept)).toEqual({ level: "network", pending: false });
    expect(sentence(kept).text).toBe("Another SDK is in it.");
  });
  test("how to do it by hand is apart from what would be done", () => {
    const told = "+A=1\n\nRestart: once\n\nBy hand, with kubectl:\nkubectl edit x\n";
    expect(byHand(told)).toEqual({
      text: "+A=1\n\nRestart: once",
      ways: [{ tool: "kubectl", text: "kubectl edit x" }],
    });
    expect(byHand("\nBy hand, with a shell:\nsonde run -- a\n")).toEqual({
      text: "",
      ways: [{ tool: "a shell", text: "sonde run -- a" }],
    });
  });
});

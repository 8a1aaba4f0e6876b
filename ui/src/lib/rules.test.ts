import { describe, expect, test } from "vitest";
import type { Rule, Rules, Service } from "../api/rows";
import { fieldOf, fits, inWords, leftOut, providerMistakes, ruleMistakes, ruling, typed } from "./rules";

const row = {
  "service.name": "chat.py",
  "sonde.workload.key": "cluster-1/k8s:prod:deployment/chat:app",
  "sonde.platform": "kubernetes",
  "sonde.capture.desired": "off",
  "sonde.capture.observed": "off",
  "sonde.capture.state": "discovered",
  "sonde.capture.reason": "",
  "k8s.namespace.name": "prod",
  "k8s.pod.label.team": "search",
  "container.label.com.example/tier": "gold",
  "sonde.instances": [
    { "process.pid": 7, "process.owner": "alice", "process.executable.path": "/opt/venv/bin/python3.11" },
  ],
} as Service;

const rules = (include: Rule[], exclude: Rule[]): Rules => ({ include, exclude, providers: [] });

// The same table as of the controller's matcher: the tester must not promise what a node does not do.
test("a star stands for any run, and all else for itself", () => {
  for (const [pattern, text, is] of [
    ["api.example", "api.example", true],
    ["api.example", "xapi.example", false],
    ["*", "", true],
    ["*.example", "a.b.example", true],
    ["*.example", ".example", true],
    ["*.example", "example", false],
    ["a*b*c", "a-b-b-c", true],
    ["a*b*c", "a-c-b", false],
    ["**x**", "x", true],
    ["", "", true],
    ["ä*ö", "äxö", true],
    ["a.c", "abc", false],
    ["[a-z]", "a", false],
  ] as const)
    expect(fits(pattern, text), `${pattern} ${text}`).toBe(is);
});

test("a hostile pattern ends soon", () => {
  expect(fits("*a".repeat(128), `${"a".repeat(4096)}b`)).toBe(false);
});

test("every field matches what it names, and all that is given must hold", () => {
  for (const [rule, is] of [
    [{ namespace: "pr*" }, true],
    [{ namespace: "kube-*" }, false],
    [{ label: "team" }, true],
    [{ label: "team=se*" }, true],
    [{ label: "team=billing" }, false],
    [{ label: "com.example/tier=gold" }, true],
    [{ label: "tea" }, false],
    [{ name: "chat.*" }, true],
    [{ name: "*:deployment/chat:*" }, true],
    [{ name: "chat" }, false],
    [{ user: "alice" }, true],
    [{ path: "/opt/*" }, true],
    [{ namespace: "prod", user: "alice" }, true],
    [{ namespace: "prod", user: "bob" }, false],
  ] as const) {
    expect(ruling(rules([], [rule]), row).counts, `exclude ${inWords(rule)}`).toBe(!is);
    expect(ruling(rules([rule], []), row).counts, `include ${inWords(rule)}`).toBe(is);
  }
});

test("exclude is stronger, and the rule that decides is named", () => {
  expect(ruling(rules([{ namespace: "prod" }], [{ user: "alice" }]), row)).toEqual({
    counts: false,
    rule: "exclude 1: user=alice",
  });
  expect(ruling(rules([{ namespace: "x" }, { namespace: "prod" }], []), row)).toEqual({
    counts: true,
    rule: "include 2: namespace=prod",
  });
  expect(leftOut(rules([{ namespace: "x" }], []), row)).toEqual({
    rule: "no include rule matches",
    certain: true,
  });
  expect(leftOut(rules([], [{ user: "bob" }]), row)).toBeUndefined();
  expect(leftOut(undefined, row)).toBeUndefined();
});

test("a rule that is no rule excludes nothing and includes nothing, as on the node", () => {
  expect(ruling(rules([], [{}]), row).counts).toBe(true);
  expect(ruling(rules([{}], []), row).counts).toBe(false);
});

test("without an instance, rules by user and path leave it out perhaps", () => {
  const gone = { ...row, "sonde.instances": [] } as Service;
  const said = (include: Rule[], exclude: Rule[]) => leftOut(rules(include, exclude), gone);
  expect(said([], [{ user: "bob" }])).toEqual({ rule: "exclude 1: user=bob", certain: false });
  expect(said([], [{ user: "bob", namespace: "other" }])).toBeUndefined();
  expect(said([], [{ namespace: "prod" }])).toEqual({ rule: "exclude 1: namespace=prod", certain: true });
  expect(said([{ path: "/opt/*" }], [])).toEqual({ rule: "no include rule matches", certain: false });
  expect(said([{ namespace: "other" }], [])).toEqual({ rule: "no include rule matches", certain: true });
  expect(said([{ namespace: "prod" }], [])).toBeUndefined();
});

test("what is not known of a service does not match", () => {
  const bare = { ...row, "sonde.instances": [], "k8s.namespace.name": undefined } as Service;
  for (const rule of [{ namespace: "*" }, { user: "*" }, { path: "*" }])
    expect(ruling(rules([], [rule]), bare).counts).toBe(true);
});

describe("mistakes stand at their field", () => {
  test("of a rule", () => {
    expect(ruleMistakes({})).toHaveProperty("rule");
    expect(ruleMistakes({ label: "=x" })).toHaveProperty("label");
    expect(ruleMistakes({ label: "x=" })).toHaveProperty("label");
    expect(ruleMistakes({ name: "a\nb" })).toHaveProperty("name");
    expect(ruleMistakes({ path: "a".repeat(257) })).toHaveProperty("path");
    expect(ruleMistakes({ namespace: "prod", label: "a/b=c*" })).toEqual({});
  });
  test("of a provider", () => {
    expect(Object.keys(providerMistakes({}))).toEqual(["name", "host"]);
    expect(providerMistakes({ name: "a", host: "https://a" })).toHaveProperty("host");
    expect(providerMistakes({ name: "a", host: "a", port: 0 })).toHaveProperty("port");
    expect(providerMistakes({ name: "a", host: "a", port: Number.NaN })).toHaveProperty("port");
    expect(providerMistakes({ name: "a", host: "a", path: "llm" })).toHaveProperty("path");
    expect(providerMistakes({ name: "ours", host: "llm.*.example", port: 8443, path: "/llm/" })).toEqual({});
  });
  test("of a refusal", () => {
    expect(fieldOf("cannot take it; `host` is a host name alone", ["name", "host"])).toBe("host");
    expect(fieldOf("cannot take it", ["name", "host"])).toBeUndefined();
  });
});

test("what was typed is trimmed, and what is empty is left out", () => {
  expect(typed({ name: " a ", host: " ", port: undefined })).toEqual({ name: "a" });
});

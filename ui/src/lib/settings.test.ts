import { expect, test } from "vitest";
import type { Layer, Node } from "../api/rows";
import { changed, SETTINGS, scopes, settingsOf, shown, valueMistake } from "./settings";

const of = (name: string) => SETTINGS.find((one) => one.name === name) ?? (SETTINGS[0] as never);

test("layers that can be set: what nodes belong to, and what stands without a node", () => {
  const nodes = [
    { id: "h2", host_name: "b", environment: "prod", cluster: "c1", cluster_name: "eu" },
    { id: "h1", host_name: "a", environment: "prod" },
    { id: "r", host_name: "film", recorded: true },
  ] as Node[];
  const layers: Layer[] = [
    { layer: "fleet", name: "", settings: {} },
    { layer: "environment", name: "old", settings: { log: "warn" } },
  ];
  expect(scopes(nodes, layers).map((one) => `${one.layer} ${one.title}`)).toEqual([
    "fleet All nodes",
    "environment old",
    "environment prod",
    "cluster eu",
    "node a",
    "node b",
  ]);
  expect(settingsOf(layers, "environment", "old")).toEqual({ log: "warn" });
  expect(settingsOf(layers, "node", "h1")).toEqual({});
});

test("a value is set, and inherited again", () => {
  const set = changed({ log: "warn" }, "heartbeat_seconds", "60");
  expect(set).toEqual({ log: "warn", heartbeat_seconds: 60 });
  expect(changed(set, "log", "")).toEqual({ heartbeat_seconds: 60 });
});

test("limits are those of the controllers", () => {
  const heartbeat = of("heartbeat_seconds");
  for (const good of ["", "5", "300"]) expect(valueMistake(heartbeat, good), good).toBeUndefined();
  for (const bad of ["4", "301", "7.5", "x", "-1"]) expect(valueMistake(heartbeat, bad), bad).toBeDefined();
  expect(valueMistake(of("log"), "debug")).toBeUndefined();
});

test("values are shown with their unit or their word", () => {
  expect(shown(of("rescan_seconds"), 30)).toBe("30 s");
  expect(shown(of("default_capture"), "network")).toBe("Network");
  expect(shown(of("log"), undefined)).toBe("");
});

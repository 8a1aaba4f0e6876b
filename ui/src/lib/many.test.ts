import { expect, test } from "vitest";
import type { Service } from "../api/rows";
import { effects, first, grouped } from "./many";

const row = (name: string, more: Record<string, unknown> = {}): Service =>
  ({
    "service.name": name,
    "sonde.workload.key": `h/process:${name}`,
    "sonde.platform": "process",
    "sonde.capture.desired": "off",
    "sonde.capture.observed": "off",
    "sonde.capture.state": "discovered",
    "sonde.capture.reason": "",
    "sonde.instances": [{ "process.pid": 7 }],
    ...more,
  }) as Service;

test("Full is for those whose nodes say that it can be had", () => {
  const rows = [row("a"), row("b"), row("c"), row("d", { "sonde.recorded": true })];
  const no = { possible: false, reason: "It is a bare process." };
  const answers = new Map([
    ["h/process:a", { possible: true, reason: "" }],
    ["h/process:b", no],
  ]);
  const listed = effects(rows, "full", answers);
  expect(listed.map((one) => [one.acts, one.what, one.rows.length])).toEqual([
    [true, "are restarted once, with the SDK", 1],
    [false, "stay as they are: It is a bare process.", 1],
    [false, "are asked what would be changed …", 1],
    [false, "stay as they are: they are played from a recording", 1],
  ]);
});

test("groups by name, those without one last", () => {
  const rows = [
    row("a"),
    row("b", { "k8s.namespace.name": "shop" }),
    row("c", { "k8s.namespace.name": "ci" }),
  ];
  expect(grouped(rows, "namespace").map((one) => [one.name, one.rows.length])).toEqual([
    ["ci", 1],
    ["shop", 1],
    ["", 1],
  ]);
  expect(grouped(rows, undefined)).toEqual([{ name: "", rows }]);
});

test("only so many rows are shown, over all groups", () => {
  const groups = [
    { name: "a", rows: [row("1"), row("2")] },
    { name: "b", rows: [row("3"), row("4")] },
    { name: "c", rows: [row("5")] },
  ];
  expect(first(groups, 3).map((one) => [one.group.name, one.rows.length])).toEqual([
    ["a", 2],
    ["b", 1],
  ]);
});

test("one level has different effects, and each is listed once", () => {
  const on = { "sonde.capture.desired": "network", "sonde.capture.observed": "network" };
  const rows = [
    row("fresh"),
    row("other"),
    row("on", { ...on, "sonde.capture.state": "capturing" }),
    row("still", { "sonde.instances": [], "sonde.capture.state": "stopped" }),
    row("film", { "sonde.recorded": true }),
    row("go", { "sonde.instances": [{ "process.pid": 1, "sonde.coverage": { extent: "not_yet" } }] }),
  ];
  const listed = effects(rows, "network");
  expect(listed.map((one) => [one.acts, one.rows.map((found) => found["service.name"])])).toEqual([
    [true, ["fresh", "other"]],
    [true, ["still"]],
    [true, ["go"]],
    [false, ["on"]],
    [false, ["film"]],
  ]);
  const off = effects(rows, "off").filter((one) => one.acts);
  expect(off.flatMap((one) => one.rows.map((found) => found["service.name"]))).toEqual(["on"]);
});

test("a wish that snapped back can be made again", () => {
  const failed = row("x", { "sonde.capture.desired": "network", "sonde.capture.state": "failed" });
  expect(effects([failed], "network")[0]?.acts).toBe(true);
});

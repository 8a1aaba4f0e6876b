import { describe, expect, test } from "vitest";
import type { Bucket, Overview, Stats } from "../api/rows";
import {
  cell,
  change,
  coloursOf,
  costs,
  csv,
  cumulate,
  errorRate,
  errors,
  percentiles,
  stack,
  tokenParts,
  tokens,
} from "./series";

const stats = (more: Partial<Stats> = {}): Stats => ({
  calls: 0,
  embeddings: 0,
  errors: 0,
  cancelled: 0,
  error_classes: {},
  unpriced_calls: 0,
  ...more,
});
const bucket = (minute: number, more: Partial<Bucket> = {}): Bucket => ({
  ...stats(),
  time: `2026-11-23T20:0${minute}:00.000000000Z`,
  ...more,
});
const overview = (series: Bucket[]): Overview => ({
  from: "2026-11-23T20:00:00Z",
  to: "2026-11-23T20:03:00Z",
  step_seconds: 60,
  totals: stats(),
  previous: stats(),
  series,
  by_model: [],
  services: [],
});

describe("stacks", () => {
  test("the largest names are kept, the rest is summed", () => {
    const part = Object.fromEntries([..."abcdefgh"].map((name, i) => [name, 100 - i]));
    const { series } = stack([bucket(0), bucket(1)], () => part);
    expect(series.map((one) => one.name)).toEqual(["a", "b", "c", "d", "e", "other 3"]);
    expect(series.at(-1)).toMatchObject({ colour: 8, values: [95 + 94 + 93, 95 + 94 + 93] });
  });
  test("there is no `other 1`", () => {
    const part = Object.fromEntries([..."abcdef"].map((name) => [name, 1]));
    expect(stack([bucket(0)], () => part).series.map((one) => one.name)).toEqual([..."abcdef"]);
  });
  test("names of the prototype are only names", () => {
    const hostile = JSON.parse('{"__proto__": 3, "constructor": 2}') as Record<string, number>;
    const { series } = stack([bucket(0), bucket(1)], (b) => (b.time.includes("20:00") ? hostile : {}));
    expect(series.map((one) => [one.name, ...one.values])).toEqual([
      ["__proto__", 3, 0],
      ["constructor", 2, 0],
    ]);
  });
  test("layers add up", () => {
    const { series } = stack([bucket(0), bucket(1)], () => ({ a: 2, b: 1 }));
    expect(cumulate(series)).toEqual([
      [2, 2],
      [3, 3],
    ]);
  });
  test("names shown together have colours of their own", () => {
    const names = [
      "gpt-4.1",
      "gpt-4o",
      "gpt-4o-mini",
      "claude-sonnet-4-5",
      "claude-opus-4-5",
      "gemini-2.5-pro",
      "o3",
    ];
    expect(new Set(coloursOf(names).values()).size).toBe(7);
  });
});

describe("the overview's charts", () => {
  test("cost by model", () => {
    const split = overview([bucket(0, { cost: "0.3", cost_by_model: { a: "0.1", b: "0.2" } }), bucket(1)]);
    expect(costs(split).series.map((one) => [one.name, ...one.values])).toEqual([
      ["b", 0.2, 0],
      ["a", 0.1, 0],
    ]);
  });
  test("cost that is not split is one layer, and unknown cost is none", () => {
    expect(costs(overview([bucket(0, { cost: "0.3" })])).series.map((one) => one.name)).toEqual([
      "all models",
    ]);
    expect(costs(overview([bucket(0)])).series).toEqual([]);
  });
  test("a percentile without calls is a gap, not zero", () => {
    const duration = { count: 3, p50: 1, p95: 2, p99: 3 };
    const { series } = percentiles(overview([bucket(0, { duration }), bucket(1)]), "duration");
    expect(series.map((one) => one.values)).toEqual([
      [1, null],
      [2, null],
      [3, null],
    ]);
  });
  test("an error class keeps its colour", () => {
    const { series } = errors(
      overview([bucket(0, { error_classes: { overloaded: 5, rate_limit: 2, made_up: 1 } })]),
    );
    expect(series.map((one) => [one.name, one.colour])).toEqual([
      ["overloaded", 2],
      ["rate_limit", 7],
      ["made_up", 8],
    ]);
  });
  test("parts of tokens add up to the totals", () => {
    const usage = {
      input_tokens: 100,
      cache_read_tokens: 60,
      cache_write_tokens: 10,
      output_tokens: 50,
      reasoning_tokens: 20,
    };
    expect(tokenParts(usage)).toEqual({
      "cache read": 60,
      "cache write": 10,
      input: 30,
      output: 30,
      reasoning: 20,
    });
    expect(tokens(overview([bucket(0, usage)])).series.map((one) => one.name)).toEqual([
      "cache read",
      "cache write",
      "input",
      "output",
      "reasoning",
    ]);
  });
});

describe("change", () => {
  test("is judged only beyond 10 % and with enough calls", () => {
    expect(change(112, 100, 500, "down")).toEqual({ text: "+12 %", verdict: "worse" });
    expect(change(80, 100, 500, "down")).toEqual({ text: "−20 %", verdict: "better" });
    expect(change(80, 100, 99, "down")).toEqual({ text: "−20 %" });
    expect(change(109, 100, 500, "down")).toEqual({ text: "+9 %" });
  });
  test("is not made up where there was nothing before", () => {
    expect(change(5, 0, 500, "up").text).toBe("");
    expect(change(5, undefined, 500, "up").text).toBe("");
    expect(change(undefined, 5, 500, "up").text).toBe("");
    expect(change(1480, 1, 1, "none").text).toBe("");
  });
  test("is a factor where per cent would be long", () => {
    expect(change(1500, 100, 100, "none").text).toBe("× 15");
  });
});

test("calls that the client ended are no part of the error rate", () => {
  expect(errorRate(stats({ calls: 11, errors: 2, cancelled: 1 }))).toBe(0.2);
  expect(errorRate(stats({ calls: 1, cancelled: 1 }))).toBeUndefined();
});

test("CSV carries no formulas and keeps gaps empty", () => {
  expect(cell("=1+1")).toBe("'=1+1");
  expect(cell('a,"b"')).toBe('"a,""b"""');
  const text = csv({ times: [0, 60], series: [{ name: "p50", colour: 1, values: [1.5, null] }] });
  expect(text).toBe("time,p50\n1970-01-01T00:00:00.000Z,1.5\n1970-01-01T00:01:00.000Z,\n");
});

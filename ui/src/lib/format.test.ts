import { describe, expect, test } from "vitest";
import {
  ago,
  axisMoney,
  bytes,
  clock,
  count,
  duration,
  money,
  percent,
  plain,
  plural,
  step,
  sumMoney,
  three,
  whole,
} from "./format";

describe("three significant digits", () => {
  test.each([
    [0, "0"],
    [8.1, "8.10"],
    [9.996, "10.0"],
    [99.96, "100"],
    [999.6, "1,000"],
    [0.01234, "0.0123"],
    [0.09999, "0.100"],
    [12345, "12,300"],
    [Number.NaN, "–"],
    [Number.POSITIVE_INFINITY, "–"],
  ])("%d is %s", (value, text) => expect(three(value)).toBe(text));
});

describe("units", () => {
  test.each([
    [0.00004, "40.0 µs"],
    [0.94, "940 ms"],
    [0.9994, "999 ms"],
    [0.9996, "1.00 s"],
    [8.1, "8.10 s"],
    [119.9, "120 s"],
    [150, "2.50 min"],
    [7200, "2.00 h"],
    [0, "0 s"],
  ])("%d seconds read %s", (seconds, text) => expect(plain(duration(seconds))).toBe(text));
  test.each([
    [0, "0"],
    [9120, "9,120"],
    [26708, "26.7 k"],
    [999_499, "999 k"],
    [999_500, "1.00 M"],
    [88_200_000, "88.2 M"],
    [4_100_000_000, "4.10 G"],
  ])("%d tokens read %s", (value, text) => expect(plain(count(value))).toBe(text));
  test("bytes", () =>
    expect([12, 21_400, 4_194_304].map((b) => plain(bytes(b)))).toEqual(["12 B", "21.4 kB", "4.19 MB"]));
  test.each([
    [0, "0 %"],
    [0.0184, "1.8 %"],
    [0.71, "71.0 %"],
    [1, "100 %"],
    [Number.NaN, "–"],
  ])("a share of %d is %s", (share, text) => expect(plain(percent(share))).toBe(text));
  test("whole numbers", () =>
    expect([0, 999, 48213, 1_000_000].map(whole)).toEqual(["0", "999", "48,213", "1,000,000"]));
});

describe("money", () => {
  test.each([
    ["0", "$0"],
    ["0.0395", "$0.0395"],
    ["0.00012345", "$0.000123"],
    ["0.5", "$0.500"],
    ["0.018", "$0.0180"],
    ["0.09996", "$0.100"],
    ["0.1107", "$0.111"],
    ["0.0000001", "<$0.000001"],
    ["0.999", "$1.00"],
    ["98.139", "$98.14"],
    ["3902", "$3,902.00"],
    ["1234567.8", "$1.23 M"],
    ["", "–"],
    ["abc", "–"],
  ])("%s reads %s", (amount, text) => expect(money(amount)).toBe(text));
  test("on an axis", () =>
    expect([0.4, 0.25, 0.005, 10].map(axisMoney)).toEqual(["$0.40", "$0.25", "$0.005", "$10.00"]));
  test("a sum of nothing known is not zero", () => {
    expect(sumMoney([undefined, undefined])).toBeUndefined();
    expect(sumMoney(["0.1", undefined, "0.25"])).toBeCloseTo(0.35, 12);
  });
});

describe("time", () => {
  const now = Date.parse("2026-11-23T20:00:00Z");
  test.each([
    ["2026-11-23T19:59:55.123456789Z", "now"],
    ["2026-11-23T19:59:20Z", "40 s"],
    ["2026-11-23T19:51:00Z", "9 min"],
    ["2026-11-23T15:00:00Z", "5 h"],
    ["2026-11-20T15:00:00Z", "3 d"],
    ["2026-11-23T20:00:09Z", "now"],
    ["not a time", "not seen"],
    [undefined, "not seen"],
  ])("%s was %s ago", (time, text) => expect(ago(time, now)).toBe(text));
  test("nanoseconds are cut, not misread", () =>
    expect(clock("2026-11-23T20:00:09.987654321Z")).toMatch(/:09\.987$/));
  test("steps", () =>
    expect([10, 60, 300, 3600, 21600, 86400].map(step)).toEqual([
      "10 s",
      "1 min",
      "5 min",
      "1 h",
      "6 h",
      "1 d",
    ]));
  test("plural", () => expect([plural(1, "call"), plural(1394, "call")]).toEqual(["1 call", "1,394 calls"]));
});

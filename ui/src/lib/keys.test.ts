import { expect, test } from "vitest";
import { KEYS, press } from "./keys";

test("pairs within a moment", () => {
  const first = press({}, "g", 0);
  expect(first.hit).toBeUndefined();
  expect(press(first.reading, "s", 500).hit).toBe("g s");
  expect(press(first.reading, "s", 5000).hit).toBeUndefined();
});

test("a single key ends a pair that was begun", () => {
  const first = press({}, "g", 0);
  expect(press(first.reading, "j", 100)).toEqual({ reading: {}, hit: "j" });
});

test("other keys are nobody's", () => {
  expect(press({}, "q", 0)).toEqual({ reading: {} });
  expect(press({}, "toString", 0).hit).toBeUndefined();
});

test("no key stands twice, and none begins a pair and stands alone", () => {
  const names: string[] = KEYS.map((one) => one.keys);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) if (name.includes(" ")) expect(names).not.toContain(name.split(" ")[0]);
});

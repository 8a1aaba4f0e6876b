import { expect, test } from "vitest";
import { query, rangeSeconds, readSpan } from "./range";

const now = Date.parse("2026-11-23T20:00:00Z");

test("a moving range has no end", () => {
  expect(query({}, now)).toEqual({ from: "2026-11-23T19:00:00.000Z" });
  expect(query({ range: "6h" }, now)).toEqual({ from: "2026-11-23T14:00:00.000Z" });
});

test("a fixed span has both ends", () => {
  const span = readSpan({ from: String(now - 60_000), to: now });
  expect(query(span, now + 1e9)).toEqual({
    from: "2026-11-23T19:59:00.000Z",
    to: "2026-11-23T20:00:00.000Z",
  });
  expect(rangeSeconds(span)).toBe(60);
});

test.each([
  [{ range: "99y" }],
  [{ from: "x", to: "y" }],
  [{ from: now, to: now - 1 }],
  [{ from: 1, to: 1e300 }],
  [{ range: { toString: 1 } }],
])("nonsense in the URL is ignored: %j", (search) => expect(readSpan(search)).toEqual({}));

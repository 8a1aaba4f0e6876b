import { describe, expect, test } from "vitest";
import type { Call } from "../api/rows";
import {
  finish,
  firstToken,
  merge,
  ofConversation,
  passes,
  readCallSearch,
  readFilter,
  terms,
  unpriced,
  withoutTerm,
  withTerm,
} from "./call";

const row = (more: Partial<Call> = {}): Call => ({
  time: "2026-11-23T20:00:00.000000000Z",
  "sonde.call.id": "1",
  trace_id: "t",
  span_id: "s",
  ...more,
});

describe("how a call ended", () => {
  test.each<[Partial<Call>, string, string]>([
    [{ "gen_ai.response.finish_reasons": ["stop"], "http.response.status_code": 200 }, "stop", "plain"],
    [{ "gen_ai.response.finish_reasons": ["stop", "stop"] }, "stop", "plain"],
    [{ "gen_ai.response.finish_reasons": ["length"] }, "length", "warn"],
    [{ "error.type": "rate_limit", "http.response.status_code": 429 }, "429 rate limit", "bad"],
    [{ "error.type": "429", "http.response.status_code": 429 }, "429", "bad"],
    [{ "error.type": "stream_broken", "http.response.status_code": 200 }, "stream broken", "bad"],
    [{ "error.type": "client_cancelled" }, "cancelled", "warn"],
    [{ "http.response.status_code": 500 }, "500", "bad"],
    [{ "sonde.incomplete": "gap" }, "seen in part", "warn"],
    [{ "http.response.status_code": 200 }, "200", "plain"],
    [{}, "not seen", "plain"],
  ])("%j", (more, text, tone) => expect(finish(row(more))).toEqual({ text, tone }));
});

test("a price is missing only where there could be one", () => {
  expect(unpriced(row({ "gen_ai.usage.input_tokens": 5 }))).toBe(true);
  expect(unpriced(row({ "gen_ai.usage.input_tokens": 5, "sonde.cost": "0" }))).toBe(false);
  expect(unpriced(row({ "error.type": "rate_limit" }))).toBe(false);
});

test("the first token is better than the first chunk", () => {
  expect(
    firstToken(row({ "gen_ai.response.time_to_first_chunk": 0.1, "sonde.time_to_first_token": 0.2 })),
  ).toBe(0.2);
  expect(firstToken(row({ "gen_ai.response.time_to_first_chunk": 0.1 }))).toBe(0.1);
  expect(firstToken(row())).toBeUndefined();
});

test("arriving rows are chosen as the API chooses", () => {
  const call = row({ "service.name": "a", "sonde.workload.key": "h/process:1", "gen_ai.request.model": "m" });
  expect(passes(call, { service: "a", model: "m", status: "ok" })).toBe(true);
  expect(passes(call, { service: "h/process:1" })).toBe(true);
  expect(passes(call, { service: "b" })).toBe(false);
  expect(passes(call, { status: "error" })).toBe(false);
  expect(passes(call, { provider: "openai" })).toBe(false);
  const cancelled = row({ "error.type": "Cancelled" });
  expect(passes(cancelled, { status: "error" })).toBe(false);
  expect(passes(cancelled, { status: "cancelled" })).toBe(true);
});

test("rows are merged newest first, each once", () => {
  const older = [row({ "sonde.call.id": "2", time: "2026-11-23T20:00:02.000000001Z" }), row()];
  const fresh = [
    row({ "sonde.call.id": "3", time: "2026-11-23T20:00:01.000000000Z" }),
    row({ "sonde.call.id": "2", time: "2026-11-23T20:00:02.000000001Z" }),
  ];
  expect(merge(fresh, older).map((one) => one["sonde.call.id"])).toEqual(["2", "3", "1"]);
});

test("the filter line", () => {
  expect(readFilter("model:gpt-4.1:free status:error words cost:>1 status:maybe")).toEqual({
    model: "gpt-4.1:free",
    status: "error",
    filter: "words cost:>1 status:maybe",
  });
  expect(readFilter("  model:gpt-4* -provider:openai service:a,b ")).toEqual({
    filter: "model:gpt-4* -provider:openai service:a,b",
  });
  expect(readFilter(" ")).toEqual({});
});

test("terms of the filter language", () => {
  expect(terms('duration:>5s "two words" tool:"a \\" b" open:"to the end')).toEqual([
    "duration:>5s",
    '"two words"',
    'tool:"a \\" b"',
    'open:"to the end',
  ]);
  expect(withTerm("cost:>1 tool:x", "cost:>1")).toBe("tool:x cost:>1");
  expect(withTerm(undefined, "cost:>1")).toBe("cost:>1");
  expect(withoutTerm("cost:>1 tool:x", "cost:>1")).toBe("tool:x");
  expect(withoutTerm("cost:>1", "cost:>1")).toBeUndefined();
  expect(ofConversation('a "b" \\ c')).toBe('conversation:"a \\"b\\" \\\\ c"');
  expect(terms(ofConversation('a "b" \\ c'))).toHaveLength(1);
});

test("nonsense in the URL is ignored", () => {
  expect(readCallSearch({ status: "x", model: { a: 1 }, call: "" })).toEqual({});
  expect(readCallSearch({ status: "error", model: 4, provider: "openai" })).toEqual({
    status: "error",
    model: "4",
    provider: "openai",
  });
});

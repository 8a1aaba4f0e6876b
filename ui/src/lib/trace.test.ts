import { expect, test } from "vitest";
import type { Call, Run } from "../api/rows";
import { lines } from "./trace";

const at = (millis: number) => new Date(1_795_435_200_000 + millis).toISOString();
const call = (id: string, parent: string | undefined, millis: number): Call => ({
  time: at(millis),
  "sonde.call.id": id,
  trace_id: "t",
  span_id: id,
  ...(parent === undefined ? {} : { parent_span_id: parent }),
  "gen_ai.request.model": "gpt-4o",
  "sonde.duration": 0.5,
});
const run = (id: string, parent: string | undefined, millis: number, kind = "agent"): Run => ({
  time: at(millis),
  trace_id: "t",
  span_id: id,
  ...(parent === undefined ? {} : { parent_span_id: parent }),
  kind,
  name: `the ${kind}`,
});
const shape = (calls: Call[], runs: Run[]) =>
  lines({ calls, runs }).map((line) => `${"-".repeat(line.depth)}${line.id}`);

test("children stand below their parents in order of time", () => {
  const calls = [call("late", "agent", 900), call("inner", "tool", 300)];
  const runs = [run("tool", "agent", 200, "tool"), run("agent", "gone", 100)];
  expect(shape(calls, runs)).toEqual(["agent", "-tool", "--inner", "-late"]);
  const [agent, tool, inner] = lines({ calls, runs });
  expect([agent?.name, tool?.kind, inner?.name]).toEqual(["the agent", "tool", "gpt-4o"]);
  expect(inner?.start).toBeCloseTo(0.2, 6);
});

test("a ring and a span that is its own parent are shown once", () => {
  expect(shape([call("own", "own", 0)], []).sort()).toEqual(["own"]);
  expect(shape([], [run("a", "b", 0), run("b", "a", 1)])).toEqual(["a", "-b"]);
});

test("a trace of nothing has no line", () => {
  expect(lines({ calls: [] })).toEqual([]);
});

import { expect, test } from "vitest";
import type { Happened, Node } from "../api/rows";
import { deeds, told } from "./history";

const nodes = [{ id: "host-1", host_name: "node-1" }] as Node[];
const entry = (more: Partial<Happened>): Happened => ({
  time: "",
  kind: "wish",
  actor: "page",
  what: "",
  ...more,
});

test("wishes, names and states are told with who and why", () => {
  expect(told(entry({ what: "network network", reason: "asked by ops" }), nodes)).toMatchObject({
    what: "Network was chosen",
    who: "on the page",
    why: "asked by ops",
  });
  expect(told(entry({ kind: "name", what: "", actor: "command line" }), nodes)).toMatchObject({
    what: "its own name again",
    who: "on the command line",
  });
  const state = entry({ kind: "state", what: "capturing", actor: "host-1", instance: "host-1" });
  expect(told(state, nodes)).toMatchObject({ tone: "good", what: "capturing", who: "node-1" });
});

test("a step is told by what it does, with what came out of it", () => {
  const step = entry({
    kind: "step",
    actor: "node node-1",
    what: "failed",
    step: "s1",
    duration_ms: 1500,
    output: "no space left",
  });
  const said = told(step, nodes, { s1: "restart" });
  expect(said.what).toBe("“restart” failed after 1.50 s");
  expect(said.details).toEqual([{ name: "output", text: "no space left" }]);
  expect(told(step, nodes).what).toBe("a step failed after 1.50 s");
});

test("words of a newer version are shown as they came", () => {
  expect(told(entry({ kind: "omen", what: "crow" }), nodes).what).toBe("omen crow");
  expect(told(entry({ kind: "state", what: "constructor" }), nodes).what).toBe("constructor");
});

test("a step under way can be taken back, and what failed last can be tried again", () => {
  const step = (id: string, what: string) => entry({ kind: "step", step: id, what, instance: "host-1" });
  const state = (what: string) => entry({ kind: "state", what, instance: "host-1" });
  expect([...deeds([step("s1", "running"), step("s1", "sent"), step("s1", "made")])]).toEqual([
    [0, "cancel"],
  ]);
  expect([...deeds([step("s1", "done"), step("s1", "running")])]).toEqual([]);
  expect([...deeds([step("s1", "failed"), step("s1", "running")])]).toEqual([[0, "retry"]]);
  expect([...deeds([step("s2", "done"), step("s1", "failed")])]).toEqual([]);
  expect([...deeds([state("failed"), state("capturing")])]).toEqual([[0, "retry"]]);
  expect([...deeds([state("capturing"), state("failed")])]).toEqual([]);
  expect([...deeds([entry({ what: "network off" })])]).toEqual([]);
});

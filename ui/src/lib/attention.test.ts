import { expect, test } from "vitest";
import type { Node, Overview, Service, ServiceModel, Stats, Status } from "../api/rows";
import { notices } from "./attention";

const now = Date.parse("2026-11-23T20:00:00Z");
const stats: Stats = {
  calls: 0,
  embeddings: 0,
  errors: 0,
  cancelled: 0,
  error_classes: {},
  unpriced_calls: 0,
};
const node: Node = {
  id: "n",
  host_name: "laptop",
  version: "0",
  kernel: "6.1",
  last_poll: "2026-11-23T19:59:59Z",
  generation: 1,
};
const status = (...instances: Node[]): Status => ({ version: "0", recorded: false, instances });
const overview = (more: Partial<Overview>): Overview => ({
  from: "",
  to: "",
  step_seconds: 60,
  totals: stats,
  previous: stats,
  series: [],
  by_model: [],
  services: [],
  ...more,
});

test("all is well, and nothing is said", () => {
  const doctor = [{ name: "btf", standing: "good" as const, found: "there" }];
  expect(notices(overview({}), [], status({ ...node, doctor, lost: { ring_full: 0 } }), now)).toEqual([]);
});

test("what a node lacks and lost", () => {
  const doctor = [{ name: "btf", standing: "missing" as const, found: "no BTF", remedy: "…" }];
  const found = notices(undefined, [], status({ ...node, doctor, lost: { ring_full: 3 } }), now);
  expect(found.map((one) => [one.tone, one.more])).toEqual([
    ["bad", "no BTF"],
    ["warn", "3 ring full"],
  ]);
});

test("a silent node is told apart from one that waits in a poll, and from a recording", () => {
  const old = { ...node, last_poll: "2026-11-23T19:00:00Z" };
  expect(notices(undefined, [], status(old), now)).toHaveLength(1);
  expect(notices(undefined, [], status({ ...old, connected: true }), now)).toEqual([]);
  expect(notices(undefined, [], status({ ...old, recorded: true, lost: { chunks: 1 } }), now)).toEqual([]);
});

test("a wish that failed is said, one that was never made is not", () => {
  const row = {
    "service.name": "a",
    "sonde.workload.key": "h/process:a",
    "sonde.capture.desired": "network",
    "sonde.capture.state": "failed",
    "sonde.capture.reason": "no libssl was found",
  } as Service;
  expect(notices(undefined, [row], undefined, now).map((one) => one.more)).toEqual(["no libssl was found"]);
  expect(notices(undefined, [{ ...row, "sonde.capture.desired": "off" }], undefined, now)).toEqual([]);
});

test("errors and missing prices come from the numbers", () => {
  const failing: ServiceModel = {
    ...stats,
    "service.name": "a",
    "gen_ai.request.model": "m",
    calls: 100,
    errors: 5,
    error_classes: { rate_limit: 4, server: 1 },
  };
  const found = notices(
    overview({
      services: [failing, { ...failing, errors: 1 }],
      by_model: [{ ...stats, "gen_ai.request.model": "x", unpriced_calls: 7 }],
    }),
    [],
    undefined,
    now,
  );
  expect(found.map((one) => `${one.subject} ${one.text}: ${one.more}`)).toEqual([
    "a fails in 5.0 % of its calls to m: 4 rate limit · 1 server",
    "x has no price for 7 calls: Their cost is in no sum.",
  ]);
});

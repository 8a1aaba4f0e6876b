// The tree of a trace: calls, and the agents and tools around them.
import type { Call, Run, Trace } from "../api/rows";
import { model } from "./call";

/** A line of the tree. */
interface Line {
  id: string;
  depth: number;
  /** `agent`, `tool`, …; `call` for a model call. */
  kind: string;
  name: string;
  failed: boolean;
  /** Seconds from the start of the trace to its own. */
  start: number;
  /** Seconds; absent where it is not known. */
  duration: number | undefined;
  /** The call that the line is. */
  call: Call | undefined;
}

/** Lines of a tree in the order in which they stand; a line whose parent is not kept is at the top. */
export function lines(trace: Trace): Line[] {
  const items: (Call | Run)[] = [...trace.calls, ...(trace.runs ?? [])];
  const known = new Set(items.map((item) => item.span_id));
  const below = new Map<string, (Call | Run)[]>();
  for (const item of items) {
    const parent = item.parent_span_id;
    const place = parent !== undefined && parent !== item.span_id && known.has(parent) ? parent : "";
    below.set(place, [...(below.get(place) ?? []), item]);
  }
  const begin = items.reduce((least, item) => (item.time < least ? item.time : least), items[0]?.time ?? "");
  const found: Line[] = [];
  const done = new Set<string>();
  const add = (place: string, depth: number) => {
    const children = [...(below.get(place) ?? [])].sort((a, b) => (a.time < b.time ? -1 : 1));
    for (const item of children) {
      // Ids that come twice, or parents in a ring, must not hang the page.
      if (done.has(item.span_id)) continue;
      done.add(item.span_id);
      found.push(line(item, depth, begin));
      add(item.span_id, depth + 1);
    }
  };
  add("", 0);
  for (const item of items) {
    if (!done.has(item.span_id)) {
      done.add(item.span_id);
      found.push(line(item, 0, begin));
      add(item.span_id, 1);
    }
  }
  return found;
}

function line(item: Call | Run, depth: number, begin: string): Line {
  const shared = {
    id: item.span_id,
    depth,
    failed: item["error.type"] !== undefined,
    start: seconds(item.time) - seconds(begin),
    duration: item["sonde.duration"],
  };
  if (isCall(item)) {
    return { ...shared, kind: "call", name: model(item) ?? "model not known", call: item };
  }
  const name = item.name ?? item["gen_ai.operation.name"] ?? "";
  return { ...shared, kind: item.kind, name, call: undefined };
}

function isCall(item: Call | Run): item is Call {
  return "sonde.call.id" in item;
}

/** Seconds of a time as the dashboard writes it, to the microsecond and better. */
function seconds(time: string): number {
  const whole = Date.parse(time);
  const fraction = /\.\d{3}(\d+)/.exec(time)?.[1] ?? "";
  return Number.isNaN(whole) ? 0 : whole / 1000 + Number(`0.000${fraction}`);
}

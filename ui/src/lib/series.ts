// The overview's numbers as the charts draw them: columns over time, one a series.
import type { Bucket, Overview, Stats } from "../api/rows";
import { at } from "./format";

/** One line or one layer of a stack. `null` is a gap. */
export interface Series {
  name: string;
  /** Index of the palette, 1 to 8. */
  colour: number;
  values: (number | null)[];
}

export interface Columns {
  /** Starts of the buckets, seconds since 1970. */
  times: number[];
  series: Series[];
}

/** The palette's last colour stands for everything else. */
const OTHER_COLOUR = 8;
const NAMED = 5;

/** A colour for a name that is the same on every page and every visit. */
function colourOf(name: string): number {
  let hash = 2166136261;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619) >>> 0;
  return (hash % 7) + 1;
}

/** Colours for names shown together: each its own where free, else the next free one. */
export function coloursOf(names: string[]): Map<string, number> {
  const given = new Map<string, number>();
  const taken = new Set<number>();
  for (const name of [...names].sort()) {
    let colour = colourOf(name);
    for (let i = 0; i < 7 && taken.has(colour); i++) colour = (colour % 7) + 1;
    taken.add(colour);
    given.set(name, colour);
  }
  return given;
}

export function times(series: Bucket[]): number[] {
  return series.map((bucket) => (at(bucket.time) ?? 0) / 1000);
}

/** Splits every bucket by name and keeps the largest names; the rest is summed as `other n`. */
export function stack(series: Bucket[], split: (bucket: Bucket) => Record<string, number>): Columns {
  const parts = series.map(split);
  const sums = new Map<string, number>();
  for (const part of parts)
    for (const [name, value] of Object.entries(part)) sums.set(name, (sums.get(name) ?? 0) + value);
  const names = [...sums].filter(([, sum]) => sum > 0).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  // One name too many is better named than called `other 1`.
  const kept = names.slice(0, names.length === NAMED + 1 ? NAMED + 1 : NAMED).map(([name]) => name);
  const colours = coloursOf(kept);
  const own = (part: Record<string, number>, name: string) =>
    Object.hasOwn(part, name) ? (part[name] ?? 0) : 0;
  const columns: Series[] = kept.map((name) => ({
    name,
    colour: colours.get(name) ?? OTHER_COLOUR,
    values: parts.map((part) => own(part, name)),
  }));
  const rest = names.slice(kept.length).map(([name]) => name);
  if (rest.length > 0) {
    const values = parts.map((part) => rest.reduce((sum, name) => sum + own(part, name), 0));
    columns.push({ name: `other ${rest.length}`, colour: OTHER_COLOUR, values });
  }
  return { times: times(series), series: columns };
}

/** Cost by model, in USD. Without a split by model, all of it is one layer. */
export function costs(overview: Overview): Columns {
  return stack(overview.series, (bucket) => {
    if (bucket.cost_by_model !== undefined) {
      return Object.fromEntries(
        Object.entries(bucket.cost_by_model).map(([name, amount]) => [name, Number(amount)]),
      );
    }
    return bucket.cost === undefined ? {} : { "all models": Number(bucket.cost) };
  });
}

const ERROR_COLOURS: Record<string, number> = {
  rate_limit: 7,
  overloaded: 2,
  stream_broken: 4,
  server: 6,
  timeout: 5,
  auth: 1,
  network: 3,
};

/** Errors by class; a class keeps its colour where it has one of its own. */
export function errors(overview: Overview): Columns {
  const columns = stack(overview.series, (bucket) => bucket.error_classes);
  for (const one of columns.series) one.colour = ERROR_COLOURS[one.name] ?? OTHER_COLOUR;
  return columns;
}

/** Percentiles as lines: a bucket without calls is a gap. */
export function percentiles(overview: Overview, of: "duration" | "time_to_first_chunk"): Columns {
  const line = (name: "p50" | "p95" | "p99", colour: number): Series => ({
    name,
    colour,
    values: overview.series.map((bucket) => bucket[of]?.[name] ?? null),
  });
  return { times: times(overview.series), series: [line("p50", 8), line("p95", 1), line("p99", 6)] };
}

/** Tokens by kind. Cached input is part of the input, and is shown apart from it. */
export function tokens(overview: Overview): Columns {
  const columns = stack(overview.series, tokenParts);
  const order = ["cache read", "cache write", "input", "output", "reasoning"];
  columns.series.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  for (const one of columns.series) one.colour = TOKEN_COLOURS[one.name] ?? OTHER_COLOUR;
  return columns;
}

export const TOKEN_COLOURS: Record<string, number> = {
  "cache read": 3,
  "cache write": 5,
  input: 1,
  output: 6,
  reasoning: 4,
};

type Usage = Pick<
  Stats,
  "input_tokens" | "output_tokens" | "cache_read_tokens" | "cache_write_tokens" | "reasoning_tokens"
>;

/** Totals that include their parts, as parts that add up to the totals. */
export function tokenParts(usage: Usage): Record<string, number> {
  const read = usage.cache_read_tokens ?? 0;
  const write = usage.cache_write_tokens ?? 0;
  const reasoning = usage.reasoning_tokens ?? 0;
  return {
    "cache read": read,
    "cache write": write,
    input: Math.max(0, (usage.input_tokens ?? 0) - read - write),
    output: Math.max(0, (usage.output_tokens ?? 0) - reasoning),
    reasoning,
  };
}

/** Tops of the layers, so that drawing from the last to the first gives a stack. */
export function cumulate(series: Series[]): number[][] {
  const tops: number[][] = [];
  let below: number[] | undefined;
  for (const one of series) {
    const base = below;
    const top = one.values.map((value, i) => (value ?? 0) + (base?.[i] ?? 0));
    tops.push(top);
    below = top;
  }
  return tops;
}

/** Below this many calls, a change says nothing. */
const FEW = 10;

export interface Change {
  text: string;
  /** Set only when the change is larger than 10 % and than chance. */
  verdict?: "better" | "worse";
}

/** Change against the period before. `enough` is the smaller number of calls behind the two. */
export function change(
  now: number | undefined,
  before: number | undefined,
  enough: number,
  good: "up" | "down" | "none",
): Change {
  if (now === undefined || before === undefined || before === 0 || enough < FEW) return { text: "" };
  const part = (now - before) / before;
  const size = Math.abs(part) * 100;
  const sign = part < 0 ? "−" : "+";
  const text =
    size < 0.5 ? "no change" : size > 999 ? `× ${Math.round(now / before)}` : `${sign}${size.toFixed(0)} %`;
  if (good === "none" || size <= 10 || enough < 100) return { text };
  return { text, verdict: part > 0 === (good === "up") ? "better" : "worse" };
}

/** Share of failed calls; calls that the client ended are no part of it. */
export function errorRate(stats: Stats): number | undefined {
  const ended = stats.calls - stats.cancelled;
  return ended > 0 ? stats.errors / ended : undefined;
}

/** The whole table behind a chart, as CSV. */
export function csv(columns: Columns): string {
  const head = ["time", ...columns.series.map((one) => one.name)].map(cell).join(",");
  const lines = columns.times.map((time, i) =>
    [new Date(time * 1000).toISOString(), ...columns.series.map((one) => String(one.values[i] ?? ""))].join(
      ",",
    ),
  );
  return `${[head, ...lines].join("\n")}\n`;
}

/** One cell: quoted where needed, and never a formula of a spreadsheet. */
export function cell(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

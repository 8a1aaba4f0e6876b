// Many services at once: in groups, and what one level means for each of those that are selected.
import type { Level, Service } from "../api/rows";
import { dial, LEVELS } from "./service";

export const GROUPS = ["namespace", "platform", "host"] as const;
export type Grouping = (typeof GROUPS)[number];

export const isGrouping = (value: unknown): value is Grouping =>
  (GROUPS as readonly unknown[]).includes(value);

export interface Group {
  /** Name of the group; empty where the rows have none. */
  name: string;
  rows: Service[];
}

function groupOf(row: Service, by: Grouping): string {
  const text = (name: string) => (typeof row[name] === "string" ? (row[name] as string) : "");
  if (by === "platform") return row["sonde.platform"];
  if (by === "host") return row["host.name"] ?? "";
  return (
    text("k8s.namespace.name") ||
    text("service.namespace") ||
    text("container.label.com.docker.compose.project")
  );
}

/** Rows in groups by name, those without one last; one group without a name when nothing is asked. */
export function grouped(rows: Service[], by: Grouping | undefined): Group[] {
  if (by === undefined) return [{ name: "", rows }];
  const all = new Map<string, Service[]>();
  for (const row of rows) {
    const name = groupOf(row, by);
    const known = all.get(name);
    if (known === undefined) all.set(name, [row]);
    else known.push(row);
  }
  return [...all]
    .sort(([a], [b]) => Number(a === "") - Number(b === "") || a.localeCompare(b))
    .map(([name, found]) => ({ name, rows: found }));
}

/** The first rows of the groups, as many as may be shown; a group that has none left goes. */
export function first(groups: Group[], most: number): { group: Group; rows: Service[] }[] {
  let left = most;
  const all: { group: Group; rows: Service[] }[] = [];
  for (const group of groups) {
    const rows = group.rows.slice(0, left);
    left -= rows.length;
    if (rows.length > 0) all.push({ group, rows });
  }
  return all;
}

/** What a group without a name is called. */
export const NAMELESS: Record<Grouping, string> = {
  namespace: "in no namespace",
  platform: "on an unknown platform",
  host: "on no known host",
};

interface Effect {
  /** What happens, in words. */
  what: string;
  /** Whether anything is asked of a node. */
  acts: boolean;
  rows: Service[];
}

/** What the node of a service says about Full. */
export interface Answer {
  possible: boolean;
  /** Why it cannot be had. */
  reason: string;
}

/** What a level means for each of the services, same effects together, those that act first. */
export function effects(rows: Service[], level: Level, answers = new Map<string, Answer>()): Effect[] {
  const all = new Map<string, Effect>();
  for (const row of rows) {
    const { what, acts } = effect(row, level, answers.get(row["sonde.workload.key"]));
    const known = all.get(what);
    if (known === undefined) all.set(what, { what, acts, rows: [row] });
    else known.rows.push(row);
  }
  return [...all.values()].sort((a, b) => Number(b.acts) - Number(a.acts) || b.rows.length - a.rows.length);
}

function effect(row: Service, level: Level, answer: Answer | undefined): { what: string; acts: boolean } {
  const stand = dial(row);
  if (stand.locked !== undefined)
    return { what: "stay as they are: they are played from a recording", acts: false };
  if (row["sonde.capture.desired"] === level && stand.level === level)
    return { what: `are at ${LEVELS.find((one) => one.level === level)?.name} already`, acts: false };
  if (level === "full") {
    if (answer === undefined) return { what: "are asked what would be changed …", acts: false };
    return answer.possible
      ? { what: "are restarted once, with the SDK", acts: true }
      : { what: `stay as they are: ${answer.reason}`, acts: false };
  }
  const stopped = (row["sonde.instances"] ?? []).length === 0;
  if (level === "off") {
    return stopped
      ? { what: "do not run, and will not be read when they start", acts: true }
      : { what: "are no longer read; nothing is restarted", acts: true };
  }
  if (row["sonde.capture.observed"] === "full")
    return { what: "are restarted once, without the SDK", acts: true };
  if (stopped) return { what: "do not run; they are read from their next start on", acts: true };
  const extents = (row["sonde.instances"] ?? []).map((one) => one["sonde.coverage"]?.extent);
  if (extents.length > 0 && extents.every((extent) => extent === "not_yet"))
    return { what: "are asked for, and cannot be read yet: their TLS library is not covered", acts: true };
  return { what: "are read from their next call on; nothing is restarted", acts: true };
}

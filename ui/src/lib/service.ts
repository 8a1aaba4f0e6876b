// What a row of the services says in words, and where its dial stands.
import type { AgentIn, Coverage, Evidence, Level, Node, Service } from "../api/rows";
import { ago } from "./format";
import type { LeftOut } from "./rules";

export const LEVELS: { level: Level; name: string }[] = [
  { level: "off", name: "Off" },
  { level: "network", name: "Network" },
  { level: "full", name: "Full" },
];

/** A wish of this page that the list does not show yet. */
export interface Wish {
  level: Level;
  /** Set when it was refused: the dial is back where it was, and this says why. */
  refused?: string;
}

export interface Dial {
  /** Level that is shown as chosen. */
  level: Level;
  /** Chosen and not yet in effect: hatched. */
  pending: boolean;
  /** Why nothing can be chosen; absent when it can. */
  locked?: string;
}

/** The wish came to nothing: the dial goes back to what is in effect, and the state says why. */
const SNAPS: ReadonlySet<string> = new Set([
  "failed",
  "unsupported",
  "blocked",
  "conflict",
  "unhealthy",
  "drifted",
]);

/** Where it is on the way. Nodes that do not join the two themselves say apart what keeps the SDK out. */
function standing(row: Service): { state: string; reason: string } {
  const agent = row["sonde.agent"];
  const state = row["sonde.capture.state"];
  const isKeptOut =
    agent !== undefined &&
    state === "capturing" &&
    row["sonde.capture.desired"] === "full" &&
    row["sonde.capture.observed"] !== "full";
  return isKeptOut ? agent : { state, reason: row["sonde.capture.reason"] };
}

/** Where the dial stands. A wish that failed snaps back to what is in effect. */
export function dial(row: Service, wish?: Wish): Dial {
  const observed = row["sonde.capture.observed"];
  const desired = row["sonde.capture.desired"];
  const { state } = standing(row);
  if (row["sonde.recorded"] === true || state === "recorded") {
    return { level: observed, pending: false, locked: "Played from a recording: nothing can be switched." };
  }
  if (wish !== undefined && wish.refused === undefined && wish.level !== desired)
    return { level: wish.level, pending: true };
  if (desired === observed) return { level: desired, pending: state === "pending" };
  if (SNAPS.has(state)) return { level: observed, pending: false };
  // Nothing runs, or a part of it is read: the wish stands, and nothing is under way.
  if (state === "stopped" || state === "partly") return { level: desired, pending: false };
  return { level: desired, pending: true };
}

/** The way of the SDK into a process. */
export const ROLLOUT = ["Injected", "Loaded", "First span"] as const;

export interface Rollout {
  /** How many of the steps are behind it. */
  reached: number;
  /** How it is at the next one; empty when there is none. */
  tone: Tone;
  /** Why it stands where it does. */
  why: string;
}

/** How far the SDK is in a process, and why it stops there. */
export function rollout({ progress, detail = "" }: AgentIn): Rollout {
  const at = (reached: number, tone: Tone, why: string) => ({ reached, tone, why });
  switch (progress) {
    case "absent":
      return at(
        0,
        "warn",
        "It was not started with the SDK; it runs since before, or clears its environment.",
      );
    case "injected":
      return at(
        1,
        "warn",
        "The SDK says nothing: no Python, or one that reads no sitecustomize (-I, -E, -S).",
      );
    case "stood_down":
      return at(1, "warn", `It left the program alone: ${detail}`);
    case "loaded":
      return at(2, "calm", "It waits for a library that it knows.");
    case "started":
      return at(2, "calm", `It waits for the first call of ${detail}`);
    case "unsent":
      return at(2, "bad", `Its spans do not arrive: ${detail}`);
    case "sent":
      return at(3, "good", detail);
    default:
      return at(0, "calm", "The node is newer than this page.");
  }
}

/** What a node says of a change, and apart from it how a person makes the same. */
export function byHand(text: string): { text: string; ways: { tool: string; text: string }[] } {
  const [told = "", ...rest] = `\n${text}`.split(/\nBy hand, with /);
  const ways = rest.map((one) => {
    const colon = one.indexOf(":\n");
    return { tool: one.slice(0, Math.max(0, colon)), text: one.slice(colon + 2).trim() };
  });
  return { text: told.trim(), ways };
}

export type Tone = "good" | "warn" | "bad" | "calm" | "pending";

export interface Sentence {
  tone: Tone;
  /** Short, for the row. */
  text: string;
  /** The node's whole sentence, for the panel and on hover. */
  more: string;
}

export const STATES: Record<string, { tone: Tone; text: string; cause?: boolean }> = {
  discovered: { tone: "calm", text: "discovered" },
  pending: { tone: "pending", text: "pending" },
  capturing: { tone: "good", text: "capturing" },
  partly: { tone: "warn", text: "capturing in part", cause: true },
  unsupported: { tone: "warn", text: "cannot be captured here", cause: true },
  failed: { tone: "bad", text: "failed, will be tried again", cause: true },
  stopped: { tone: "calm", text: "stopped" },
  recorded: { tone: "calm", text: "played from a recording" },
  blocked: { tone: "warn", text: "the node forbids it", cause: true },
  conflict: { tone: "warn", text: "another SDK is in the way", cause: true },
  unhealthy: { tone: "bad", text: "put back: it did not come up healthy", cause: true },
  drifted: { tone: "warn", text: "somebody took it out", cause: true },
};

/** A node that is asked for something, and how long ago it last polled. */
interface Poll {
  host: string;
  /** A poll of it waits now: what is wished is on its way at once. */
  connected: boolean;
  /** Milliseconds since its last poll. */
  age: number;
}

/** Polls that wait at the dashboard, or are this young, are answers; older ones are silence. */
const SILENT_MS = 45_000;

/** The last poll of the node that a service runs on; `now` and `ahead` are of this browser's clock. */
export function pollOf(row: Service, nodes: Node[], now: number, ahead: number): Poll | undefined {
  const node = nodes.find((one) => one.recorded !== true && one.host_name === row["host.name"]);
  if (node === undefined) return undefined;
  const age = Math.max(0, now + ahead - Date.parse(node.last_poll));
  return { host: node.host_name, connected: node.connected === true, age: Number.isNaN(age) ? 0 : age };
}

/** What a pending wish waits for. */
function waiting(host: string, poll: Poll | undefined): string {
  if (poll === undefined) return `pending · waits for ${host}`;
  if (!poll.connected || poll.age >= SILENT_MS)
    return `pending · ${host} is silent for ${ago(new Date(0).toISOString(), poll.age)}`;
  return poll.age < 10_000
    ? `pending · ${host} answered ${(poll.age / 1000).toFixed(1)} s ago`
    : `pending · ${host} answered ${Math.floor(poll.age / 1000)} s ago`;
}

export interface Seen {
  wish?: Wish | undefined;
  poll?: Poll | undefined;
  /** The rule of the dashboard that leaves it out. */
  leftOut?: LeftOut | undefined;
}

/** The state column: a dot and a sentence; where something is wrong, with the cause. */
export function sentence(row: Service, { wish, poll, leftOut }: Seen = {}): Sentence {
  const { state, reason: told } = standing(row);
  const reason = told.trim();
  if (wish?.refused !== undefined) return { tone: "bad", text: wish.refused, more: wish.refused };
  if (dial(row, wish).pending) {
    const text = waiting(row["host.name"] ?? "the node", poll);
    return { tone: "pending", text, more: state === "pending" && reason !== "" ? reason : text };
  }
  // A node forgets what it is told to leave out: it is not stopped, as far as anyone knows.
  if (leftOut !== undefined && (row["sonde.instances"] ?? []).length === 0) {
    const { rule, certain } = leftOut;
    const text = certain ? `left out by a rule: ${rule}` : `stopped, or left out by a rule: ${rule}`;
    return { tone: "calm", text, more: `${text}. Change that in Settings.` };
  }
  // A newer node may know more states than this page.
  const word = (Object.hasOwn(STATES, state) ? STATES[state] : undefined) ?? {
    tone: "calm" as const,
    text: String(state),
  };
  const text = word.cause === true && reason !== "" ? reason : word.text;
  return { tone: word.tone, text, more: reason === "" ? text : reason };
}

const BY: Record<string, string> = {
  call: "call",
  sni: "SNI",
  host: "Host header",
  connect: "CONNECT to a proxy",
  dns: "DNS answer",
  listen: "listens like a model server",
  address: "address only",
};

const EXTENTS: Record<string, { tone: Tone; word: string }> = {
  covered: { tone: "good", word: "covered" },
  partly: { tone: "warn", word: "partly covered" },
  not_yet: { tone: "warn", word: "not covered yet" },
};

/** How much of a program's TLS traffic can be read, in words. */
export function coverage(of: Coverage): { tone: Tone; word: string; reason: string } {
  const known = Object.hasOwn(EXTENTS, of.extent) ? EXTENTS[of.extent] : undefined;
  return { ...(known ?? { tone: "calm", word: String(of.extent) }), reason: of.reason ?? "" };
}

/** How a piece of evidence was come by, in words. */
export function by(evidence: Evidence): string {
  return (Object.hasOwn(BY, evidence.by) ? BY[evidence.by] : undefined) ?? evidence.by;
}

const SURE: Record<string, { word: string; tone: Tone }> = {
  certain: { word: "certain", tone: "good" },
  likely: { word: "likely", tone: "warn" },
  hint: { word: "a hint", tone: "calm" },
};

/** How sure a piece of evidence is, in words. */
export function sure(evidence: Evidence): { word: string; tone: Tone } {
  const word = evidence.confidence ?? "";
  return (Object.hasOwn(SURE, word) ? SURE[word] : undefined) ?? { word, tone: "calm" };
}

/** Evidence by how it was come by, the strongest way first. */
export function tiers(row: Service): { by: string; found: Evidence[] }[] {
  const sorted = [...(row["sonde.evidence"] ?? [])].sort((a, b) => rankOf(a) - rankOf(b));
  const all: { by: string; found: Evidence[] }[] = [];
  for (const one of sorted) {
    const last = all.at(-1);
    if (last?.by === one.by) last.found.push(one);
    else all.push({ by: one.by, found: [one] });
  }
  return all;
}

const STRENGTH = ["call", "sni", "host", "connect", "dns", "listen", "address"];

/** The strongest evidence. */
export function strongest(row: Service): Evidence | undefined {
  return tiers(row)[0]?.found[0];
}

// A way that this page does not know comes last.
const rankOf = (one: Evidence) => (STRENGTH.indexOf(one.by) + STRENGTH.length + 1) % (STRENGTH.length + 1);

/** The key without its scope: `systemd:agent.service` of `host-4c…/systemd:agent.service`. */
export function place(key: string): { kind: string; name: string } {
  const local = /^[^/]*\/([a-z0-9]+):(.*)$/s.exec(key) ?? /^([a-z0-9]+):(.*)$/s.exec(key);
  return { kind: local?.[1] ?? "", name: local?.[2] ?? key };
}

/** Where a service runs, in a few words. */
export function where(row: Service): string {
  const platform = row["sonde.platform"];
  const host = row["host.name"] ?? "";
  const text = (name: string) => (typeof row[name] === "string" ? (row[name] as string) : undefined);
  if (platform === "kubernetes") {
    const namespace = text("k8s.namespace.name");
    const kind = text("sonde.workload.kind");
    if (namespace !== undefined) return kind === undefined ? namespace : `${namespace} / ${kind}`;
  }
  const project = text("container.label.com.docker.compose.project");
  if (platform === "docker" && project !== undefined)
    return `compose ${project}${host === "" ? "" : ` · ${host}`}`;
  const unit = text("systemd.unit");
  if (platform === "systemd" && unit !== undefined)
    return `systemd ${unit}${host === "" ? "" : ` · ${host}`}`;
  if (platform === "process") return host === "" ? "process" : `process · ${host}`;
  const { name } = place(row["sonde.workload.key"]);
  return `${platform} ${name}`;
}

const RUNTIMES: Record<string, string> = {
  cpython: "Python",
  pypy: "PyPy",
  nodejs: "Node",
  node: "Node",
  jvm: "Java",
  openjdk: "Java",
  php: "PHP",
  c: "C or C++",
  dotnet: ".NET",
  go: "Go",
  bun: "Bun",
  deno: "Deno",
  ruby: "Ruby",
  rust: "Rust",
};

/** A runtime as people say it: `Python 3.11`. */
export function runtime(row: {
  "process.runtime.name"?: string;
  "process.runtime.version"?: string;
}): string {
  const name = row["process.runtime.name"];
  if (name === undefined) return "";
  const shown = (Object.hasOwn(RUNTIMES, name) ? RUNTIMES[name] : undefined) ?? name;
  const version = row["process.runtime.version"];
  return version === undefined ? shown : `${shown} ${version}`;
}

/** True when every word of the filter is somewhere in the row. `provider:x`, `namespace:x`, `label:app=x` look in one place. */
export function matches(row: Service, filter: string): boolean {
  const text = (name: string) => (typeof row[name] === "string" ? (row[name] as string) : "");
  const fields: Record<string, string> = {
    name: row["service.name"],
    key: row["sonde.workload.key"],
    platform: row["sonde.platform"],
    provider: (row["sonde.providers"] ?? []).join(" "),
    runtime: runtime(row),
    state: row["sonde.capture.state"],
    capture: row["sonde.capture.desired"],
    host: row["host.name"] ?? "",
    namespace: text("k8s.namespace.name") || text("service.namespace"),
    user: (row["sonde.instances"] ?? []).map((one) => one["process.owner"] ?? "").join(" "),
    image: text("container.image.name"),
    label: Object.entries(row)
      .flatMap(([name, value]) => {
        const label = /^(?:k8s\.pod|container)\.label\.(.+)$/.exec(name)?.[1];
        return label === undefined ? [] : [`${label}=${String(value)}`];
      })
      .join(" "),
  };
  const all = Object.values(fields).join("\n").toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "")
    .every((word) => {
      const colon = word.indexOf(":");
      const field = colon > 0 ? word.slice(0, colon) : "";
      return Object.hasOwn(fields, field)
        ? (fields[field] ?? "").toLowerCase().includes(word.slice(colon + 1))
        : all.includes(word);
    });
}

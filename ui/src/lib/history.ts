// What happened to a service, in words.
import type { Happened, Node } from "../api/rows";
import { duration, plain } from "./format";
import { STATES, type Tone } from "./service";

interface Told {
  tone: Tone;
  /** What happened, in a few words. */
  what: string;
  /** Who, or which node says so. */
  who: string;
  /** Why; may be empty. */
  why: string;
  /** What a step changed and what the tools said, as they came. */
  details: { name: string; text: string }[];
}

const own = <T>(table: Record<string, T>, name: string): T | undefined =>
  Object.hasOwn(table, name) ? table[name] : undefined;

const WISHES: Record<string, string> = {
  "network off": "Off was chosen",
  "network network": "Network was chosen",
  "network full": "Full was chosen",
  "agent on": "an SDK was asked for",
  "agent off": "the SDK was no longer wanted",
};

const CHANGES: Record<string, string> = {
  refresh: "report anew",
  retry: "try again",
  instrument: "begin to read its calls",
  uninstrument: "end reading its calls",
  enable_sdk: "put an SDK in",
  disable_sdk: "take the SDK out",
  preview_sdk: "say what Full would change",
  restart: "restart",
  undo: "put back as it was",
};

const EVENTS: Record<string, { tone: Tone; text: string }> = {
  made: { tone: "calm", text: "was asked for" },
  sent: { tone: "pending", text: "was sent to the node" },
  running: { tone: "pending", text: "has begun" },
  done: { tone: "good", text: "is done" },
  failed: { tone: "bad", text: "failed" },
  interrupted: { tone: "warn", text: "was interrupted" },
  refused: { tone: "warn", text: "was refused" },
  cancel: { tone: "calm", text: "was taken back" },
  cancelled: { tone: "calm", text: "was cancelled" },
  expired: { tone: "warn", text: "was not taken in time" },
};

const ACTORS: Record<string, string> = {
  page: "on the page",
  "command line": "on the command line",
  "api token": "by a script",
  dashboard: "the dashboard",
};

/** An entry of the history in words; words of a newer version are shown as they came. `steps` says by id what a step does. */
export function told(entry: Happened, nodes: Node[], steps: Record<string, string> = {}): Told {
  const host = nodes.find((node) => node.id === (entry.instance ?? entry.actor))?.host_name;
  const who = own(ACTORS, entry.actor) ?? host ?? entry.actor;
  const why = (entry.reason ?? "").trim();
  const details = [
    { name: "changed", text: entry.change ?? "" },
    { name: "output", text: entry.output ?? "" },
  ].filter((one) => one.text !== "");
  const more = { who, why, details };
  if (entry.kind === "wish") {
    return { tone: "calm", what: own(WISHES, entry.what) ?? `${entry.what} was chosen`, ...more };
  }
  if (entry.kind === "name") {
    return {
      tone: "calm",
      what: entry.what === "" ? "its own name again" : `named “${entry.what}”`,
      ...more,
    };
  }
  if (entry.kind === "state") {
    const state = own(STATES, entry.what);
    return { tone: state?.tone ?? "calm", what: state?.text ?? entry.what, ...more };
  }
  if (entry.kind === "step") {
    const event = own(EVENTS, entry.what);
    const change = own(steps, entry.step ?? "");
    const name = change === undefined ? undefined : (own(CHANGES, change) ?? change);
    const took =
      entry.duration_ms === undefined || entry.duration_ms === 0
        ? ""
        : ` after ${plain(duration(entry.duration_ms / 1000))}`;
    const subject = name === undefined ? "a step" : `“${name}”`;
    const text = `${subject} ${event?.text ?? entry.what}${took}`;
    return {
      tone: event?.tone ?? "calm",
      what: text,
      ...more,
    };
  }
  return { tone: "calm", what: `${entry.kind} ${entry.what}`, ...more };
}

/** What can be done about an entry: take its step back, or have what failed tried again. */
export type Deed = "cancel" | "retry";

const UNDER_WAY = ["made", "sent", "running"];
const FAILED = ["failed", "interrupted", "expired"];

/** Deeds by the place of the entry in the history, newest first: each step once, and a failure only while nothing newer of its kind was said. */
export function deeds(entries: Happened[]): Map<number, Deed> {
  const found = new Map<number, Deed>();
  const steps = new Set<string>();
  const states = new Set<string>();
  entries.forEach((entry, i) => {
    const node = entry.instance ?? "";
    if (entry.kind === "state") {
      if (!states.has(node) && entry.what === "failed") found.set(i, "retry");
      states.add(node);
    }
    if (entry.kind !== "step" || entry.step === undefined || steps.has(entry.step)) return;
    if (UNDER_WAY.includes(entry.what)) found.set(i, "cancel");
    else if (steps.size === 0 && node !== "" && FAILED.includes(entry.what)) found.set(i, "retry");
    steps.add(entry.step);
  });
  return found;
}

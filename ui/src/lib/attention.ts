// What deserves attention, from what nodes and calls say; nothing is guessed.
import type { Overview, Service, Status } from "../api/rows";
import { losses, SILENT_MS } from "./fleet";
import { ago, at, percent, plain, plural } from "./format";
import { errorRate } from "./series";

export interface Notice {
  tone: "bad" | "warn" | "calm";
  /** What it is about; names in it are shown as names. */
  subject: string;
  text: string;
  more: string;
  to: "/fleet" | "/services" | "/calls";
  search?: Record<string, string | undefined>;
}

/** The list of the first screen is short; what is left out is counted. */
export const MAX_NOTICES = 6;

// Below this share, or number, failed calls are everyday life.
const ERROR_SHARE = 0.02;
const ERRORS = 3;

export function notices(
  overview: Overview | undefined,
  services: Service[],
  status: Status | undefined,
  now: number,
): Notice[] {
  const found = [
    ...fromNodes(status, now),
    ...fromServices(services),
    ...(overview === undefined ? [] : fromCalls(overview)),
  ];
  const order = { bad: 0, warn: 1, calm: 2 };
  return found.sort((a, b) => order[a.tone] - order[b.tone]);
}

function fromNodes(status: Status | undefined, now: number): Notice[] {
  const found: Notice[] = [];
  for (const node of status?.instances ?? []) {
    if (node.recorded === true) continue;
    const missing = (node.doctor ?? []).filter((fact) => fact.standing === "missing");
    if (missing.length > 0) {
      found.push({
        tone: "bad",
        subject: node.host_name,
        text: "does not allow network capture",
        more: missing.map((fact) => fact.found).join(" · "),
        to: "/fleet",
      });
    }
    const lost = losses(node);
    if (lost.length > 0) {
      found.push({
        tone: "warn",
        subject: node.host_name,
        text: "could not keep all that it saw",
        more: lost.map(({ reason, count }) => `${count} ${reason}`).join(" · "),
        to: "/fleet",
      });
    }
    if (node.connected !== true && now - (at(node.last_poll) ?? now) > SILENT_MS) {
      found.push({
        tone: "bad",
        subject: node.host_name,
        text: "is silent",
        more: `Its controller last asked ${ago(node.last_poll, now)} ago. Check that it runs there.`,
        to: "/fleet",
      });
    }
  }
  return found;
}

function fromServices(services: Service[]): Notice[] {
  return services.flatMap((row): Notice[] => {
    const state = row["sonde.capture.state"];
    if (
      row["sonde.capture.desired"] === "off" ||
      (state !== "failed" && state !== "unsupported" && state !== "partly")
    )
      return [];
    return [
      {
        tone: state === "failed" ? "bad" : "warn",
        subject: row["service.name"],
        text: state === "partly" ? "is captured in part" : "is not captured",
        more: row["sonde.capture.reason"],
        to: "/services",
        search: { key: row["sonde.workload.key"] },
      },
    ];
  });
}

function fromCalls(overview: Overview): Notice[] {
  const found: Notice[] = [];
  for (const row of overview.services) {
    const rate = errorRate(row);
    if (rate === undefined || rate < ERROR_SHARE || row.errors < ERRORS) continue;
    const classes = Object.entries(row.error_classes).sort((a, b) => b[1] - a[1]);
    found.push({
      tone: "bad",
      subject: row["service.name"] ?? row["sonde.workload.key"] ?? "An unknown service",
      text: `fails in ${plain(percent(rate))} of its calls to ${row["gen_ai.request.model"] ?? row["gen_ai.provider.name"] ?? "a model"}`,
      more: classes.map(([name, count]) => `${count} ${name.replaceAll("_", " ")}`).join(" · "),
      to: "/calls",
      search: { service: row["service.name"], model: row["gen_ai.request.model"], status: "error" },
    });
  }
  for (const row of overview.by_model) {
    if (row.unpriced_calls === 0) continue;
    found.push({
      tone: "warn",
      subject: row["gen_ai.request.model"] ?? row["gen_ai.provider.name"] ?? "An unknown model",
      text: `has no price for ${plural(row.unpriced_calls, "call")}`,
      more: "Their cost is in no sum.",
      to: "/calls",
      search: { model: row["gen_ai.request.model"] },
    });
  }
  return found;
}

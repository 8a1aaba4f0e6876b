// What a row of the calls says in words.
import type { Call } from "../api/rows";

export interface Finish {
  text: string;
  tone: "plain" | "bad" | "warn";
}

/** How the call ended: the error with its status, or the finish reasons, or what is missing. */
export function finish(row: Call): Finish {
  const status = row["http.response.status_code"];
  const error = row["error.type"];
  if (outcome(row) === "cancelled") return { text: "cancelled", tone: "warn" };
  if (error !== undefined) {
    const code =
      status !== undefined && status >= 400 && !error.startsWith(String(status)) ? `${status} ` : "";
    return { text: `${code}${error.replaceAll("_", " ")}`, tone: "bad" };
  }
  if (status !== undefined && status >= 400) return { text: String(status), tone: "bad" };
  const reasons = row["gen_ai.response.finish_reasons"] ?? [];
  if (reasons.length > 0) {
    const each = [...new Set(reasons)].join(", ");
    return {
      text: each,
      tone: reasons.includes("length") || reasons.includes("content_filter") ? "warn" : "plain",
    };
  }
  if (row["sonde.incomplete"] !== undefined) return { text: "seen in part", tone: "warn" };
  return status === undefined ? { text: "not seen", tone: "plain" } : { text: String(status), tone: "plain" };
}

/** The model as asked for, else as answered. */
export function model(row: Call): string | undefined {
  return row["gen_ai.request.model"] ?? row["gen_ai.response.model"];
}

/** Time to the first token where it is known, else to the first chunk. */
export function firstToken(row: Call): number | undefined {
  return row["sonde.time_to_first_token"] ?? row["gen_ai.response.time_to_first_chunk"];
}

/** A price that could be known, and is not. */
export function unpriced(row: Call): boolean {
  return (
    row["sonde.cost"] === undefined &&
    row["error.type"] === undefined &&
    row["gen_ai.usage.input_tokens"] !== undefined
  );
}

type Outcome = "ok" | "error" | "cancelled";

const OUTCOMES: readonly string[] = ["ok", "error", "cancelled"] satisfies Outcome[];
const isOutcome = (value: unknown): value is Outcome => OUTCOMES.includes(value as string);

const CANCELLED = ["cancelled", "canceled", "client_cancelled"];

/** How a call ended, as the dashboard counts it. A call that the client ended is no error. */
function outcome(row: Call): Outcome {
  const error = row["error.type"]?.toLowerCase();
  if (error !== undefined) return CANCELLED.includes(error) ? "cancelled" : "error";
  return (row["http.response.status_code"] ?? 0) >= 400 ? "error" : "ok";
}

/** What the calls page shows of all calls. */
export interface Filter {
  service?: string;
  model?: string;
  provider?: string;
  status?: Outcome;
  /** In the filter language of the API; only the dashboard knows which rows it is true of. */
  filter?: string;
}

/** The same choice as the API makes but for the filter language, for rows that arrive by themselves. */
export function passes(row: Call, filter: Filter): boolean {
  const { service, model: wanted, provider, status } = filter;
  if (service !== undefined && row["service.name"] !== service && row["sonde.workload.key"] !== service)
    return false;
  if (
    wanted !== undefined &&
    row["gen_ai.request.model"] !== wanted &&
    row["gen_ai.response.model"] !== wanted
  )
    return false;
  if (provider !== undefined && row["gen_ai.provider.name"] !== provider) return false;
  if (status !== undefined && outcome(row) !== status) return false;
  return true;
}

/** Newest first, each call once. RFC 3339 with nine digits sorts as text. */
export function merge(fresh: Call[], older: Call[]): Call[] {
  const seen = new Set<string>();
  const all: Call[] = [];
  for (const row of [...fresh, ...older]) {
    if (seen.has(row["sonde.call.id"])) continue;
    seen.add(row["sonde.call.id"]);
    all.push(row);
  }
  return all.sort((a, b) =>
    a.time < b.time ? 1 : a.time > b.time ? -1 : a["sonde.call.id"] < b["sonde.call.id"] ? 1 : -1,
  );
}

const FILTERS = ["model", "provider", "status", "filter"] as const;

// What means more than itself in the filter language.
const PATTERN = /["*,\\]/;

/** Words of the filter line: `model:x`, `provider:x`, `status:error`, `service:x`; all others are of the filter language. */
export function readFilter(text: string): Filter {
  const filter: Filter = {};
  const others: string[] = [];
  for (const word of terms(text)) {
    const [field, value] = split(word);
    if (value === "" || PATTERN.test(value)) others.push(word);
    else if (field === "status" && isOutcome(value)) filter.status = value;
    else if (field === "model" || field === "provider" || field === "service") filter[field] = value;
    else others.push(word);
  }
  if (others.length > 0) filter.filter = others.join(" ");
  return filter;
}

/** The terms of a text of the filter language: spaces in quotes are part of a term. */
export function terms(text: string): string[] {
  return text.match(/(?:"(?:\\.|[^"\\])*"?|[^\s"])+/g) ?? [];
}

/** A filter with one more term; a term that is there stays there once. */
export function withTerm(filter: string | undefined, term: string): string {
  return [...terms(filter ?? "").filter((one) => one !== term), term].join(" ");
}

/** A filter without a term; absent when none is left. */
export function withoutTerm(filter: string | undefined, term: string): string | undefined {
  const left = terms(filter ?? "").filter((one) => one !== term);
  return left.length === 0 ? undefined : left.join(" ");
}

/** A term that is true of calls of one conversation. */
export function ofConversation(id: string): string {
  return `conversation:"${id.replaceAll(/["\\]/g, "\\$&")}"`;
}

function split(word: string): [string, string] {
  const colon = word.indexOf(":");
  return colon < 1 ? ["", word] : [word.slice(0, colon), word.slice(colon + 1)];
}

/** Takes only what makes sense out of a URL. */
export function readCallSearch(search: Record<string, unknown>): Filter & { call?: string } {
  const text = (value: unknown) =>
    typeof value === "string" && value !== "" ? value : typeof value === "number" ? String(value) : undefined;
  const found: Filter & { call?: string } = {};
  for (const name of FILTERS) {
    const value = text(search[name]);
    if (value === undefined) continue;
    if (name !== "status") found[name] = value;
    else if (isOutcome(value)) found.status = value;
  }
  const call = text(search.call);
  if (call !== undefined) found.call = call;
  return found;
}

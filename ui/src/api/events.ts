// One stream of server-sent events for the whole page.
import type { Call } from "./rows";

export interface Happening {
  /** A call was received. */
  call?: (row: Call) => void;
  /** The list of services changed. */
  services?: () => void;
  /** Something about the dashboard or a node changed. */
  status?: () => void;
  /** The stream is open now, or was too slow: what happened before may have been missed. */
  reopened?: () => void;
}

const listeners = new Set<Happening>();
let source: EventSource | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;

// Node's and the dashboard's restarts take a few seconds.
const RETRY_MS = 3000;

function open() {
  source = new EventSource("/api/v1/events");
  source.onopen = () => {
    // Also at first: what changed between the page's first look and now was told to nobody.
    for (const one of listeners) one.reopened?.();
  };
  source.onerror = () => {
    // The browser tries again by itself, except after an answer that is not a stream.
    if (source?.readyState === EventSource.CLOSED) {
      clearTimeout(retry);
      retry = setTimeout(() => listeners.size > 0 && open(), RETRY_MS);
    }
  };
  source.addEventListener("call", (event) => {
    const row = parse(event.data);
    if (row !== undefined) for (const one of listeners) one.call?.(row);
  });
  // The dashboard dropped some for this listener, which was too slow.
  source.addEventListener("missed", () => {
    for (const one of listeners) one.reopened?.();
  });
  source.addEventListener("services", () => {
    for (const one of listeners) one.services?.();
  });
  source.addEventListener("status", () => {
    for (const one of listeners) one.status?.();
  });
}

function parse(data: string): Call | undefined {
  try {
    const row = JSON.parse(data) as Partial<Call>;
    return typeof row.time === "string" && typeof row["sonde.call.id"] === "string"
      ? (row as Call)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Listens, on a stream of its own, to calls that a filter of the API is true of, until the answer is called. */
export function follow(filter: string, { call, reopened }: Happening): () => void {
  const own = new EventSource(`/api/v1/events?filter=${encodeURIComponent(filter)}`);
  own.onopen = () => reopened?.();
  own.addEventListener("call", (event) => {
    const row = parse(event.data);
    if (row !== undefined) call?.(row);
  });
  own.addEventListener("missed", () => reopened?.());
  return () => own.close();
}

/** Listens until the answer is called; the stream is open while anyone listens. */
export function listen(happening: Happening): () => void {
  listeners.add(happening);
  if (source === undefined || source.readyState === EventSource.CLOSED) open();
  return () => {
    listeners.delete(happening);
    if (listeners.size === 0) {
      source?.close();
      source = undefined;
      clearTimeout(retry);
    }
  };
}

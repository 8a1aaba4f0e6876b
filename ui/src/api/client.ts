// Requests to the dashboard, and what can go wrong with them.
import type {
  Call,
  Calls,
  Configurations,
  Happened,
  Layer,
  Level,
  MadeToken,
  NewToken,
  Overview,
  Preview,
  Rules,
  Service,
  Status,
  Token,
  Trace,
} from "./rows";

/** A refused or failed request, in the dashboard's own words where it gave some. */
export class ApiError extends Error {
  constructor(
    message: string,
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
  ) {
    super(message);
  }
}

type Query = Record<string, string | number | undefined>;

async function request<T>(path: string, init?: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, { credentials: "same-origin", ...init });
  } catch {
    throw new ApiError(
      "The dashboard does not answer. Check that `sonde up` still runs; this page tries again.",
      0,
    );
  }
  if (!response.ok) throw new ApiError(await reason(response), response.status);
  return (await response.json()) as T;
}

function send<T = object>(method: "PUT" | "POST", path: string, body: object): Promise<T> {
  return request<T>(path, {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

async function reason(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as { error?: { message?: unknown } };
    if (typeof body.error?.message === "string") return body.error.message;
  } catch {
    // Not ours: a proxy's page, or nothing.
  }
  return `The dashboard answered ${response.status} without a reason.`;
}

function search(query: Query): string {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") parts.set(key, String(value));
  }
  const text = parts.toString();
  return text === "" ? "" : `?${text}`;
}

export const api = {
  services: () => request<{ services: Service[] }>("/services"),
  status: () => request<Status>("/status"),
  calls: (query: Query) => request<Calls>(`/calls${search(query)}`),
  trace: (id: string) => request<Trace>(`/traces/${encodeURIComponent(id)}`),
  call: (id: string) => request<Call>(`/calls/${encodeURIComponent(id)}`),
  overview: (query: Query) => request<Overview>(`/overview${search(query)}`),
  setCapture: (key: string, level: Level) =>
    send<{ generation: number }>("PUT", `/services/${encodeURIComponent(key)}/capture`, { level }),
  preview: (key: string) => send<Preview>("POST", `/services/${encodeURIComponent(key)}/preview`, {}),
  setName: (key: string, name: string) =>
    send("PUT", `/services/${encodeURIComponent(key)}/name`, name === "" ? {} : { name }),
  history: (key: string) => request<{ entries: Happened[] }>(`/services/${encodeURIComponent(key)}/history`),
  steps: () => request<{ steps: { id: string; change: string }[] }>("/steps"),
  cancelStep: (id: string) => send("POST", "/steps/cancel", { id }),
  retry: (key: string, instance: string) =>
    send("POST", "/steps", { instance, key, change: "retry", reason: "Asked to be tried again." }),
  rules: () => request<Rules>("/rules"),
  setRules: (rules: Rules) => send("PUT", "/rules", rules),
  configuration: () => request<Configurations>("/configuration"),
  setLayer: (layer: Layer) => send("PUT", "/configuration", layer),
  tokens: () => request<{ tokens: Token[] }>("/tokens"),
  makeToken: (token: NewToken) => send<MadeToken>("POST", "/tokens", token),
  revokeToken: (id: string) => send("POST", "/tokens/revoke", { id }),
  revokeNode: (id: string) => send("POST", "/instances/revoke", { id }),
  readmitNode: (id: string) => send("POST", "/instances/readmit", { id }),
};

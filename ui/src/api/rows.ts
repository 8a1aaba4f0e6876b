// Rows of the dashboard's API, one flat object each. Keys are the attribute names of
// `crates/contract/src/attribute.rs`; a value that is not known has no key.

/** RFC 3339 in UTC with nanoseconds. */
export type Time = string;
/** US dollars, an exact decimal string. */
type Money = string;

export type Level = "off" | "network" | "full";
type CaptureState =
  | "discovered"
  | "pending"
  | "capturing"
  | "partly"
  | "unsupported"
  | "failed"
  | "stopped"
  | "recorded"
  | "blocked"
  | "conflict"
  | "unhealthy"
  | "drifted";

export interface Call {
  time: Time;
  "sonde.call.id": string;
  trace_id: string;
  span_id: string;
  parent_span_id?: string;
  "service.name"?: string;
  "sonde.workload.key"?: string;
  "sonde.platform"?: string;
  "host.name"?: string;
  "process.pid"?: number;
  "gen_ai.operation.name"?: string;
  "gen_ai.provider.name"?: string;
  "gen_ai.request.model"?: string;
  "gen_ai.response.model"?: string;
  "gen_ai.request.stream"?: boolean;
  "gen_ai.request.max_tokens"?: number;
  "gen_ai.request.temperature"?: number;
  "gen_ai.request.top_p"?: number;
  "gen_ai.request.choice.count"?: number;
  "gen_ai.response.id"?: string;
  "gen_ai.response.finish_reasons"?: string[];
  "gen_ai.response.time_to_first_chunk"?: number;
  "sonde.time_to_first_token"?: number;
  "gen_ai.usage.input_tokens"?: number;
  "gen_ai.usage.output_tokens"?: number;
  "gen_ai.usage.cache_read.input_tokens"?: number;
  "gen_ai.usage.cache_write.input_tokens"?: number;
  "gen_ai.usage.reasoning.output_tokens"?: number;
  "gen_ai.conversation.id"?: string;
  "sonde.tool_calls"?: string[];
  "server.address"?: string;
  "server.port"?: number;
  "http.response.status_code"?: number;
  "error.type"?: string;
  "sonde.duration"?: number;
  "sonde.cost"?: Money;
  "sonde.price_table"?: string;
  "sonde.retry_after"?: number;
  "http.request.resend_count"?: number;
  "sonde.chunk_count"?: number;
  "sonde.recognised_by"?: string;
  "sonde.incomplete"?: string;
  "http.request.body.size"?: number;
  "http.response.body.size"?: number;
  "sonde.recorded"?: boolean;
  /** Further attributes of the resource, by name. */
  [attribute: string]: unknown;
}

/** An agent, a tool or another part of a program around calls. */
export interface Run {
  time: Time;
  trace_id: string;
  span_id: string;
  parent_span_id?: string;
  kind: string;
  name?: string;
  "gen_ai.operation.name"?: string;
  "error.type"?: string;
  "sonde.duration"?: number;
}

export interface Trace {
  calls: Call[];
  runs?: Run[];
}

export interface Calls {
  calls: Call[];
  /** Where the next, older page begins. Absent on the last page. */
  next?: string;
}

export interface Instance {
  "process.pid": number;
  "process.creation.time"?: Time;
  "process.executable.path"?: string;
  "process.command_args"?: string[];
  "process.owner"?: string;
  "process.runtime.name"?: string;
  "process.runtime.version"?: string;
  "process.working_directory"?: string;
  "sonde.tls"?: string;
  "sonde.coverage"?: Coverage;
  /** What only this instance has: container id, pod name. */
  [attribute: string]: unknown;
}

/** How much of the TLS traffic of a process can be read, and why not all. */
export interface Coverage {
  extent: "covered" | "partly" | "not_yet";
  reason?: string;
}

export interface Evidence {
  provider: string;
  /** `call`, `sni`, `host`, `connect`, `dns`, `listen`, `address`; strongest first. */
  by: string;
  confidence?: "certain" | "likely" | "hint";
  seen: string;
  last_seen: Time;
}

/** The SDK in a service, where one is wanted or was put in. */
export interface Agent {
  state: CaptureState;
  reason: string;
  processes?: AgentIn[];
  /** What was changed for it, as a difference. */
  change?: string;
  /** What was there before, without secrets. */
  before?: { shown: string };
}

/** How far the SDK is in one process. */
export interface AgentIn {
  pid: number;
  progress: "absent" | "injected" | "loaded" | "started" | "unsent" | "sent" | "stood_down" | "unknown";
  /** Libraries that it watches; or why it stood down, or why its spans do not arrive. */
  detail?: string;
}

/** What the level `full` would change. */
export interface Preview {
  possible: boolean;
  text: string;
  reason: string;
}

export interface Service {
  "sonde.agent"?: Agent;
  "service.name": string;
  "sonde.workload.key": string;
  "sonde.platform": string;
  "host.name"?: string;
  "process.pid"?: number;
  "process.command_args"?: string[];
  "process.runtime.name"?: string;
  "process.runtime.version"?: string;
  "sonde.instances"?: Instance[];
  "sonde.providers"?: string[];
  /** Models that calls which were read asked for. */
  "sonde.models"?: string[];
  "sonde.evidence"?: Evidence[];
  "sonde.tls"?: string;
  "sonde.capture.desired": Level;
  "sonde.capture.observed": Level;
  "sonde.capture.state": CaptureState;
  "sonde.capture.reason": string;
  "sonde.calls_per_minute"?: number;
  "sonde.first_seen"?: Time;
  "sonde.last_seen"?: Time;
  "sonde.recorded"?: boolean;
  [attribute: string]: unknown;
}

interface Distribution {
  count: number;
  p50: number;
  p95: number;
  p99: number;
}

/** Numbers of a set of calls. A count is 0 when there were none; anything else unknown is absent. */
export interface Stats {
  calls: number;
  embeddings: number;
  errors: number;
  cancelled: number;
  error_classes: Record<string, number>;
  duration?: Distribution;
  time_to_first_chunk?: Distribution;
  cost?: Money;
  unpriced_calls: number;
  input_tokens?: number;
  output_tokens?: number;
  cache_read_tokens?: number;
  cache_write_tokens?: number;
  reasoning_tokens?: number;
}

export interface Bucket extends Stats {
  time: Time;
  /** Known prices by model; absent from a dashboard that does not split its buckets. */
  cost_by_model?: Record<string, Money>;
}

interface ByModel extends Stats {
  "gen_ai.provider.name"?: string;
  "gen_ai.request.model"?: string;
}

export interface ServiceModel extends ByModel {
  "service.name"?: string;
  "sonde.workload.key"?: string;
}

export interface Overview {
  from: Time;
  to: Time;
  step_seconds: number;
  totals: Stats;
  previous: Stats;
  series: Bucket[];
  by_model: ByModel[];
  services: ServiceModel[];
  truncated?: boolean;
}

export interface Fact {
  name: string;
  standing: "good" | "limited" | "missing";
  found: string;
  remedy?: string;
}

export interface Node {
  id: string;
  host_name: string;
  version: string;
  kernel: string;
  started?: Time;
  recorded?: boolean;
  last_poll: Time;
  connected?: boolean;
  generation: number;
  desired_generation?: number;
  doctor?: Fact[];
  lost?: Record<string, number>;
  environment?: string;
  cluster?: string;
  cluster_name?: string;
  platforms?: string[];
  capabilities?: string[];
  workloads?: number;
  /** When it got a credential of its own. */
  enrolled?: Time;
  revoked?: boolean;
  configuration?: Configuration;
  applied?: Applied;
}

export type LayerName = "fleet" | "environment" | "cluster" | "node";

/** What can be set of a controller; a value that is absent is inherited. */
export interface Settings {
  default_capture?: Level;
  freeze?: boolean;
  heartbeat_seconds?: number;
  rescan_seconds?: number;
  log?: "error" | "warn" | "info" | "debug";
}

export interface Configuration {
  hash: string;
  settings: Settings;
  /** Layer that each value comes from, by its name. */
  origin?: Record<string, LayerName>;
}

interface Applied {
  hash: string;
  error?: string;
}

export interface Layer {
  layer: LayerName;
  /** Which environment, cluster or node; empty for the fleet. */
  name: string;
  settings: Settings;
}

export interface Configurations {
  /** The strongest last. */
  layers: Layer[];
  instances: { id: string; configuration: Configuration; applied?: Applied }[];
}

/** Matches programs: all that is given must hold. */
export interface Rule {
  namespace?: string;
  label?: string;
  name?: string;
  user?: string;
  path?: string;
}

/** A host that serves models. */
export interface Provider {
  name: string;
  host: string;
  port?: number;
  path?: string;
  family?: string;
}

export interface Rules {
  include: Rule[];
  exclude: Rule[];
  providers: Provider[];
}

export interface Happened {
  time: Time;
  /** `wish`, `state`, `step`, `name`. */
  kind: string;
  actor: string;
  what: string;
  reason?: string;
  instance?: string;
  generation?: number;
  step?: string;
  change?: string;
  output?: string;
  duration_ms?: number;
}

export type TokenKind = "join" | "ingest" | "api";

export interface Token {
  id: string;
  kind: TokenKind;
  name: string;
  created: Time;
  expires?: Time;
  expired: boolean;
  uses?: number;
  used: number;
  last_used?: Time;
  environment?: string;
}

export interface NewToken {
  kind: TokenKind;
  name?: string;
  expires_seconds?: number;
  uses?: number;
  environment?: string;
}

export interface MadeToken {
  token: string;
  kind: TokenKind;
  expires?: Time;
}

export interface Status {
  version: string;
  time?: Time;
  recorded: boolean;
  instances: Node[];
  received?: Record<string, number>;
  storage_bytes?: number;
}

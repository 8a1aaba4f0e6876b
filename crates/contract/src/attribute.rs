//! Names of attributes, one table for spans, metrics, JSON rows and the page.
//!
//! Names are those of the OpenTelemetry semantic conventions where they have one (`GenAI`
//! conventions repository of 2026-08; core 1.41), else they begin with `sonde.`.

// Resource: who made the call.
/// Shown name of the workload; a person may change it.
pub const SERVICE_NAME: &str = "service.name";
/// Name of the node.
pub const HOST_NAME: &str = "host.name";
/// Machine id of the node.
pub const HOST_ID: &str = "host.id";
/// Process id, as the node's own pid namespace counts.
pub const PROCESS_PID: &str = "process.pid";
/// Arguments of the process, secrets masked (array of strings).
pub const PROCESS_COMMAND_ARGS: &str = "process.command_args";
/// Absolute path of the executable.
pub const PROCESS_EXECUTABLE_PATH: &str = "process.executable.path";
/// User that the process runs as.
pub const PROCESS_OWNER: &str = "process.owner";
/// Language runtime, such as `cpython` or `nodejs`.
pub const PROCESS_RUNTIME_NAME: &str = "process.runtime.name";
/// Version of the language runtime.
pub const PROCESS_RUNTIME_VERSION: &str = "process.runtime.version";
/// Name of a container.
pub const CONTAINER_NAME: &str = "container.name";
/// Id of a container.
pub const CONTAINER_ID: &str = "container.id";
/// Image that a container was made from, with its tag.
pub const CONTAINER_IMAGE_NAME: &str = "container.image.name";
/// Container runtime: `docker`, `podman`, `containerd`, `cri-o`.
pub const CONTAINER_RUNTIME_NAME: &str = "container.runtime.name";
/// Working directory of the process.
pub const PROCESS_WORKING_DIRECTORY: &str = "process.working_directory";
/// Process that started this one.
pub const PROCESS_PARENT_PID: &str = "process.parent_pid";
/// Where the program is deployed: `production`, `staging`, ….
pub const DEPLOYMENT_ENVIRONMENT_NAME: &str = "deployment.environment.name";
/// Namespace of services: the Kubernetes namespace, the compose project.
pub const SERVICE_NAMESPACE: &str = "service.namespace";
/// The one instance among the replicas of a service.
pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
/// Name of the cluster.
pub const K8S_CLUSTER_NAME: &str = "k8s.cluster.name";
/// UID of the cluster's namespace `kube-system`.
pub const K8S_CLUSTER_UID: &str = "k8s.cluster.uid";
/// Name of the node, as the API server knows it.
pub const K8S_NODE_NAME: &str = "k8s.node.name";
/// Namespace of the pod.
pub const K8S_NAMESPACE_NAME: &str = "k8s.namespace.name";
/// Name of the pod.
pub const K8S_POD_NAME: &str = "k8s.pod.name";
/// UID of the pod.
pub const K8S_POD_UID: &str = "k8s.pod.uid";
/// Name of the container in the pod's specification.
pub const K8S_CONTAINER_NAME: &str = "k8s.container.name";
/// Kind of the object at the top of the chain of owners, such as `Deployment` or `Rollout`.
pub const WORKLOAD_KIND: &str = "sonde.workload.kind";
/// Name of the object at the top of the chain of owners.
pub const WORKLOAD_NAME: &str = "sonde.workload.name";
/// Unit of systemd.
pub const SYSTEMD_UNIT: &str = "systemd.unit";
/// What begins the name of a label of the pod; the label's own name follows.
pub const K8S_POD_LABEL: &str = "k8s.pod.label.";
/// What begins the name of a label of the container; the label's own name follows.
pub const CONTAINER_LABEL: &str = "container.label.";
/// Key of the workload ([`crate::workload::Key`]): from infrastructure only, stable over restarts.
pub const WORKLOAD_KEY: &str = "sonde.workload.key";
/// Where the workload runs: `kubernetes`, `docker`, `systemd`, `process`.
pub const PLATFORM: &str = "sonde.platform";
/// Present and true on everything that came from `sonde replay`.
pub const RECORDED: &str = "sonde.recorded";

// Span: the model call.
/// `chat`, `embeddings`, ….
pub const OPERATION_NAME: &str = "gen_ai.operation.name";
/// Who serves the model, such as `openai`.
pub const PROVIDER_NAME: &str = "gen_ai.provider.name";
/// Model as asked for.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// True when the answer was asked for as a stream; absent otherwise.
pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
/// Upper limit of tokens asked for.
pub const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
/// Temperature asked for.
pub const REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
/// `top_p` asked for.
pub const REQUEST_TOP_P: &str = "gen_ai.request.top_p";
/// Choices asked for, when present and not one.
pub const REQUEST_CHOICE_COUNT: &str = "gen_ai.request.choice.count";
/// Id that the provider gave its answer.
pub const RESPONSE_ID: &str = "gen_ai.response.id";
/// Model as answered.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// One reason a choice, in index order (array of strings).
pub const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Seconds from the first request byte to the first stream event that is not a comment or ping.
pub const TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// All input tokens, cached ones included.
pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// All output tokens, reasoning included.
pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Part of the input that was read from the provider's cache.
pub const CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Part of the input that was written to the provider's cache.
pub const CACHE_WRITE_TOKENS: &str = "gen_ai.usage.cache_write.input_tokens";
/// Part of the output that was reasoning.
pub const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
/// Id of the conversation, only where the API carries a real one.
pub const CONVERSATION_ID: &str = "gen_ai.conversation.id";
/// Names of the tools that the model asked to call (array of strings).
pub const TOOL_CALLS: &str = "sonde.tool_calls";
/// Host that was asked.
pub const SERVER_ADDRESS: &str = "server.address";
/// Port that was asked.
pub const SERVER_PORT: &str = "server.port";
/// Status code of the HTTP answer, such as 429.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// Class of the failure; absent on success.
pub const ERROR_TYPE: &str = "error.type";
/// Seconds from the first request byte to the end of the answer.
pub const DURATION: &str = "sonde.duration";
/// Seconds to the first event that carries content, reasoning or a tool call.
pub const TIME_TO_FIRST_TOKEN: &str = "sonde.time_to_first_token";
/// Price in USD, a decimal string without rounding; absent when unknown.
pub const COST: &str = "sonde.cost";
/// Version of the price table that `sonde.cost` was made with.
pub const PRICE_TABLE: &str = "sonde.price_table";
/// Seconds that the provider asked to wait (`retry-after`).
pub const RETRY_AFTER: &str = "sonde.retry_after";
/// Number of this attempt where the client numbers its retries (0 is the first).
pub const RESEND_COUNT: &str = "http.request.resend_count";
/// Events in the answer's stream.
pub const CHUNK_COUNT: &str = "sonde.chunk_count";
/// How the provider was recognised: `host` or `shape`.
pub const RECOGNISED_BY: &str = "sonde.recognised_by";
/// Why part of the call was not seen; absent when all of it was.
pub const INCOMPLETE: &str = "sonde.incomplete";
/// Size of the request body as sent, in bytes.
pub const REQUEST_BODY_SIZE: &str = "http.request.body.size";
/// Size of the response body as received, in bytes.
pub const RESPONSE_BODY_SIZE: &str = "http.response.body.size";

// Rows of services.
/// Providers seen (array of strings).
pub const PROVIDERS: &str = "sonde.providers";
/// Models that were asked for (array of strings).
pub const MODELS: &str = "sonde.models";
/// Providers and models, and from when to when each was seen (array of objects, see
/// [`crate::workload::Asked`]).
pub const ASKED: &str = "sonde.asked";
/// How the workload was recognised (array of objects, see [`crate::workload::Evidence`]).
pub const EVIDENCE: &str = "sonde.evidence";
/// Capture level that is wanted.
pub const CAPTURE_DESIRED: &str = "sonde.capture.desired";
/// Capture level that is in effect.
pub const CAPTURE_OBSERVED: &str = "sonde.capture.observed";
/// State of the way from observed to desired.
pub const CAPTURE_STATE: &str = "sonde.capture.state";
/// One sentence on why the state is as it is, with what to do next.
pub const CAPTURE_REASON: &str = "sonde.capture.reason";
/// Running instances (array of objects, see [`crate::row::Instance`]).
pub const INSTANCES: &str = "sonde.instances";
/// What reads the TLS traffic of the workload, for instance `libssl 3.0.17`.
pub const TLS: &str = "sonde.tls";
/// Calls a minute, over the last five minutes or since the workload is known.
pub const CALLS_PER_MINUTE: &str = "sonde.calls_per_minute";
/// First time that the workload was seen.
pub const FIRST_SEEN: &str = "sonde.first_seen";
/// Last time that the workload was seen to talk to a model.
pub const LAST_SEEN: &str = "sonde.last_seen";

// Rows of calls.
/// Id of a call, as the dashboard names it.
pub const CALL_ID: &str = "sonde.call.id";

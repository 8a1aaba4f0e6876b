//! What leaves: the exact form of spans and metrics, and what happens when the receiver fails.

use super::*;
use crate::registry::tests::program;
use crate::stand_in::{Response, StandIn, Stopwatch};
use contract::attribute;
use contract::workload::Runtime;
use expect_test::expect_file;
use genai::{Cost, Incomplete, RecognisedBy, Usage};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest,
};
use std::sync::atomic::AtomicU32;
use wire::Moment;

/// Boot at the second 1 800 000 000 after 1970, one hour ago.
const NOW: Now =
    Now { monotonic: Moment(3_600_000_000_000), unix_nanos: 1_800_003_600_000_000_000 };

fn call() -> ModelCall {
    ModelCall {
        provider: "openai".to_owned(),
        operation: "chat",
        recognised_by: RecognisedBy::Host,
        server_address: Some("api.openai.com".to_owned()),
        server_port: Some(443),
        request_model: Some("gpt-4o-mini".to_owned()),
        stream: true,
        max_tokens: Some(100),
        temperature: Some(0.5),
        top_p: None,
        choice_count: Some(1),
        resend_count: Some(0),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        status: Some(200),
        response_id: Some("chatcmpl-1".to_owned()),
        response_model: Some("gpt-4o-mini-2024-07-18".to_owned()),
        finish_reasons: vec!["stop".to_owned()],
        tool_calls: vec!["weather".to_owned()],
        usage: Usage {
            input: Some(20),
            output: Some(7),
            cache_read: Some(4),
            reasoning: Some(0),
            ..Usage::default()
        },
        cost: Some(Cost { pico_usd: 7_200_000 }),
        error: None,
        retry_after_seconds: None,
        started: Moment(3_598_000_000_000),
        first_chunk: Some(Moment(3_598_250_000_000)),
        first_token: Some(Moment(3_598_300_000_000)),
        ended: Moment(3_599_500_000_000),
        chunk_count: 9,
        request_bytes: 321,
        response_bytes: 4321,
        incomplete: None,
    }
}

fn failed_call() -> ModelCall {
    ModelCall {
        provider: "anthropic".to_owned(),
        request_model: None,
        server_address: None,
        server_port: None,
        recognised_by: RecognisedBy::Shape,
        stream: false,
        traceparent: Some("nonsense".to_owned()),
        status: Some(429),
        response_id: None,
        response_model: None,
        finish_reasons: Vec::new(),
        tool_calls: Vec::new(),
        usage: Usage::default(),
        cost: None,
        error: Some("rate_limit_error".to_owned()),
        retry_after_seconds: Some(2.0),
        first_chunk: None,
        first_token: None,
        chunk_count: 0,
        incomplete: Some(Incomplete::Gap),
        ..call()
    }
}

fn caller(key: &str) -> Arc<Program> {
    let mut caller = Program::clone(&program(key, 42, Some("libssl 3.0.17")));
    caller.name = "chat.py".to_owned();
    caller.instance.parent = 7;
    caller.instance.directory = "/srv/chat".to_owned();
    if key.ends_with('2') {
        caller.platform = contract::workload::Platform::Kubernetes;
        let attributes = [
            (attribute::K8S_CLUSTER_UID, "0d5c"),
            (attribute::K8S_NAMESPACE_NAME, "prod"),
            (attribute::DEPLOYMENT_ENVIRONMENT_NAME, "production"),
            (attribute::CONTAINER_IMAGE_NAME, "registry.example/chat:7"),
        ];
        caller.attributes =
            attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let own = [
            (attribute::K8S_NODE_NAME, "node-1"),
            (attribute::K8S_POD_NAME, "chat-5d8-x2x"),
            (attribute::CONTAINER_ID, "c0ffee"),
        ];
        caller.instance.attributes =
            own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    }
    caller.instance.runtime =
        Some(Runtime { name: "cpython".to_owned(), version: Some("3.11.2".to_owned()) });
    Arc::new(caller)
}

fn batch() -> Vec<Finished> {
    let (one, other) = (caller("host-1/process:python3-1"), caller("host-1/process:python3-2"));
    vec![
        Finished { program: Arc::clone(&one), call: call(), now: NOW },
        Finished { program: other, call: failed_call(), now: NOW },
        Finished { program: one, call: call(), now: NOW },
    ]
}

fn sender(recorded: bool) -> Sender {
    Sender {
        host_name: "node-1".to_owned(),
        host_id: "0123".to_owned(),
        given: Given::default(),
        recorded,
    }
}

fn start(
    dashboard: &StandIn,
) -> (Queue, Arc<Losses>, Arc<AtomicBool>, std::thread::JoinHandle<()>) {
    let (losses, stop) = (Arc::new(Losses::default()), Arc::new(AtomicBool::new(false)));
    let link = Link::new(&dashboard.url, None).unwrap();
    let (queue, exporter) =
        channel(link, sender(false), Arc::clone(&losses), Arc::clone(&stop), Backlog::default());
    (queue, losses, stop, std::thread::spawn(move || exporter.run()))
}

fn one() -> Finished {
    batch().swap_remove(0)
}

#[test]
fn spans_have_this_form() {
    let request = span::request(&batch(), &sender(true), &mut Ids::counting());
    expect_file!["calls.otlp.json"]
        .assert_eq(&(serde_json::to_string_pretty(&request).unwrap() + "\n"));
}

/// A call of one instance of a service.
fn of_instance(pid: u32) -> Finished {
    let mut program = Program::clone(&caller("host-1/process:python3-2"));
    program.instance.pid = pid;
    Finished { program: Arc::new(program), call: call(), now: NOW }
}

#[test]
fn metrics_have_the_resource_of_spans_with_its_instance_node_and_container() {
    let mut metrics = Metrics::new(Arc::default());
    let batch = [of_instance(7), of_instance(8)];
    batch.iter().for_each(|finished| metrics.record(finished, &sender(false)));
    let request = metrics.request(&sender(false), NOW.unix_nanos).unwrap();
    let spans = span::request(&batch, &sender(false), &mut Ids::counting());
    let of_metrics: Vec<_> = request.resource_metrics.iter().map(|it| &it.resource).collect();
    let of_spans: Vec<_> = spans.resource_spans.iter().map(|it| &it.resource).collect();
    assert_eq!(of_metrics, of_spans);
    assert_eq!(of_metrics.len(), 2, "one for each instance");
    let attributes = &of_metrics[0].as_ref().unwrap().attributes;
    let names: Vec<_> = attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    for name in [
        attribute::SERVICE_INSTANCE_ID,
        attribute::SERVICE_NAME,
        attribute::WORKLOAD_KEY,
        attribute::DEPLOYMENT_ENVIRONMENT_NAME,
        attribute::K8S_CLUSTER_UID,
        attribute::K8S_NAMESPACE_NAME,
        attribute::K8S_NODE_NAME,
        attribute::CONTAINER_ID,
    ] {
        assert!(names.contains(&name), "{name}");
    }
}

#[test]
fn instances_that_are_long_gone_make_room_for_new_ones_once_they_were_told() {
    let losses = Arc::<Losses>::default();
    let mut metrics = Metrics::new(Arc::clone(&losses));
    let instances = |metrics: &Metrics| {
        let request = metrics.request(&sender(false), 1).unwrap();
        let of = |it: &opentelemetry_proto::tonic::metrics::v1::ResourceMetrics| {
            let attributes = &it.resource.as_ref().unwrap().attributes;
            let pid = attributes.iter().find(|it| it.key == attribute::PROCESS_PID).unwrap();
            format!("{:?}", pid.value)
        };
        request.resource_metrics.iter().map(of).collect::<Vec<_>>()
    };
    // Each has four series.
    (1..=600).for_each(|pid| metrics.record(&of_instance(pid), &sender(false)));
    assert_eq!(losses.count(Loss::SeriesLimit), 400, "nobody was told of those that are there");
    metrics.sent();
    metrics.record(&of_instance(1), &sender(false));
    metrics.record(&of_instance(9_999), &sender(false));
    assert_eq!(losses.count(Loss::SeriesLimit), 400);
    let left = instances(&metrics);
    let has = |pid: u32| left.iter().any(|it| it.contains(&format!("({pid})")));
    assert!(has(1) && has(9_999) && !has(2) && has(3), "the longest silent one went");
}

#[test]
fn metrics_have_this_form() {
    let mut metrics = Metrics::new(Arc::default());
    assert!(metrics.request(&sender(false), 1).is_none());
    for finished in batch() {
        metrics.record(&finished, &sender(false));
    }
    let request = metrics.request(&sender(false), NOW.unix_nanos).unwrap();
    expect_file!["metrics.otlp.json"]
        .assert_eq(&(serde_json::to_string_pretty(&request).unwrap() + "\n"));
    metrics.sent();
    assert!(metrics.request(&sender(false), 1).is_none());
}

#[test]
fn a_call_arrives_without_waiting_for_others_and_metrics_at_the_stop() {
    let dashboard = StandIn::start(|_| Response::of(200, ""));
    let (queue, losses, _, thread) = start(&dashboard);
    let before = Stopwatch::start();
    queue.push(one());
    let request = dashboard.next("/v1/traces");
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    assert_eq!(request.headers["content-type"], PROTOBUF);
    let sent = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
    assert_eq!(sent.resource_spans[0].scope_spans[0].spans[0].name, "chat gpt-4o-mini");
    drop(queue);
    let metrics =
        ExportMetricsServiceRequest::decode(dashboard.next("/v1/metrics").body.as_slice()).unwrap();
    assert_eq!(metrics.resource_metrics[0].scope_metrics[0].metrics.len(), 3);
    thread.join().unwrap();
    assert!(losses.by_reason().is_empty());
}

#[test]
fn the_same_batch_is_sent_until_it_is_taken() {
    let count = AtomicU32::new(0);
    let dashboard = StandIn::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Response::of(503, ""),
        1 => Response { headers: vec![("retry-after", "1".to_owned())], ..Response::of(429, "") },
        _ => Response::of(200, ""),
    });
    let (queue, losses, _, thread) = start(&dashboard);
    queue.push(one());
    let first = dashboard.next("/v1/traces");
    assert_eq!(
        dashboard.next("/v1/traces").body,
        first.body,
        "the same ids, so that it counts once"
    );
    let before = Stopwatch::start();
    assert_eq!(dashboard.next("/v1/traces").body, first.body);
    assert!(
        before.elapsed() > Duration::from_millis(900),
        "retry-after is honoured: {:?}",
        before.elapsed()
    );
    drop(queue);
    thread.join().unwrap();
    assert!(losses.by_reason().is_empty());
}

#[test]
fn what_is_refused_or_rejected_is_counted() {
    let count = AtomicU32::new(0);
    let partial = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 2,
            ..ExportTracePartialSuccess::default()
        }),
    };
    let dashboard = StandIn::start(move |request| {
        match (request.path.as_str(), count.fetch_add(1, Ordering::SeqCst)) {
            ("/v1/traces", 0) => Response::of(400, ""),
            ("/v1/traces", _) => Response::of(200, partial.encode_to_vec()),
            _ => Response::of(200, ""),
        }
    });
    let (queue, losses, _, thread) = start(&dashboard);
    queue.push(one());
    dashboard.next("/v1/traces");
    queue.push(one());
    dashboard.next("/v1/traces");
    drop(queue);
    thread.join().unwrap();
    assert_eq!(losses.by_reason()["span_rejected"], 3);
}

#[test]
fn a_stop_ends_the_trying_and_counts_what_is_left() {
    let dashboard = StandIn::start(|_| Response::of(503, ""));
    let (queue, losses, stop, thread) = start(&dashboard);
    queue.push(one());
    dashboard.next("/v1/traces");
    stop.store(true, Ordering::Relaxed);
    drop(queue);
    let before = Stopwatch::start();
    thread.join().unwrap();
    assert!(before.elapsed() < FLUSH + Duration::from_secs(2));
    assert_eq!(losses.by_reason()["span_unsent"], 1);
}

#[test]
fn a_full_queue_refuses_and_counts() {
    let losses = Arc::new(Losses::default());
    let stop = Arc::new(AtomicBool::new(false));
    drop(rustls::crypto::ring::default_provider().install_default());
    let link = Link::new("http://127.0.0.1:1", None).unwrap();
    let (queue, _exporter) =
        channel(link, sender(false), Arc::clone(&losses), stop, Backlog::default());
    for _ in 0..MAX_QUEUE + 3 {
        queue.push(one());
    }
    assert_eq!(losses.by_reason()["span_queue_full"], 3);
}

#[test]
fn calls_made_while_the_receiver_is_away_arrive_in_order_even_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let away = StandIn::start(|_| Response::of(503, ""));
    let spooling = |dashboard: &StandIn| {
        let (losses, stop) = (Arc::new(Losses::default()), Arc::new(AtomicBool::new(false)));
        let backlog =
            Backlog { directory: Some(directory.path().to_owned()), ..Backlog::default() };
        let link = Link::new(&dashboard.url, None).unwrap();
        let parts =
            channel(link, sender(false), Arc::clone(&losses), Arc::clone(&stop), backlog.clone());
        let exporter = parts.1;
        (parts.0, losses, stop, backlog, std::thread::spawn(move || exporter.run()))
    };
    let (queue, losses, stop, backlog, thread) = spooling(&away);
    queue.push(one());
    let first = away.next("/v1/traces").body;
    queue.push(one());
    while backlog.length.load(Ordering::Relaxed) < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    stop.store(true, Ordering::Relaxed);
    drop(queue);
    thread.join().unwrap();
    assert!(losses.by_reason().is_empty(), "on disk, and not lost: {:?}", losses.by_reason());

    let back = StandIn::start(|_| Response::of(200, ""));
    let (queue, _, _, backlog, thread) = spooling(&back);
    assert_eq!(back.next("/v1/traces").body, first, "the same request, with the same ids");
    assert_ne!(back.next("/v1/traces").body, first);
    drop(queue);
    thread.join().unwrap();
    assert_eq!(backlog.length.load(Ordering::Relaxed), 0);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

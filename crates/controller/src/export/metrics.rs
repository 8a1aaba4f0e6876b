//! Metrics of model calls, in the names that backends read today (semantic conventions 1.41):
//! duration, tokens and time to first chunk, as cumulative histograms of each instance, with the same
//! resource as its spans.

use super::span::{self, Attributes, scope, seconds};
use super::{Finished, Sender};
use crate::limits::{Loss, Losses};
use contract::attribute;
use contract::workload::Key;
use genai::ModelCall;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Histogram, HistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics,
    metric,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use std::collections::BTreeMap;
use std::sync::Arc;
use workloads::Program;

/// Series of one controller: instances times models times providers times errors; beyond, the one
/// that got no value for the longest time makes room, once the receiver has it.
const MAX_SERIES: usize = 2_000;

const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Instrument {
    Duration,
    Tokens,
    FirstChunk,
}

/// All that tells one series from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    workload: Key,
    /// Its `service.instance.id`.
    instance: String,
    instrument: Instrument,
    labels: Vec<(&'static str, String)>,
    port: Option<u16>,
}

#[derive(Debug)]
struct Point {
    program: Arc<Program>,
    started_unix_nanos: u64,
    count: u64,
    sum: f64,
    buckets: [u64; 15],
    /// When it got its last value, in values.
    touched: u64,
}

/// The histograms.
#[derive(Debug)]
pub(super) struct Metrics {
    points: BTreeMap<Series, Point>,
    /// Values so far.
    values: u64,
    /// Values so far when the receiver last had all.
    sent: u64,
    losses: Arc<Losses>,
}

impl Metrics {
    pub(super) fn new(losses: Arc<Losses>) -> Self {
        Self { points: BTreeMap::new(), values: 0, sent: 0, losses }
    }

    /// Counts one call.
    pub(super) fn record(&mut self, finished: &Finished, sender: &Sender) {
        let instance = span::instance_id(&finished.program, sender);
        let call = &finished.call;
        let duration = seconds(call.ended.0.saturating_sub(call.started.0));
        let error = labels(call, &[(attribute::ERROR_TYPE, call.error.as_deref())]);
        self.observe(finished, &instance, (Instrument::Duration, error), duration);
        if let Some(chunk) = call.first_chunk {
            let wait = seconds(chunk.0.saturating_sub(call.started.0));
            self.observe(finished, &instance, (Instrument::FirstChunk, labels(call, &[])), wait);
        }
        // Tokens that were not reported are not recorded, not even as zero.
        for (kind, tokens) in [("input", call.usage.input), ("output", call.usage.output)] {
            if let Some(tokens) = tokens {
                let labels = labels(call, &[("gen_ai.token.type", Some(kind))]);
                let tokens = f64::from(u32::try_from(tokens).unwrap_or(u32::MAX));
                self.observe(finished, &instance, (Instrument::Tokens, labels), tokens);
            }
        }
    }

    fn observe(
        &mut self,
        finished: &Finished,
        instance: &str,
        (instrument, labels): (Instrument, Vec<(&'static str, String)>),
        value: f64,
    ) {
        let program = &finished.program;
        let series = Series {
            workload: program.key.clone(),
            instance: instance.to_owned(),
            instrument,
            labels,
            port: finished.call.server_port,
        };
        self.values += 1;
        let is_full = self.points.len() >= MAX_SERIES && !self.points.contains_key(&series);
        if is_full && !self.make_room() {
            self.losses.add(Loss::SeriesLimit, 1);
            return;
        }
        let point = self.points.entry(series).or_insert_with(|| Point {
            program: Arc::clone(program),
            // Just before the first value.
            started_unix_nanos: finished.now.wall(finished.call.started),
            count: 0,
            sum: 0.0,
            buckets: [0; 15],
            touched: 0,
        });
        point.touched = self.values;
        point.count += 1;
        point.sum += value;
        let bucket =
            instrument.bounds().iter().position(|bound| value <= *bound).unwrap_or(TOKENS.len());
        if let Some(bucket) = point.buckets.get_mut(bucket) {
            *bucket += 1;
        }
    }

    /// Forgets the series that got no value for the longest time; `false` when the receiver has not
    /// had even that one.
    fn make_room(&mut self) -> bool {
        let oldest = self.points.iter().min_by_key(|(_, point)| point.touched);
        let oldest = oldest.filter(|(_, point)| point.touched <= self.sent);
        let Some(oldest) = oldest.map(|(series, _)| series.clone()) else { return false };
        self.points.remove(&oldest).is_some()
    }

    /// All series as they stand; `None` when nothing changed since [`sent`](Self::sent).
    pub(super) fn request(
        &self,
        sender: &Sender,
        unix_nanos: u64,
    ) -> Option<ExportMetricsServiceRequest> {
        if self.values == self.sent {
            return None;
        }
        let mut resources: Vec<((&Key, &str), ResourceMetrics)> = Vec::new();
        for (series, point) in &self.points {
            // The map is ordered by workload, instance and instrument: new ones come last.
            let of = (&series.workload, series.instance.as_str());
            if resources.last().is_none_or(|(before, _)| *before != of) {
                resources.push((of, resource(&point.program, sender)));
            }
            let scope =
                resources.last_mut().and_then(|(_, resource)| resource.scope_metrics.last_mut());
            let Some(ScopeMetrics { metrics, .. }) = scope else { continue };
            if metrics.last().is_none_or(|metric| metric.name != series.instrument.name()) {
                metrics.push(series.instrument.metric());
            }
            if let Some(Metric { data: Some(metric::Data::Histogram(histogram)), .. }) =
                metrics.last_mut()
            {
                histogram.data_points.push(data_point(series, point, unix_nanos));
            }
        }
        Some(ExportMetricsServiceRequest {
            resource_metrics: resources.into_iter().map(|(_, resource)| resource).collect(),
        })
    }

    /// Notes that the receiver has them.
    pub(super) fn sent(&mut self) {
        self.sent = self.values;
    }
}

impl Instrument {
    fn name(self) -> &'static str {
        match self {
            Self::Duration => "gen_ai.client.operation.duration",
            Self::Tokens => "gen_ai.client.token.usage",
            Self::FirstChunk => "gen_ai.client.operation.time_to_first_chunk",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Duration | Self::FirstChunk => "s",
            Self::Tokens => "{token}",
        }
    }

    fn bounds(self) -> &'static [f64] {
        match self {
            Self::Duration | Self::FirstChunk => &SECONDS,
            Self::Tokens => &TOKENS,
        }
    }

    fn metric(self) -> Metric {
        Metric {
            name: self.name().to_owned(),
            unit: self.unit().to_owned(),
            data: Some(metric::Data::Histogram(Histogram {
                data_points: Vec::new(),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            })),
            ..Metric::default()
        }
    }
}

fn labels(call: &ModelCall, more: &[(&'static str, Option<&str>)]) -> Vec<(&'static str, String)> {
    let common = [
        (attribute::OPERATION_NAME, Some(call.operation)),
        (attribute::PROVIDER_NAME, Some(call.provider.as_str())),
        (attribute::REQUEST_MODEL, call.request_model.as_deref()),
        (attribute::RESPONSE_MODEL, call.response_model.as_deref()),
        (attribute::SERVER_ADDRESS, call.server_address.as_deref()),
    ];
    common
        .iter()
        .chain(more)
        .filter_map(|(name, value)| Some((*name, (*value)?.to_owned())))
        .collect()
}

fn resource(program: &Program, sender: &Sender) -> ResourceMetrics {
    ResourceMetrics {
        resource: Some(Resource {
            attributes: span::resource(program, sender),
            ..Resource::default()
        }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope()), ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    }
}

fn data_point(series: &Series, point: &Point, unix_nanos: u64) -> HistogramDataPoint {
    let mut attributes = Attributes(Vec::<KeyValue>::new());
    for (name, value) in &series.labels {
        attributes.set(name, value.as_str());
    }
    if let Some(port) = series.port {
        attributes.set(attribute::SERVER_PORT, i64::from(port));
    }
    HistogramDataPoint {
        attributes: attributes.0,
        start_time_unix_nano: point.started_unix_nanos,
        time_unix_nano: unix_nanos,
        count: point.count,
        sum: Some(point.sum),
        bucket_counts: point.buckets.to_vec(),
        explicit_bounds: series.instrument.bounds().to_vec(),
        ..HistogramDataPoint::default()
    }
}

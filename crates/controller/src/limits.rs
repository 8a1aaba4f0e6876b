//! What is lost, by reason. Every queue and table with a limit counts here what it refuses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the reasons and the list of them from one table.
macro_rules! losses {
    ($($(#[$doc:meta])+ $reason:ident = $word:literal,)+) => {
        /// Why something was not kept.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Loss {
            $($(#[$doc])+ $reason,)+
        }

        const ALL: &[(Loss, &str)] = &[$((Loss::$reason, $word),)+];
    };
}

losses! {
    /// Events that the pipeline was too slow for; data among them leaves a gap.
    EventQueueFull = "event_queue_full",
    /// Connections that were given up because too many were open.
    ConnectionLimit = "connection_limit",
    /// Calls whose program had ended before it could be read.
    ProgramGone = "program_gone",
    /// Notices from the pipeline that the reconcile loop was too slow for.
    NoticeQueueFull = "notice_queue_full",
    /// Workloads beyond the limit of a node.
    WorkloadLimit = "workload_limit",
    /// Workloads that were stopped and made room for new ones.
    WorkloadForgotten = "workload_forgotten",
    /// Processes of one workload beyond the limit.
    InstanceLimit = "instance_limit",
    /// Evidence, providers and models of one workload that made room for new ones.
    EvidenceForgotten = "evidence_forgotten",
    /// Spans that did not fit the export queue.
    SpanQueueFull = "span_queue_full",
    /// Spans that the receiver rejected, or refused for good.
    SpanRejected = "span_rejected",
    /// Spans that could not be sent before the stop.
    SpanUnsent = "span_unsent",
    /// Series of metrics beyond the limit.
    SeriesLimit = "series_limit",
    /// Chunks that did not fit the recording.
    RecordingLimit = "recording_limit",
}

/// Counters of all losses since the start.
#[derive(Debug, Default)]
pub(crate) struct Losses([AtomicU64; ALL.len()]);

impl Losses {
    /// Counts `number` more losses.
    pub(crate) fn add(&self, loss: Loss, number: u64) {
        let index = ALL.iter().position(|(known, _)| *known == loss);
        if let Some(counter) = index.and_then(|index| self.0.get(index)) {
            counter.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// How many were lost for this reason.
    pub(crate) fn count(&self, loss: Loss) -> u64 {
        let index = ALL.iter().position(|(known, _)| *known == loss);
        let counter = index.and_then(|index| self.0.get(index));
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// What was lost, by reason; reasons that did not occur are left out.
    pub(crate) fn by_reason(&self) -> BTreeMap<String, u64> {
        let counted = ALL
            .iter()
            .zip(&self.0)
            .map(|((_, word), counter)| ((*word).to_owned(), counter.load(Ordering::Relaxed)));
        counted.filter(|(_, number)| *number > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_occurred_is_reported() {
        let losses = Losses::default();
        losses.add(Loss::SpanRejected, 2);
        losses.add(Loss::RecordingLimit, 1);
        losses.add(Loss::SpanRejected, 1);
        assert_eq!(
            losses.by_reason(),
            BTreeMap::from([("span_rejected".to_owned(), 3), ("recording_limit".to_owned(), 1)])
        );
    }
}

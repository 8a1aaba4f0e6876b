//! What of the list of workloads is told: all of it once, then what changed. A value without I/O.

use crate::standing::Published;
use contract::poll::{Delta, Report};
use contract::workload::{Key, Observed};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the dashboard has of the list.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    /// What it took over last, and under which number.
    told: Option<(u64, Arc<Published>)>,
    /// What was sent and not answered yet.
    sent: Option<(u64, Arc<Published>)>,
    newest: u64,
}

impl Deltas {
    /// Puts into a report what the dashboard does not have; all of it where it takes no deltas.
    pub(super) fn fill(&mut self, report: &mut Report, now: &Arc<Published>, takes_deltas: bool) {
        let next = self.newest + 1;
        match self.told.as_ref().filter(|_| takes_deltas) {
            None => {
                report.workloads = Some(now.workloads.clone());
                report.sequence = next;
            }
            Some((base, told)) => {
                let (changed, gone) = difference(&told.workloads, &now.workloads);
                if changed.is_empty() && gone.is_empty() {
                    self.sent = None;
                    return;
                }
                report.delta = Some(Delta { base: *base, sequence: next, changed, gone });
            }
        }
        self.newest = next;
        self.sent = Some((next, Arc::clone(now)));
    }

    /// The dashboard answered: it has what was sent.
    pub(super) fn taken(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.told = Some(sent);
        }
    }

    /// The dashboard wants all of it, or nobody knows what it has.
    pub(super) fn begin_anew(&mut self) {
        self.told = None;
    }
}

fn difference(before: &[Observed], now: &[Observed]) -> (Vec<Observed>, Vec<Key>) {
    let mut gone: BTreeMap<&Key, &Observed> = before.iter().map(|it| (&it.key, it)).collect();
    let mut changed = Vec::new();
    for observed in now {
        if gone.remove(&observed.key) != Some(observed) {
            changed.push(observed.clone());
        }
    }
    (changed, gone.into_keys().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::capture::{Level, State};
    use contract::workload::Platform;
    use proptest::prelude::*;

    fn observed(key: u8, reason: u8) -> Observed {
        Observed {
            key: Key(format!("k{key}")),
            name: String::new(),
            platform: Platform::Process,
            instances: Vec::new(),
            asked: Vec::new(),
            replaces: Vec::new(),
            evidence: Vec::new(),
            level: Level::Off,
            state: State::Discovered,
            reason: reason.to_string(),
            first_seen_unix_nanos: 0,
            last_seen_unix_nanos: 0,
            attributes: BTreeMap::new(),
            agent: None,
        }
    }

    fn published(list: &BTreeMap<u8, u8>) -> Arc<Published> {
        let workloads = list.iter().map(|(key, reason)| observed(*key, *reason)).collect();
        Arc::new(Published { workloads, ..Published::default() })
    }

    /// A dashboard, as it keeps a list (`storage`, `Control::report`).
    #[derive(Default)]
    struct Dashboard {
        sequence: Option<u64>,
        list: BTreeMap<Key, Observed>,
    }

    impl Dashboard {
        /// Takes a report over; true when it wants all of the list.
        fn hear(&mut self, report: &Report) -> bool {
            let is_late = self.sequence.is_some_and(|newest| report.sequence < newest);
            if let Some(all) = report.workloads.as_ref().filter(|_| !is_late) {
                self.list = all.iter().map(|it| (it.key.clone(), it.clone())).collect();
                self.sequence = Some(report.sequence);
            }
            match &report.delta {
                Some(delta) if self.sequence == Some(delta.base) => {
                    self.sequence = Some(delta.sequence);
                    for gone in &delta.gone {
                        self.list.remove(gone);
                    }
                    let changed = delta.changed.iter().map(|it| (it.key.clone(), it.clone()));
                    self.list.extend(changed);
                    false
                }
                Some(delta) => self.sequence != Some(delta.sequence),
                None => false,
            }
        }
    }

    proptest! {
        /// Whatever is lost on either way or comes again, and whenever the dashboard is restored:
        /// once a few reports come through, it has the list as it is, even if an old report comes last.
        #[test]
        fn the_dashboard_has_the_list_in_the_end(
            rounds in prop::collection::vec((0_u8..5, 0_u8..3, 0_u8..7, any::<bool>()), 0..40),
            late in any::<prop::sample::Index>(),
        ) {
            let (mut deltas, mut dashboard) = (Deltas::default(), Dashboard::default());
            let (mut list, mut sent) = (BTreeMap::new(), Vec::new());
            for (key, reason, event, takes_deltas) in rounds {
                if reason == 0 { list.remove(&key); } else { list.insert(key, reason); }
                let mut report = Report::default();
                deltas.fill(&mut report, &published(&list), takes_deltas);
                sent.push(report.clone());
                match event {
                    0 => {}                                                // The report is lost.
                    1 => { dashboard.hear(&report); }                      // The answer is lost.
                    2 => dashboard = Dashboard::default(),                 // Restored from nothing.
                    3 => { dashboard.hear(late.get(&sent)); }              // An old one comes again.
                    _ => {
                        let full = dashboard.hear(&report);
                        deltas.taken();
                        if full { deltas.begin_anew(); }
                    }
                }
            }
            for _ in 0..2 {
                let mut report = Report::default();
                list.insert(9, list.get(&9).copied().unwrap_or(0) + 1);
                deltas.fill(&mut report, &published(&list), true);
                let full = dashboard.hear(&report);
                deltas.taken();
                if full { deltas.begin_anew(); }
            }
            let mut report = Report::default();
            deltas.fill(&mut report, &published(&list), true);
            dashboard.hear(&report);
            if !sent.is_empty() { dashboard.hear(late.get(&sent)); }
            let has: Vec<_> = dashboard.list.into_values().collect();
            prop_assert_eq!(has, published(&list).workloads.clone());
        }
    }

    #[test]
    fn what_did_not_change_is_not_told_again() {
        let mut deltas = Deltas::default();
        let list = published(&BTreeMap::from([(1, 1), (2, 1)]));
        let mut first = Report::default();
        deltas.fill(&mut first, &list, true);
        assert_eq!((first.workloads.unwrap().len(), first.sequence), (2, 1));
        deltas.taken();
        let mut second = Report::default();
        deltas.fill(&mut second, &list, true);
        assert_eq!((second.workloads, second.delta), (None, None));
        let mut third = Report::default();
        deltas.fill(&mut third, &published(&BTreeMap::from([(2, 2)])), true);
        let delta = third.delta.unwrap();
        assert_eq!((delta.base, delta.changed.len(), delta.gone.len()), (1, 1, 1));
    }
}

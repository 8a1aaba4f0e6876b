//! What would be changed, for people who ask before they wish it.

use super::Running;
use crate::standing::{Published, Standings};
use contract::workload::{Key, Observed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Questions that wait.
const MAX_QUESTIONS: usize = 16;

/// What would be changed, as text; or why nothing is, and how a person does it, where one can.
pub(crate) type Previewed = Result<String, (String, String)>;

/// Somebody who wants to know what would be changed.
#[derive(Debug)]
struct Question {
    key: Key,
    reply: SyncSender<Previewed>,
}

/// Those who wait for an answer.
#[derive(Debug)]
pub(crate) struct Questions(Receiver<Question>);

/// The way to ask.
#[derive(Debug, Clone)]
pub(crate) struct Previews {
    questions: SyncSender<Question>,
    standings: Standings,
}

impl Previews {
    /// A way to ask, and what answers.
    pub(crate) fn channel(standings: Standings) -> (Self, Questions) {
        let (questions, asked) = sync_channel(MAX_QUESTIONS);
        (Self { questions, standings }, Questions(asked))
    }

    /// What would be changed for a workload, as text for people.
    ///
    /// # Errors
    ///
    /// Why nothing would be, and what to do.
    pub(crate) fn ask(&self, key: &Key, patience: Duration) -> Previewed {
        let busy = "The controller is busy or stops; ask again.";
        let (reply, answer) = sync_channel(1);
        let is_busy = || (busy.to_owned(), String::new());
        let asked = self.questions.try_send(Question { key: key.clone(), reply });
        asked.ok().ok_or_else(is_busy)?;
        self.standings.nudge();
        answer.recv_timeout(patience).ok().ok_or_else(is_busy)?
    }
}

impl Running {
    /// Answers everybody who asks.
    pub(super) fn answer(&mut self, published: &Published) {
        loop {
            let Ok(question) = self.parts.questions.0.try_recv() else { return };
            let observed = published.workloads.iter().find(|it| it.key == question.key);
            let answer = match observed {
                None => Err(("No workload of this node has this key.".to_owned(), String::new())),
                Some(observed) => self.preview(observed),
            };
            // Who asked may have given up.
            question.reply.try_send(answer).unwrap_or_default();
        }
    }

    fn preview(&mut self, observed: &Observed) -> Previewed {
        if let Some(record) = self.parts.records.get(&observed.key).filter(|it| it.is_in_effect()) {
            return Ok(format!(
                "It is in effect already; this was changed:\n{}",
                record.difference
            ));
        }
        if let Some(reason) = self.forbidden(observed) {
            return Err((reason, String::new()));
        }
        let plan = self
            .plan(observed)
            .map_err(|refusal| {
                let by_hand = injector::plan::by_hand(&refusal.by_hand);
                (refusal.reason, by_hand)
            })?
            .1;
        Ok(plan.text())
    }
}

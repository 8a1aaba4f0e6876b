//! Why a poll gave no answer: how long to wait, and what to say, each with the next step.

use crate::link::{Answer, Backoff, chance};
use contract::poll::{OLDEST_PROTOCOL, PROTOCOL};
use std::time::Duration;

/// Wait after the dashboard said that the token is wrong: nothing but a person can help.
pub(super) const WRONG_TOKEN_WAIT: Duration = Duration::from_secs(30);

/// What is shown of a message of the dashboard.
const MAX_MESSAGE: usize = 300;

/// Why a poll did not give an answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It cannot be reached, or not heard to the end.
    Unreachable(String),
    /// It answers, and not with a wish.
    Refused(Answer),
    /// It refuses the credential that was shown, and there is something else to show.
    Changed,
    /// It does not let this node join.
    NotEnrolled(Answer),
    /// There is nothing to join with.
    NotJoined,
    /// Its answer cannot be read.
    Unreadable(String),
    /// It speaks a protocol that this controller does not.
    Protocol(u32),
}

/// Whether trouble with the dashboard was said already.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    said: Option<String>,
}

impl Trouble {
    pub(super) fn unreachable(error: anyhow::Error) -> Self {
        Self::Unreachable(format!("{error:#}"))
    }

    pub(super) fn unreadable(error: serde_json::Error) -> Self {
        Self::Unreadable(error.to_string())
    }

    /// How long to wait before the next try.
    pub(super) fn wait(&self, backoff: &mut Backoff) -> Duration {
        let asked = match self {
            Self::Refused(answer) | Self::NotEnrolled(answer) => match answer.status {
                401 | 403 => Some(answer.retry_after.unwrap_or_default().max(WRONG_TOKEN_WAIT)),
                _ => answer.retry_after,
            },
            Self::NotJoined | Self::Protocol(_) => Some(WRONG_TOKEN_WAIT),
            Self::Unreachable(_) | Self::Unreadable(_) | Self::Changed => None,
        };
        backoff.next(asked, chance())
    }

    /// Whether waiting does not help: the dashboard knows what was shown not, or not any more.
    pub(super) fn is_final_refusal(&self) -> bool {
        match self {
            Self::Refused(answer) | Self::NotEnrolled(answer) => {
                matches!(answer.status, 401 | 403) && answer.retry_after.is_none()
            }
            Self::NotJoined => true,
            Self::Unreachable(_) | Self::Unreadable(_) | Self::Protocol(_) | Self::Changed => false,
        }
    }

    /// What to say, with the next step.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Unreachable(error) => error.clone(),
            Self::Unreadable(error) => {
                format!("cannot read its answer: {error}; is it a Sonde dashboard?")
            }
            Self::Refused(answer) => match answer.status {
                401 | 403 => with_message(
                    "it refuses this node: its credential was revoked, or is not known there; let \
                     the node join anew on the page of the fleet, and make a token with `sonde \
                     tokens create --kind join` there",
                    answer,
                ),
                status => with_message(&format!("it answers with status {status}"), answer),
            },
            Self::NotEnrolled(answer) => match answer.status {
                401 => with_message(
                    "it refuses our token; make a new one with `sonde tokens create --kind join` \
                     there",
                    answer,
                ),
                _ => with_message("it does not let this node join", answer),
            },
            Self::Changed => {
                "it does not know the credential of this node; joining it anew".to_owned()
            }
            Self::NotJoined => "this node has not joined it, and has no token to join with; make \
                                one with `sonde tokens create --kind join` there, and give it with \
                                --token-file"
                .to_owned(),
            Self::Protocol(theirs) => format!(
                "it answers in protocol {theirs}, and this controller speaks {OLDEST_PROTOCOL} to \
                 {PROTOCOL}; install the same version of sonde on both"
            ),
        }
    }
}

/// Adds what the dashboard says itself, cut, and without what moves a cursor.
fn with_message(words: &str, answer: &Answer) -> String {
    let body: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let message = body.as_ref().and_then(|body| body.pointer("/error/message")?.as_str());
    let message: String =
        message.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    if message.is_empty() { words.to_owned() } else { format!("{words} (it says: {message})") }
}

impl Complaint {
    /// Says each kind of trouble once, until it is over.
    pub(super) fn say(&mut self, trouble: &Trouble) {
        let words = trouble.in_words();
        if self.said.as_ref() != Some(&words) {
            tracing::warn!(error = %words, "cannot poll the dashboard; trying on, and what it wanted last still holds");
            self.said = Some(words);
        }
    }

    pub(super) fn settle(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("the dashboard answers again");
        }
    }
}

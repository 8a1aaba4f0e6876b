//! How the node is let in: it joins with a token once, and shows a credential of its own from then on.

use super::{JSON, PATIENCE, Poll, Trouble};
use crate::config::Token;
use crate::credential::{Credential, Next};
use contract::poll::{Enrolment, OLDEST_PROTOCOL, PROTOCOL};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) const ENROL_PATH: &str = "/api/v1/enrol";

impl Poll {
    /// How the node is let in, in one word for people.
    pub(crate) fn identity(&self) -> &'static str {
        match self.credential.as_ref().map(|credential| lock(credential)) {
            None => "none needed",
            Some(credential) if credential.is_enrolled() => "joined",
            Some(credential) => match credential.next() {
                Next::Poll(_) => "join token, because the dashboard is older",
                Next::Enrol { .. } => "not joined yet",
                Next::Nothing => "not joined, and no token to join with",
            },
        }
    }

    /// Whether there is something to show in a poll.
    pub(super) fn is_let_in(&self) -> bool {
        self.credential
            .as_ref()
            .is_none_or(|credential| matches!(lock(credential).next(), Next::Poll(_)))
    }

    /// Joins the dashboard, where the node has not yet.
    pub(super) fn enter(&self) -> Result<(), Trouble> {
        let Some(credential) = &self.credential else { return Ok(()) };
        let next = lock(credential).next();
        let (token, secret) = match next {
            Next::Poll(_) => return Ok(()),
            Next::Nothing => return Err(Trouble::NotJoined),
            Next::Enrol { token, credential } => (token, credential),
        };
        let enrolment = Enrolment {
            protocol: PROTOCOL,
            oldest_protocol: OLDEST_PROTOCOL,
            instance: self.instance(),
            credential: secret,
        };
        let body = serde_json::to_vec(&enrolment).map_err(Trouble::unreadable)?;
        let answer = self
            .link
            .post_with(Some(&token), ENROL_PATH, (JSON, body), PATIENCE)
            .map_err(Trouble::unreachable)?;
        let mut credential = lock(credential);
        match answer.status {
            200..=299 => {
                credential.enrolled();
                tracing::info!("this node joined the dashboard");
            }
            // A dashboard of the first protocol takes the token in every poll.
            404 | 405 => credential.cannot_enrol(),
            _ => {
                credential.not_enrolled();
                return Err(Trouble::NotEnrolled(answer));
            }
        }
        self.link.keyring().hold(credential.shown());
        Ok(())
    }

    /// What the next request shows.
    pub(super) fn shown(&self) -> Option<Token> {
        match &self.credential {
            Some(credential) => lock(credential).shown(),
            None => self.link.keyring().token(),
        }
    }

    /// What an answer says about the credential that was shown; true when it was refused and there
    /// is something else to show.
    pub(super) fn heed(&self, shown: Option<&Token>, status: u16) -> bool {
        let (Some(credential), Some(shown)) = (&self.credential, shown) else { return false };
        let mut credential = lock(credential);
        let has_more = match status {
            200..=299 => {
                credential.accepted(shown);
                false
            }
            401 => credential.refused(shown),
            _ => return false,
        };
        self.link.keyring().hold(credential.shown());
        has_more
    }
}

pub(super) fn lock(credential: &Mutex<Credential>) -> MutexGuard<'_, Credential> {
    credential.lock().unwrap_or_else(PoisonError::into_inner)
}

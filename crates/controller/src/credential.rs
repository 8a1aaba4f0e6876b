//! Who this node is to its dashboard: the credential that it makes itself, keeps on disk, and
//! changes when the dashboard asks for it.
//!
//! A credential is on disk before it is sent for the first time. So whatever is lost in between, the
//! same enrolment is sent again, and the dashboard knows it.

use crate::config::Token;
use crate::file;
use anyhow::Context as _;
use contract::poll::{CREDENTIAL_PREFIX, Secret};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Version of the file.
const VERSION: u32 = 1;
/// A token of Kubernetes has about a kilobyte.
const MAX_TOKEN: u64 = 4096;
/// The file holds three secrets and two names.
const MAX_FILE: u64 = 64 << 10;

/// What is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// The node that it speaks for.
    id: String,
    /// Whether a dashboard took it.
    enrolled: bool,
    current: Secret,
    /// The one that shall follow, until the dashboard has it.
    next: Option<Secret>,
    /// The one before, until `current` was accepted.
    before: Option<Secret>,
}

/// The identity of this node, and where it stands.
#[derive(Debug)]
pub(crate) struct Credential {
    file: PathBuf,
    kept: Kept,
    join: Option<Token>,
    /// Where the join token stands, and may be another one by now: the kubelet writes a pod's anew
    /// before it expires.
    join_file: Option<PathBuf>,
    /// True where the dashboard is too old to enrol with: it takes the join token in every poll.
    by_token: bool,
    /// True where the dashboard does not know the credential any more, and may take it anew.
    asks_anew: bool,
}

/// What to do next to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Poll, showing this.
    Poll(Token),
    /// Enrol this credential, showing that join token.
    Enrol { token: Token, credential: Secret },
    /// Nothing helps but a person.
    Nothing,
}

impl Credential {
    /// The identity that is kept in a directory for the node `id`, or a new one.
    ///
    /// # Errors
    ///
    /// When a new one cannot be made or written.
    pub(crate) fn open(directory: &Path, id: &str, join: Option<Token>) -> anyhow::Result<Self> {
        let file = directory.join("credential.json");
        let check = |kept: &Kept| match kept.version {
            VERSION if kept.current.is_credential() => Ok(()),
            VERSION => Err("it holds no credential".to_owned()),
            other => Err(format!("version {other} is not {VERSION}")),
        };
        // One that was copied with its disk speaks for the node that it was copied from.
        let kept = file::load(&file, MAX_FILE, check).filter(|kept| kept.id == id);
        if let Some(kept) = kept {
            return Ok(Self {
                file,
                kept,
                join,
                join_file: None,
                by_token: false,
                asks_anew: false,
            });
        }
        let kept = Kept {
            version: VERSION,
            id: id.to_owned(),
            enrolled: false,
            current: fresh()?,
            next: None,
            before: None,
        };
        let made = Self { file, kept, join, join_file: None, by_token: false, asks_anew: false };
        made.save()?;
        Ok(made)
    }

    /// What to do next to be let in.
    pub(crate) fn next(&self) -> Next {
        match &self.join {
            _ if self.kept.enrolled && !self.asks_anew => {
                Next::Poll(Token(self.kept.current.0.clone()))
            }
            Some(token) if self.by_token => Next::Poll(token.clone()),
            Some(token) => {
                Next::Enrol { token: token.clone(), credential: self.kept.current.clone() }
            }
            None => Next::Nothing,
        }
    }

    /// What senders of telemetry show meanwhile.
    pub(crate) fn shown(&self) -> Option<Token> {
        match self.next() {
            Next::Poll(token) | Next::Enrol { token, .. } => Some(token),
            Next::Nothing => None,
        }
    }

    /// Whether a dashboard ever took this node in.
    pub(crate) fn is_enrolled(&self) -> bool {
        self.kept.enrolled
    }

    /// The dashboard took the credential.
    pub(crate) fn enrolled(&mut self) {
        self.asks_anew = false;
        self.kept.enrolled = true;
        self.save_or_say();
    }

    /// The dashboard does not know how to enrol a node: it is older.
    pub(crate) fn cannot_enrol(&mut self) {
        self.by_token = true;
    }

    /// The dashboard refused what was shown; true when there is something else to try.
    pub(crate) fn refused(&mut self, shown: &Token) -> bool {
        if self.by_token {
            // It may have been replaced by a newer one, which takes credentials.
            self.by_token = false;
            return false;
        }
        if !self.kept.enrolled || shown.0 != self.kept.current.0 {
            // What was shown is old already: another thread knows better by now.
            return self.kept.enrolled;
        }
        if let Some(before) = self.kept.before.take() {
            // A dashboard that was restored from an older copy knows the one before.
            self.kept.current = before;
            self.save_or_say();
            return true;
        }
        // Where the dashboard forgot this node, the token of before may let it in again.
        self.asks_anew = self.join.is_some();
        self.asks_anew
    }

    /// The dashboard does not let this node in; the credential is tried again before the token is.
    ///
    /// Where the token stands in a file, it is read again for the next time.
    pub(crate) fn not_enrolled(&mut self) {
        self.asks_anew = false;
        let Some(file) = &self.join_file else { return };
        match file::first_line(file, MAX_TOKEN) {
            Ok(token) => self.join = Some(Token(token)),
            Err(error) => {
                tracing::warn!(%error, "cannot read the token file again; the token of before is shown until it can be read");
            }
        }
    }

    /// The join token stands in this file.
    pub(crate) fn joining_with(self, join_file: Option<PathBuf>) -> Self {
        Self { join_file, ..self }
    }

    /// The dashboard accepted what was shown: the credential before it is not needed any more.
    pub(crate) fn accepted(&mut self, shown: &Token) {
        if shown.0 == self.kept.current.0 && self.kept.before.take().is_some() {
            self.save_or_say();
        }
    }

    /// The dashboard asks for another credential: makes one, and keeps it. One that was made and not
    /// yet taken is the same again.
    pub(crate) fn rotate(&mut self) {
        if !self.kept.enrolled || self.kept.next.is_some() {
            return;
        }
        let Ok(next) = fresh() else { return };
        self.kept.next = Some(next);
        if let Err(error) = self.save() {
            // One that is not on disk must not be sent: after a crash nobody would know it.
            self.kept.next = None;
            tracing::warn!(error = %format!("{error:#}"), "cannot change the credential of this node; trying again later");
        }
    }

    /// The credential to offer to the dashboard.
    pub(crate) fn offered(&self) -> Option<Secret> {
        self.kept.next.clone()
    }

    /// The dashboard keeps the one that was offered: it holds from now on.
    pub(crate) fn kept(&mut self) {
        if let Some(next) = self.kept.next.take() {
            self.kept.before = Some(std::mem::replace(&mut self.kept.current, next));
            self.save_or_say();
        }
    }

    fn save(&self) -> anyhow::Result<()> {
        file::replace(&self.file, &self.kept).with_context(|| {
            format!("cannot write the credential of this node to `{}`", self.file.display())
        })
    }

    fn save_or_say(&self) {
        if let Err(error) = self.save() {
            // Both that hold are in the file as it was: a restart asks with them again.
            tracing::warn!(error = %format!("{error:#}"), "cannot keep where the credential stands; a restart asks with those that the file has");
        }
    }
}

fn fresh() -> anyhow::Result<Secret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok().context("cannot read random numbers for a credential")?;
    let mut text = CREDENTIAL_PREFIX.to_owned();
    for byte in bytes {
        write!(text, "{byte:02x}").context("cannot write a credential")?;
    }
    Ok(Secret(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn join() -> Option<Token> {
        Some(Token("sonde_join_x".into()))
    }

    fn open(directory: &Path) -> Credential {
        Credential::open(directory, "host-1", join()).unwrap()
    }

    fn shown(credential: &Credential) -> Token {
        credential.shown().unwrap()
    }

    #[test]
    fn it_is_on_disk_for_the_owner_alone_before_it_is_sent_and_the_same_after_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let Next::Enrol { token, credential } = open(directory.path()).next() else {
            panic!("a new node enrols");
        };
        assert!(credential.is_credential());
        assert_eq!(Some(token), join());
        let file = directory.path().join("credential.json");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = open(directory.path());
        assert!(matches!(again.next(), Next::Enrol { credential: same, .. } if same == credential));
        again.enrolled();
        let after = open(directory.path());
        assert_eq!(after.next(), Next::Poll(Token(credential.0.clone())));
        assert!(!format!("{after:?}").contains(&credential.0), "it is not printed");

        let copied = Credential::open(directory.path(), "host-2", join()).unwrap();
        assert!(matches!(copied.next(), Next::Enrol { credential: new, .. } if new != credential));
    }

    #[test]
    fn it_changes_over_a_crash_at_any_moment() {
        let directory = tempfile::tempdir().unwrap();
        let mut one = open(directory.path());
        one.enrolled();
        let old = shown(&one);
        one.rotate();
        let offered = one.offered().unwrap();
        let mut two = open(directory.path());
        two.rotate();
        assert_eq!(two.offered(), Some(offered.clone()), "the same is offered again");
        assert_eq!(shown(&two), old, "and the old one holds");
        two.kept();
        assert_eq!((shown(&two).0, two.offered()), (offered.0.clone(), None));
        // An answer to a poll that showed the old one changes nothing.
        assert!(two.refused(&old));
        assert_eq!(shown(&two).0, offered.0);
        // A dashboard that was restored knows the old one alone.
        let mut three = open(directory.path());
        assert!(three.refused(&Token(offered.0.clone())));
        assert_eq!(shown(&three), old);
        three.accepted(&old);
        // What is refused now is refused for good: the node asks to be let in anew.
        assert!(three.refused(&old));
        assert!(matches!(three.next(), Next::Enrol { .. }));
        three.not_enrolled();
        assert_eq!(three.next(), Next::Poll(old), "it may be let in again as it was");
    }

    #[test]
    fn a_token_that_stands_in_a_file_is_read_again_when_it_was_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let mut credential = open(directory.path()).joining_with(Some(file.clone()));
        fs::write(&file, "sonde_join_y\n").unwrap();
        assert_eq!(shown(&credential), join().unwrap(), "as it was given");
        credential.not_enrolled();
        assert_eq!(shown(&credential), Token("sonde_join_y".into()));
        fs::remove_file(&file).unwrap();
        credential.not_enrolled();
        assert_eq!(shown(&credential), Token("sonde_join_y".into()), "the last that there was");
    }

    #[test]
    fn one_that_is_refused_and_has_no_token_waits_for_a_person() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).enrolled();
        let mut without = Credential::open(directory.path(), "host-1", None).unwrap();
        let old = shown(&without);
        assert!(!without.refused(&old));
        assert_eq!(without.next(), Next::Poll(old), "it is tried on, should it be let in again");
        let fresh = tempfile::tempdir().unwrap();
        let never = Credential::open(fresh.path(), "host-1", None).unwrap();
        assert_eq!(never.next(), Next::Nothing);
    }

    #[test]
    fn a_dashboard_that_is_older_is_shown_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let mut old = open(directory.path());
        old.cannot_enrol();
        assert_eq!(old.next(), Next::Poll(join().unwrap()));
        assert!(!old.refused(&join().unwrap()));
        assert!(matches!(old.next(), Next::Enrol { .. }), "it may be a newer one by now");
    }
}

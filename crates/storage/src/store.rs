//! [`Store`], the one public type that does anything. Every question stands here with its contract;
//! the answers are those of `engine` and of `sqlite/control`.

mod lock;
mod service;

use crate::clickhouse::{ClickHouse, Remote};
use crate::engine::{Distributions, Engine, SumsQuery};
use crate::error::Error;
use crate::filter::Filter;
use crate::fleet::NewWish;
use crate::guarded::Guarded;
use crate::overview::{self, SeriesQuery};
use crate::query::{Budget, By, CallsQuery, Span};
use crate::retention::{Limits, ReadDisk, Retained};
use crate::sqlite::Embedded;
use crate::sqlite::backup::{self, Copied};
use crate::sqlite::control::Control;
use contract::row::{Call, Calls, Node, Overview, Run, Series, Service, Services, Time};
use lock::{Lock, lock};
use service::{RATE_NANOS, join, service};
use std::collections::HashMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Everything that the dashboard keeps, in one directory that nobody else may use meanwhile.
///
/// Clone-free and shareable: all methods take `&self`. Dropping it writes what is queued.
#[derive(Debug)]
pub struct Store {
    pub(crate) control: Guarded,
    engine: Box<dyn Engine>,
    data_dir: PathBuf,
    // Holds the lock on the directory; dropped last.
    _lock: Lock,
}

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Directory of the lock, of control state and secrets, and of calls unless they are
    /// elsewhere.
    pub data_dir: PathBuf,
    /// Where calls are kept.
    pub calls: CallsIn,
}

/// Where calls are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallsIn {
    /// In the data directory, in one file a day.
    DataDir,
    /// In ClickHouse, with control state too; any number of dashboards may share it.
    ClickHouse(ClickHouse),
}

impl Place {
    /// Everything in one directory.
    pub fn embedded(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.into(), calls: CallsIn::DataDir }
    }
}

/// What a sender told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Telemetry {
    /// Model calls.
    pub calls: Vec<Call>,
    /// What stands around them.
    pub runs: Vec<Run>,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kept {
    /// Calls that were not known before, with their ids.
    pub new: Vec<Call>,
    /// Calls that were known already.
    pub duplicates: u64,
    /// Further sightings of calls that were known already, by another observer: they added what
    /// was not known yet.
    pub joined: u64,
    /// Calls without a valid trace or span id.
    pub refused: u64,
    /// Calls of a day that is no longer kept.
    pub too_old: u64,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Generation of the wish.
    pub generation: u64,
    /// Nodes that it is for.
    pub instances: Vec<String>,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A controller: it may poll and send telemetry.
    Join,
    /// A sender of telemetry.
    Ingest,
    /// A script: it may use the API.
    Api,
}

/// A token, as far as it can be told after it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Number of the token.
    pub id: u64,
    /// What it is good for.
    pub kind: TokenKind,
    /// What it was made for, in the words of who made it.
    pub name: String,
    /// When it was made.
    pub created: Time,
    /// Until when it is good.
    pub expires: Option<Time>,
    /// How many nodes may join with it; `None` for any number.
    pub uses: Option<u32>,
    /// How many nodes did.
    pub used: u32,
    /// When it was last used, to about a minute.
    pub last_used: Option<Time>,
    /// Environment of the nodes that join with it.
    pub environment: Option<String>,
}

impl TokenKind {
    /// The word for it in the API, on the command line and in the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Ingest => "ingest",
            Self::Api => "api",
        }
    }

    /// The kind of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Join, Self::Ingest, Self::Api].into_iter().find(|kind| kind.word() == word)
    }

    /// What tokens of the kind begin with, so that a scanner for secrets recognises them.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Join => "sonde_join_",
            Self::Ingest => "sonde_ing_",
            Self::Api => "sonde_api_",
        }
    }
}

impl Store {
    /// Opens the data directory, or makes it, and brings its files to the newest schema.
    ///
    /// # Errors
    ///
    /// Everything that can be wrong with the directory is found here: [`Error::Directory`],
    /// [`Error::InUse`], [`Error::Newer`], [`Error::Altered`].
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        Self::open_with(&Place::embedded(data_dir))
    }

    /// As [`open`](Self::open), with calls where the place says.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or the database of the place cannot be used.
    pub fn open_with(place: &Place) -> Result<Self, Error> {
        let data_dir = place.data_dir.as_path();
        let failed =
            |doing| move |source| Error::Directory { doing, path: data_dir.into(), source };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
        made.map_err(failed("create"))?;
        let lock = lock(data_dir)?;
        let (control, engine): (_, Box<dyn Engine>) = match &place.calls {
            CallsIn::DataDir => {
                (Guarded::alone(Control::open(data_dir)?), Box::new(Embedded::open(data_dir)?))
            }
            CallsIn::ClickHouse(to) => {
                let engine = Remote::open(to, data_dir)?;
                (Guarded::shared(engine.control()?), Box::new(engine))
            }
        };
        Ok(Self { control, engine, data_dir: data_dir.into(), _lock: lock })
    }

    /// Queues calls for writing and returns at once. `done` is called once they are on disk, or
    /// could not be written; it runs on the writer's thread and must not block.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when too much waits; nothing is kept and `done` is never called.
    pub fn submit(
        &self,
        calls: Vec<Call>,
        done: impl FnOnce(Result<Kept, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        self.submit_all(Telemetry { calls, runs: Vec::new() }, done)
    }

    /// As [`submit`](Self::submit), with what stands around the calls. Of that nothing is
    /// reported: it is kept, or `done` hears an error. Sent again it is kept once.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn submit_all(
        &self,
        telemetry: Telemetry,
        done: impl FnOnce(Result<Kept, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        self.engine.submit(telemetry, Box::new(done))
    }

    /// Writes calls and waits until they are on disk.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), or the database failed.
    pub fn insert(&self, calls: Vec<Call>) -> Result<Kept, Error> {
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        self.submit(calls, move |kept| {
            // A receiver that is gone no longer wants to know.
            let _gone = send.send(kept);
        })?;
        receive.recv().unwrap_or(Err(Error::Closed))
    }

    /// Lists calls, newest first.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn calls(&self, query: &CallsQuery) -> Result<Calls, Error> {
        self.engine.list(query)
    }

    /// Calls of a trace, oldest first, at most 10,000.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn trace(&self, trace_id: &str) -> Result<Vec<Call>, Error> {
        self.engine.trace(trace_id)
    }

    /// What stands around the calls of a trace, oldest first, at most 10,000.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn runs(&self, trace_id: &str) -> Result<Vec<Run>, Error> {
        self.engine.runs(trace_id)
    }

    /// One call by its id; `None` when there is none.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn call(&self, id: &str) -> Result<Option<Call>, Error> {
        self.engine.one(id)
    }

    /// Adds a span of time up.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn overview(&self, span: &Span) -> Result<Overview, Error> {
        overview::overview(&*self.engine, span)
    }

    /// Adds a span of time up, by group.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn series(&self, query: &SeriesQuery) -> Result<Series, Error> {
        overview::series(&*self.engine, query)
    }

    /// Wants a capture level of a workload.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownWorkload`], [`Error::Recorded`], or the database failed.
    pub fn want(&self, wish: NewWish<'_>, now: Time) -> Result<Wanted, Error> {
        self.control.ask(|control| control.want(wish, now))
    }

    /// All services, by name.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn services(&self, now: Time) -> Result<Services, Error> {
        let counts = self.counts(Time(now.0.saturating_sub(RATE_NANOS)), now)?;
        let mut services: Vec<Service> = Vec::new();
        let names = self.control.ask(|control| control.shown_names())?;
        for mut found in self.control.ask(|control| control.workloads())? {
            // The node is told, too; the page shows the name at once.
            if let Some(name) = names.get(&found.observed.key.0) {
                found.observed.name.clone_from(name);
            }
            let row = service(found, &counts, now);
            match services.last_mut() {
                Some(last) if last.key == row.key => join(last, row),
                _ => services.push(row),
            }
        }
        services.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
        Ok(Services { services })
    }

    /// All controllers that ever reported, by name of the node. Whether a poll waits is not known
    /// here: [`Node::connected`] is false.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn nodes(&self) -> Result<Vec<Node>, Error> {
        self.control.ask(|control| control.nodes())
    }

    /// Forgets what is older than it may be, and the oldest day when the disk fills up; call it
    /// every minute or so. Writing goes on meanwhile, in turns.
    ///
    /// # Errors
    ///
    /// The database failed, or a file could not be removed.
    pub fn retain(&self, limits: &Limits, disk: &ReadDisk, now: Time) -> Result<Retained, Error> {
        self.engine.retain(limits, disk, now)
    }

    /// Copies all of a data directory into a new or empty one, while it is used by this process or
    /// another. Each database is copied as it was at one moment and checked; what was kept before
    /// this was called is in the copy. The copy holds secrets, as the data directory does.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`], or something could not be read or written; then the directory is not
    /// a whole copy, and [`restore`](Self::restore) refuses it.
    pub fn backup(data_dir: &Path, to: &Path, now: Time) -> Result<Copied, Error> {
        let days = crate::sqlite::days_in(data_dir)?;
        backup::backup(data_dir, &days, to, now)
    }

    /// Makes a data directory, new or empty, of a copy that [`backup`](Self::backup) made. What is
    /// in the copy is checked first.
    ///
    /// # Errors
    ///
    /// [`Error::NotABackup`], [`Error::NotEmpty`], or something could not be read or written.
    pub fn restore(from: &Path, data_dir: &Path) -> Result<Copied, Error> {
        backup::restore(from, data_dir)
    }

    /// As [`backup`](Self::backup), of what dashboards share in a ClickHouse, calls left out:
    /// ClickHouse copies those itself. Nothing has to be stopped.
    ///
    /// # Errors
    ///
    /// [`Error::Unsuited`] where no dashboard ever used the database, else as
    /// [`backup`](Self::backup).
    pub fn backup_shared(of: &ClickHouse, to: &Path, now: Time) -> Result<Copied, Error> {
        let Some(control) = Remote::control_in(of)? else {
            let why =
                "no dashboard ever used this database: name another with --clickhouse-database";
            return Err(Error::Unsuited { path: (&of.database).into(), why });
        };
        backup::backup_of_control(&control, to, now)
    }

    /// Gives a ClickHouse, whose dashboards do not run yet, the control state of a copy.
    ///
    /// # Errors
    ///
    /// [`Error::NotABackup`], [`Error::Unsuited`] where dashboards used the database already, or it
    /// cannot be written.
    pub fn restore_shared(from: &Path, to: &ClickHouse) -> Result<Copied, Error> {
        let (control, copied) = backup::control_of(from)?;
        if Remote::begin_control(to, &control)? {
            return Ok(copied);
        }
        let why = "dashboards used this database already, and what they keep is not overwritten: \
                   name a new one with --clickhouse-database";
        Err(Error::Unsuited { path: (&to.database).into(), why })
    }

    /// Calls that ended in a span, by key of the workload.
    fn counts(&self, from: Time, to: Time) -> Result<HashMap<String, u64>, Error> {
        let query = SumsQuery {
            from: from.0,
            to: to.0,
            step_seconds: None,
            by: &[By::Workload],
            named: None,
            filter: &Filter::default(),
            distributions: Distributions::None,
            budget: Budget::default(),
        };
        let rows = self.engine.sums(&[query])?.into_iter().flat_map(|sums| sums.rows);
        let counts = rows.filter_map(|mut row| {
            let key = row.group.pop()??;
            Some((key, row.tally.count()))
        });
        Ok(counts.collect())
    }

    /// The word for what keeps calls: `sqlite`, `clickhouse`.
    pub fn engine(&self) -> &'static str {
        self.engine.name()
    }

    /// Bytes that everything takes: the data directory, and what is kept elsewhere, as far as it
    /// can be asked.
    pub fn bytes(&self) -> u64 {
        let Ok(entries) = std::fs::read_dir(&self.data_dir) else { return 0 };
        let sizes = entries.filter_map(|entry| entry.ok()?.metadata().ok());
        let here: u64 = sizes.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum();
        here.saturating_add(self.engine.bytes_elsewhere().unwrap_or(0))
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn tokens(&self) -> Result<Vec<Token>, Error> {
        self.control.ask(|control| control.tokens())
    }

    /// Makes a token worthless; false when there is none of this id.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn revoke(&self, id: u64) -> Result<bool, Error> {
        self.control.ask(|control| control.revoke(id))
    }

    /// Makes a login code that is good once, until `expires`.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn new_login_code(&self, expires: Time, now: Time) -> Result<String, Error> {
        self.control.ask(|control| control.new_login_code(expires, now))
    }

    /// Uses a login code up and begins a session until `expires`; `None` when the code is
    /// unknown, used or too old.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn login(&self, code: &str, expires: Time, now: Time) -> Result<Option<String>, Error> {
        self.control.ask(|control| control.login(code, expires, now))
    }

    /// True when the session is known and not over.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn session(&self, session: &str, now: Time) -> Result<bool, Error> {
        self.control.ask(|control| control.session(session, now))
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn logout(&self, session: &str) -> Result<(), Error> {
        self.control.ask(|control| control.logout(session))
    }
}

//! The way to the server: the official client behind a blocking interface, with a runtime of its
//! own, and what may be tried again.

use super::ClickHouse;
use crate::error::Error;
use clickhouse::error::Error as Failure;
use clickhouse::{Client, RowOwned, RowRead, RowWrite};
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Longest time that an insertion may take before it counts as failed and is tried again.
const INSERT: Duration = Duration::from_secs(60);
/// Longest time that a question may take; those with a budget have less.
const QUESTION: Duration = Duration::from_secs(120);
/// How often what can be repeated is tried while the server is away, and the pause between.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// A connection, or as many as are needed.
#[derive(Debug)]
pub(super) struct Link {
    // Taken when dropped: a runtime must not wait for its threads within another one.
    runtime: Option<Runtime>,
    client: Client,
    url: String,
}

/// A question with its bound values, and settings for it alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask {
    pub(super) sql: String,
    values: Vec<String>,
    settings: Vec<(&'static str, String)>,
}

/// Rows of a table, to be inserted as one block, all or none. ClickHouse keeps one block alone of a
/// token: what came with a token that it knows is dropped, and that is a success.
#[derive(Debug)]
pub(super) struct Insertion<T> {
    pub(super) table: String,
    pub(super) token: String,
    pub(super) rows: Vec<T>,
}

impl Ask {
    pub(super) fn of(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), ..Self::default() }
    }

    /// Binds a text, and says how the SQL names it.
    pub(super) fn bind(&mut self, value: impl Into<String>) -> String {
        self.values.push(value.into());
        format!("{{v{}:String}}", self.values.len() - 1)
    }

    pub(super) fn setting(mut self, name: &'static str, value: impl ToString) -> Self {
        self.settings.push((name, value.to_string()));
        self
    }
}

impl Link {
    pub(super) fn open(to: &ClickHouse) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("clickhouse")
            .enable_all()
            .build()
            .map_err(|source| Error::Directory {
                doing: "start a thread for",
                path: "ClickHouse".into(),
                source,
            })?;
        let mut client = Client::default().with_url(&to.url).with_user(&to.user);
        if let Some(password) = &to.password {
            client = client.with_password(password);
        }
        // What is acknowledged is on disk, and is what was asked for. A time zone of the server's
        // must not move days.
        let settings = [
            ("async_insert", "0"),
            ("wait_end_of_query", "1"),
            ("insert_deduplicate", "1"),
            ("session_timezone", "UTC"),
            ("max_query_size", "67108864"),
        ];
        for (name, value) in settings {
            client = client.with_setting(name, value);
        }
        if to.cluster.is_some() {
            // Kept by most replicas before it is acknowledged, and read from one that has it all.
            for (name, value) in [
                ("insert_quorum", "auto"),
                ("insert_quorum_parallel", "0"),
                ("select_sequential_consistency", "1"),
                ("distributed_ddl_task_timeout", "180"),
            ] {
                client = client.with_setting(name, value);
            }
        }
        Ok(Self { runtime: Some(runtime), client, url: to.url.clone() })
    }

    /// Runs a statement that changes nothing when it is run again.
    pub(super) fn execute(&self, doing: &'static str, ask: Ask) -> Result<(), Error> {
        self.again(doing, || {
            let query = self.query(&ask);
            async move { query.execute().await }
        })
    }

    /// All rows of an answer.
    pub(super) fn rows<T>(&self, doing: &'static str, ask: Ask) -> Result<Vec<T>, Error>
    where
        T: RowOwned + RowRead + Send + 'static,
    {
        self.again(doing, || self.ask_rows(&ask))
    }

    /// All rows of each of some answers, for which is asked at once.
    pub(super) fn rows_all<T>(
        &self,
        doing: &'static str,
        asks: &[Ask],
    ) -> Vec<Result<Vec<T>, Error>>
    where
        T: RowOwned + RowRead + Send + 'static,
    {
        let begun: Vec<_> = asks.iter().map(|ask| self.begin(self.ask_rows::<T>(ask))).collect();
        let settle = |(ask, begun)| self.settle(doing, begun, || self.ask_rows(ask));
        asks.iter().zip(begun).map(settle).collect()
    }

    fn ask_rows<T>(
        &self,
        ask: &Ask,
    ) -> impl Future<Output = Result<Vec<T>, Failure>> + Send + use<T> + 'static
    where
        T: RowOwned + RowRead + Send + 'static,
    {
        let query = self.query(ask);
        async move { query.fetch_all::<T>().await }
    }

    /// Inserts rows as an [`Insertion`].
    pub(super) fn insert<T>(
        &self,
        doing: &'static str,
        table: &str,
        token: &str,
        rows: Vec<T>,
    ) -> Result<(), Error>
    where
        T: RowOwned + RowWrite + Send + Sync + 'static,
    {
        let (table, token) = (table.to_owned(), token.to_owned());
        self.insert_all(doing, vec![Insertion { table, token, rows }])
    }

    /// Inserts at once, and waits for all.
    pub(super) fn insert_all<T>(
        &self,
        doing: &'static str,
        insertions: Vec<Insertion<T>>,
    ) -> Result<(), Error>
    where
        T: RowOwned + RowWrite + Send + Sync + 'static,
    {
        let insertions: Vec<_> = insertions.into_iter().map(Arc::new).collect();
        let begun: Vec<_> = insertions.iter().map(|one| self.begin(self.insertion(one))).collect();
        let settle = |(one, begun)| self.settle(doing, begun, || self.insertion(one));
        // Each is waited for, whatever becomes of one.
        let settled: Vec<_> = insertions.iter().zip(begun).map(settle).collect();
        settled.into_iter().collect()
    }

    fn insertion<T>(
        &self,
        of: &Arc<Insertion<T>>,
    ) -> impl Future<Output = Result<(), Failure>> + Send + use<T> + 'static
    where
        T: RowOwned + RowWrite + Send + Sync + 'static,
    {
        let of = Arc::clone(of);
        let client = self.client.clone().with_setting("insert_deduplication_token", &of.token);
        async move {
            let insert = client.insert_unescaped::<T>(&of.table).await?;
            let mut insert = insert.with_timeouts(Some(INSERT), Some(INSERT));
            for row in &of.rows {
                insert.write(row).await?;
            }
            insert.end().await
        }
    }

    fn query(&self, ask: &Ask) -> clickhouse::query::Query {
        let mut query = self.client.query_raw(&ask.sql);
        for (number, value) in ask.values.iter().enumerate() {
            query = query.param(&format!("v{number}"), value);
        }
        for (name, value) in &ask.settings {
            query = query.with_setting(*name, value);
        }
        query
    }

    fn again<T, F>(&self, doing: &'static str, mut start: impl FnMut() -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let begun = self.begin(start());
        self.settle(doing, begun, start)
    }

    /// Waits for what has begun, and starts it again while the server is away.
    fn settle<T, F>(
        &self,
        doing: &'static str,
        mut begun: Receiver<Result<T, Failure>>,
        mut start: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let mut tries = 1;
        loop {
            match begun.recv().unwrap_or(Err(Failure::TimedOut)) {
                Ok(answer) => return Ok(answer),
                Err(failure) if is_away(&failure) && tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                    begun = self.begin(start());
                }
                Err(failure) if is_away(&failure) => {
                    let source = Box::new(failure);
                    return Err(Error::Away { url: self.url.clone(), source });
                }
                Err(failure) => {
                    return Err(Error::Refused { doing, source: Box::new(failure) });
                }
            }
        }
    }

    /// Has the runtime do it; whoever waits may be on any thread.
    fn begin<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Receiver<Result<T, Failure>> {
        let (send, receive) = sync_channel(1);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                let answer = tokio::time::timeout(QUESTION, future).await;
                // A receiver that is gone no longer wants to know.
                let _gone = send.send(answer.unwrap_or(Err(Failure::TimedOut)));
            });
        }
        receive
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// True when the server could not be asked, or could not answer now: what it was asked is as it
/// was, or done, and asking again settles it.
fn is_away(failure: &Failure) -> bool {
    // Codes of ClickHouse: too many queries, too many parts, not enough memory, no Keeper, a write
    // before this one that has no quorum yet, a table that is read-only until it finds Keeper.
    const NOT_NOW: [&str; 8] = ["202", "252", "241", "999", "286", "319", "242", "225"];
    match failure {
        Failure::Network(_) | Failure::TimedOut => true,
        Failure::BadResponse(text) => NOT_NOW
            .iter()
            .any(|code| text.starts_with("Code: ") && text[6..].starts_with(&format!("{code}."))),
        _ => false,
    }
}

/// True when the answer was cut because its time was over.
pub(super) fn is_over_time(error: &Error) -> bool {
    matches!(error, Error::Refused { source, .. }
        if matches!(&**source, Failure::BadResponse(text) if text.starts_with("Code: 159.")))
}

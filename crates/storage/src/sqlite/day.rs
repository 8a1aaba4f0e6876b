//! One day of calls in one file: how a call becomes a row, and a row a call.

use super::ended::{Ended, Ids};
use super::migrate::Migration;
use super::sums::{self, SeriesIds};
use crate::error::{Doing, Error};
use crate::outcome::{CLASSES, outcome};
use crate::query::{CallsQuery, Cursor};
use crate::rest::Rest;
use crate::units::{self, id_of, nanos};
use contract::row::{Call, Money, Time};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params_from_iter};
use std::collections::HashMap;
use std::path::Path;

const MIGRATIONS: [Migration; 4] = [
    Migration { name: "calls", sql: include_str!("calls_1.sql") },
    Migration { name: "long", sql: include_str!("calls_2.sql") },
    sums::MIGRATION,
    Migration { name: "long, by end", sql: include_str!("calls_3.sql") },
];

/// Texts whose numbers are remembered; beyond, the memory starts anew. Real fleets have hundreds.
const MAX_REMEMBERED: usize = 16_384;

/// How far behind its start a call is kept at most, in nanoseconds.
pub(super) const MAX_MOVED: u64 = 1 << 30;

/// The writing end of a day file.
#[derive(Debug)]
pub(super) struct DayWriter {
    connection: Connection,
    texts: HashMap<String, i64>,
    series: SeriesIds,
    longest: u64,
}

impl DayWriter {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let mut connection = super::open(path, &MIGRATIONS)?;
        // Ids are random, so that a commit touches pages all over their index: they are held, and
        // go from the log into the file together, after many commits.
        let setup = "PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 8192;
                     PRAGMA journal_size_limit = 67108864;";
        connection.execute_batch(setup).doing("set the database up")?;
        sums::make(&mut connection)?;
        let longest = longest(&connection)?;
        Ok(Self { connection, texts: HashMap::new(), series: HashMap::new(), longest })
    }

    /// The longest duration of a call in the file, in nanoseconds.
    pub(super) fn longest(&self) -> u64 {
        self.longest
    }

    /// Forgets the sums of a width in seconds, and gives their space back.
    pub(super) fn forget_sums(&mut self, level: u64) -> Result<(), Error> {
        const DOING: &str = "forget old sums";
        let transaction = self.connection.transaction().doing(DOING)?;
        sums::forget(&transaction, level, None)?;
        transaction.commit().doing(DOING)?;
        self.connection.execute_batch("PRAGMA incremental_vacuum").doing(DOING)
    }

    /// Writes the calls in one transaction and says of each whether it was new. On an error
    /// nothing is written.
    pub(super) fn insert(&mut self, calls: &[&Call]) -> Result<Vec<bool>, Error> {
        let outcome = self.try_insert(calls);
        if outcome.is_err() {
            // Numbers that the transaction gave are gone with it.
            self.texts.clear();
            self.series.clear();
        }
        outcome
    }

    /// Gives rows, named by the ids that they had, other ids and values, in one transaction. They
    /// keep their places. Sums stay as they are: a call was counted when it was seen first.
    pub(super) fn amend(&mut self, rows: &[((String, String), Call)]) -> Result<(), Error> {
        const SQL: &str = "UPDATE call SET (trace_id, span_id, duration, first_chunk,
            first_token, outcome, stream, embedding, class, error_type, http_status, service,
            workload, host, pid, provider, operation, request_model, response_model, input_tokens,
            output_tokens, cache_read, cache_write, reasoning, cost) = (?3, ?4, ?5, ?6, ?7, ?8, ?9,
            ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26,
            ?27) WHERE trace_id = ?1 AND span_id = ?2 RETURNING at";
        const DOING: &str = "add to a call";
        let transaction = self.connection.transaction().doing(DOING)?;
        // Numbers of new texts are remembered only once they are on disk.
        let mut texts = HashMap::new();
        for ((trace, span), call) in rows {
            let mut values = values(&transaction, &mut texts, call)?;
            values[0] = Value::Blob(bytes(trace));
            values[1] = Value::Blob(bytes(span));
            let mut update = transaction.prepare_cached(SQL).doing(DOING)?;
            let at = update.query_row(params_from_iter(&values), |row| row.get::<_, i64>(0));
            let Some(at) = at.optional().doing(DOING)? else { continue };
            let json = serde_json::to_string(&Rest::of(call)).doing("a call")?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO rest (at, json) VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute((at, json)))
                .doing(DOING)?;
        }
        transaction.commit().doing(DOING)
    }

    fn try_insert(&mut self, calls: &[&Call]) -> Result<Vec<bool>, Error> {
        if self.texts.len() > MAX_REMEMBERED {
            self.texts.clear();
        }
        if self.series.len() > MAX_REMEMBERED {
            self.series.clear();
        }
        let transaction = self.connection.transaction().doing("begin to write calls")?;
        let mut new = Vec::with_capacity(calls.len());
        let mut longest = self.longest;
        let mut batch = sums::Batch::default();
        for call in calls {
            let is_new = insert(&transaction, &mut self.texts, call)?;
            new.push(is_new);
            if !is_new {
                continue;
            }
            let ids = ids(&transaction, &mut self.texts, call)?;
            batch.add(&transaction, &mut self.series, &Ended::of(call, ids))?;
            longest = longest.max(nanos(call.duration).unwrap_or(0));
        }
        batch.write(&transaction)?;
        if longest > self.longest {
            transaction
                .execute("UPDATE longest SET duration = ?1", [number(Some(longest))])
                .doing("write calls")?;
        }
        transaction.commit().doing("commit calls")?;
        self.longest = longest;
        Ok(new)
    }
}

/// Says of each call whether the file has it, by its ids.
pub(super) fn has(from: &Connection, calls: &[&Call]) -> Result<Vec<bool>, Error> {
    const DOING: &str = "look for a call";
    let sql = "SELECT 1 FROM call WHERE trace_id = ?1 AND span_id = ?2";
    let mut statement = from.prepare_cached(sql).doing(DOING)?;
    let has = |call: &&Call| statement.exists([bytes(&call.trace_id), bytes(&call.span_id)]);
    calls.iter().map(has).collect::<Result<_, _>>().doing(DOING)
}

/// The longest duration of a call in a day file, in nanoseconds.
pub(super) fn longest(connection: &Connection) -> Result<u64, Error> {
    let sql = "SELECT duration FROM longest";
    let longest: i64 = connection.query_row(sql, [], |row| row.get(0)).doing("read a day")?;
    Ok(u64::try_from(longest).unwrap_or(0))
}

/// True for ids of whole bytes in lower-case hexadecimal digits, of the lengths of W3C.
pub(super) fn is_identified(call: &Call) -> bool {
    let hex = |text: &str, len| {
        text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    hex(&call.trace_id, 32) && hex(&call.span_id, 16)
}

fn insert(
    to: &Transaction<'_>,
    texts: &mut HashMap<String, i64>,
    call: &Call,
) -> Result<bool, Error> {
    const SQL: &str = "INSERT INTO call (at, moved, trace_id, span_id, duration, first_chunk,
        first_token, outcome, stream, embedding, class, error_type, http_status, service,
        workload, host, pid, provider, operation, request_model, response_model, input_tokens,
        output_tokens, cache_read, cache_write, reasoning, cost)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
        ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)
        ON CONFLICT (trace_id, span_id) DO NOTHING";
    const DOING: &str = "write a call";
    let mut values = values(to, texts, call)?;
    let mut statement = to.prepare_cached(SQL).doing(DOING)?;
    let start = call.time.0;
    for attempt in 0.. {
        let moved = moved(&call.span_id, attempt);
        values[0] = number(start.checked_add(moved));
        values[1] = number(Some(moved));
        match statement.execute(params_from_iter(&values)) {
            Ok(0) => return Ok(false),
            Ok(_) => break,
            Err(error) if is_taken(&error) && attempt < 64 => {}
            Err(source) => return Err(Error::Database { doing: DOING, source }),
        }
    }
    let json = serde_json::to_string(&Rest::of(call)).doing("a call")?;
    if json != "{}" {
        to.prepare_cached("INSERT INTO rest (at, json) VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute((&values[0], json)))
            .doing(DOING)?;
    }
    Ok(true)
}

/// How far behind its start a call is kept when its place is taken: next door at first, then
/// spread by its id, so that even a day of calls with one start finds places soon.
fn moved(span_id: &str, attempt: u64) -> u64 {
    if attempt < 4 {
        return attempt;
    }
    let spread = u64::from_str_radix(span_id, 16).unwrap_or(0) ^ attempt.rotate_left(32);
    // 2^64 by the golden ratio: neighbours go far apart.
    spread.wrapping_mul(0x9e37_79b9_7f4a_7c15) % MAX_MOVED
}

fn is_taken(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(
        code,
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY | rusqlite::ffi::SQLITE_CONSTRAINT_ROWID)
    )
}

/// The columns of a call, in the order of the statement; place and move are set by the caller.
fn values(
    to: &Transaction<'_>,
    texts: &mut HashMap<String, i64>,
    call: &Call,
) -> Result<Vec<Value>, Error> {
    let (how, class) = outcome(call);
    let class = class.and_then(|class| CLASSES.iter().position(|known| *known == class));
    let mut text = |text: &Option<String>| intern(to, texts, text.as_deref()).map(Value::from);
    Ok(vec![
        Value::Null,
        Value::Null,
        Value::Blob(bytes(&call.trace_id)),
        Value::Blob(bytes(&call.span_id)),
        number(nanos(call.duration)),
        number(nanos(call.time_to_first_chunk)),
        number(nanos(call.time_to_first_token)),
        how.number().into(),
        number(call.request_stream.filter(|stream| *stream).map(u64::from)),
        i64::from(call.operation_name.as_deref() == Some("embeddings")).into(),
        number(class.and_then(|class| u64::try_from(class).ok())),
        text(&call.error_type)?,
        number(call.http_status.map(u64::from)),
        text(&call.service_name)?,
        text(&call.workload_key)?,
        text(&call.host_name)?,
        number(call.process_pid.map(u64::from)),
        text(&call.provider_name)?,
        text(&call.operation_name)?,
        text(&call.request_model)?,
        text(&call.response_model)?,
        number(call.input_tokens),
        number(call.output_tokens),
        number(call.cache_read_tokens),
        number(call.cache_write_tokens),
        number(call.reasoning_tokens),
        number(call.cost.and_then(|cost| u64::try_from(cost.pico_usd).ok())),
    ])
}

fn ids(to: &Transaction<'_>, texts: &mut HashMap<String, i64>, call: &Call) -> Result<Ids, Error> {
    let mut id =
        |text: &Option<String>| intern(to, texts, text.as_deref()).map(Option::unwrap_or_default);
    Ok(Ids {
        service: id(&call.service_name)?,
        workload: id(&call.workload_key)?,
        provider: id(&call.provider_name)?,
        model: id(if call.request_model.is_some() {
            &call.request_model
        } else {
            &call.response_model
        })?,
        operation: id(&call.operation_name)?,
    })
}

/// The number of a text, `None` where there is none; makes one for a new text.
pub(super) fn intern(
    to: &Transaction<'_>,
    texts: &mut HashMap<String, i64>,
    text: Option<&str>,
) -> Result<Option<i64>, Error> {
    let Some(text) = text else { return Ok(None) };
    if let Some(id) = texts.get(text) {
        return Ok(Some(*id));
    }
    // A statement that always answers: the update changes nothing.
    let sql = "INSERT INTO text (value) VALUES (?1)
               ON CONFLICT (value) DO UPDATE SET value = excluded.value RETURNING id";
    let mut statement = to.prepare_cached(sql).doing("write a text")?;
    let id: i64 = statement.query_row([text], |row| row.get(0)).doing("write a text")?;
    texts.insert(text.to_owned(), id);
    Ok(Some(id))
}

/// What does not fit the column is not known: `NULL`.
fn number(value: Option<u64>) -> Value {
    value.and_then(|value| i64::try_from(value).ok()).map_or(Value::Null, Value::Integer)
}

fn seconds(nanos: Option<i64>) -> Option<f64> {
    units::seconds(nanos.and_then(|nanos| u64::try_from(nanos).ok()))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |b: u8| (b as char).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or(0);
    hex.as_bytes()
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |sum, b| sum << 4 | digit(*b)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Columns of a whole call, in the order in which [`call`] reads them.
const COLUMNS: &str = "call.at, moved, trace_id, span_id, duration, first_chunk, first_token,
    stream, http_status, pid, input_tokens, output_tokens, cache_read, cache_write, reasoning, cost,
    (SELECT value FROM text WHERE id = error_type), (SELECT value FROM text WHERE id = service),
    (SELECT value FROM text WHERE id = workload), (SELECT value FROM text WHERE id = host),
    (SELECT value FROM text WHERE id = provider), (SELECT value FROM text WHERE id = operation),
    (SELECT value FROM text WHERE id = request_model),
    (SELECT value FROM text WHERE id = response_model), json";

/// Reads a row of [`COLUMNS`]; also its place in the file.
fn call(row: &Row<'_>) -> rusqlite::Result<(i64, Call)> {
    let at: i64 = row.get(0)?;
    let start = at - row.get::<_, i64>(1)?;
    let whole = |index| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(index)?.and_then(|value| u64::try_from(value).ok()))
    };
    let json: Option<String> = row.get(24)?;
    // A rest that cannot be read hides itself, not the call.
    let rest: Rest = json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    let mut call = Call {
        time: Time(u64::try_from(start).unwrap_or(0)),
        id: String::new(),
        trace_id: hex(row.get_ref(2)?.as_blob()?),
        span_id: hex(row.get_ref(3)?.as_blob()?),
        duration: seconds(row.get(4)?),
        time_to_first_chunk: seconds(row.get(5)?),
        time_to_first_token: seconds(row.get(6)?),
        request_stream: row.get(7)?,
        http_status: row.get(8)?,
        process_pid: row.get(9)?,
        input_tokens: whole(10)?,
        output_tokens: whole(11)?,
        cache_read_tokens: whole(12)?,
        cache_write_tokens: whole(13)?,
        reasoning_tokens: whole(14)?,
        cost: whole(15)?.map(|pico| Money { pico_usd: pico.into() }),
        error_type: row.get(16)?,
        service_name: row.get(17)?,
        workload_key: row.get(18)?,
        host_name: row.get(19)?,
        provider_name: row.get(20)?,
        operation_name: row.get(21)?,
        request_model: row.get(22)?,
        response_model: row.get(23)?,
        ..Call::default()
    };
    rest.give(&mut call);
    call.id = id_of(&call);
    Ok((at, call))
}

/// One call of the day.
pub(super) fn one(from: &Connection, trace: &str, span: &str) -> Result<Option<Call>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM call LEFT JOIN rest ON rest.at = call.at
         WHERE trace_id = ?1 AND span_id = ?2"
    );
    let mut statement = from.prepare_cached(&sql).doing("read a call")?;
    let found = statement.query_row([bytes(trace), bytes(span)], call).optional();
    Ok(found.doing("read a call")?.map(|(_, call)| call))
}

/// Calls of the day, newest first, at most `limit`.
pub(super) fn list(
    from: &Connection,
    query: &CallsQuery,
    limit: usize,
) -> Result<Vec<Call>, Error> {
    const DOING: &str = "list calls";
    let (condition, values) = condition(query);
    let sql = format!(
        "SELECT {COLUMNS} FROM call LEFT JOIN rest ON rest.at = call.at
         WHERE {condition} ORDER BY call.at - moved DESC, trace_id DESC, span_id DESC"
    );
    let mut statement = from.prepare_cached(&sql).doing(DOING)?;
    let mut rows = statement.query(params_from_iter(values)).doing(DOING)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().doing(DOING)? {
        let (_, call) = call(row).doing(DOING)?;
        let cursor = Cursor::of(&call);
        if query.before.is_none_or(|before| cursor < before) && query.filter.matches(&call) {
            found.push(call);
            if found.len() == limit {
                break;
            }
        }
    }
    Ok(found)
}

/// Hands over each call of the day.
pub(super) fn each(
    from: &Connection,
    mut take: impl FnMut(&Call) -> Result<(), Error>,
) -> Result<(), Error> {
    const DOING: &str = "read calls";
    let sql = format!("SELECT {COLUMNS} FROM call LEFT JOIN rest ON rest.at = call.at");
    let mut statement = from.prepare_cached(&sql).doing(DOING)?;
    let mut rows = statement.query([]).doing(DOING)?;
    while let Some(row) = rows.next().doing(DOING)? {
        take(&call(row).doing(DOING)?.1)?;
    }
    Ok(())
}

/// Calls of a trace.
pub(super) fn trace(from: &Connection, trace: &str) -> Result<Vec<Call>, Error> {
    const DOING: &str = "read a trace";
    let sql = format!(
        "SELECT {COLUMNS} FROM call LEFT JOIN rest ON rest.at = call.at WHERE trace_id = ?1"
    );
    let mut statement = from.prepare_cached(&sql).doing(DOING)?;
    let rows = statement.query_map([bytes(trace)], call).doing(DOING)?;
    rows.map(|row| row.map(|(_, call)| call).doing(DOING)).collect()
}

/// The times of the query as SQL.
fn condition(query: &CallsQuery) -> (String, Vec<Value>) {
    let mut terms = vec!["true".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    let mut term = |sql: &str, value: Value| {
        values.push(value);
        terms.push(sql.replace('?', &format!("?{}", values.len())));
    };
    if let Some(cursor) = query.before {
        let last = cursor.time.0.saturating_add(MAX_MOVED).min(i64::MAX.unsigned_abs());
        term("call.at < ?", number(Some(last)));
    }
    if let Some(start) = query.from {
        // The place is never before the start, so the first term lets the index be used.
        term("call.at >= ? AND call.at - moved >= ?", number(Some(start.0)));
    }
    if let Some(end) = query.to {
        let last = end.0.saturating_add(MAX_MOVED).min(i64::MAX.unsigned_abs());
        term("call.at < ?", number(Some(last)));
        term("call.at - moved < ?", number(Some(end.0)));
    }
    (terms.join(" AND "), values)
}

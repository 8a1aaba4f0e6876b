//! Makes blocks of the rows in which versions before kept calls: in one transaction, so that a
//! file is either as it was or all new.

use super::block::{Block, Id, MAX_ROWS};
use super::day::{Texts, intern, seal, write_blocks};
use super::sums::{self, Known};
use crate::error::{Doing, Error};
use crate::rest::Rest;
use crate::units::{id_of, seconds, span_id, trace_id};
use contract::row::{Call, Money, Time};
use rusqlite::{Connection, Row, Transaction};

const DOING: &str = "bring the calls of a day to the newest form";

/// Calls that are held at a time.
const MAX_HELD: usize = 8 * MAX_ROWS;

/// Makes a file as this version has it. One that is already is left as it is.
pub(super) fn convert(file: &mut Connection) -> Result<(), Error> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'call'";
    if !file.prepare(sql).and_then(|mut found| found.exists([])).doing(DOING)? {
        return Ok(());
    }
    let transaction = file.transaction().doing(DOING)?;
    // The very first version had no sums.
    let has_sums = !sums::levels(&transaction)?.is_empty();
    if !has_sums {
        sums::begin(&transaction)?;
    }
    let before: i64 = count(&transaction, "SELECT count(*) FROM call")?;
    copy(&transaction, has_sums)?;
    if has_sums {
        let sql = "INSERT INTO unsummed SELECT id FROM block";
        transaction.execute(sql, []).doing(DOING)?;
    }
    let after: i64 = count(&transaction, "SELECT coalesce(sum(rows), 0) FROM block")?;
    if before != after {
        return Err(Error::Damaged { what: "the calls of a day" });
    }
    let drop = "DROP TABLE call; DROP TABLE rest; DROP TABLE longest;";
    transaction.execute_batch(drop).doing(DOING)?;
    transaction.commit().doing(DOING)?;
    file.execute_batch("PRAGMA incremental_vacuum").doing(DOING)
}

fn count(file: &Connection, sql: &str) -> Result<i64, Error> {
    file.query_row(sql, [], |row| row.get(0)).doing(DOING)
}

fn copy(file: &Transaction<'_>, has_sums: bool) -> Result<(), Error> {
    let mut texts = Texts::default();
    let mut known = Known::default();
    let mut held: Vec<(Id, Call)> = Vec::new();
    let mut write = |held: &mut Vec<(Id, Call)>| {
        let calls: Vec<_> = held.iter().map(|(id, call)| (*id, call)).collect();
        let block = Block::of(&calls, |text| intern(file, &mut texts, text))?;
        held.clear();
        if has_sums {
            write_blocks(file, &[&block])
        } else {
            seal(file, &mut known, &[&block]).map(|_last_end| ())
        }
    };
    let sql =
        format!("SELECT {COLUMNS} FROM call LEFT JOIN rest ON rest.at = call.at ORDER BY call.at");
    let mut statement = file.prepare(&sql).doing(DOING)?;
    let mut rows = statement.query([]).doing(DOING)?;
    while let Some(row) = rows.next().doing(DOING)? {
        let call = call(row).doing(DOING)?;
        let id = (trace_id(&call.trace_id).unwrap_or(0), span_id(&call.span_id).unwrap_or(0));
        held.push((id, call));
        if held.len() == MAX_HELD {
            write(&mut held)?;
        }
    }
    write(&mut held)
}

/// Columns of a whole call, in the order in which [`call`] reads them.
const COLUMNS: &str = "call.at, moved, trace_id, span_id, duration, first_chunk, first_token,
    stream, http_status, pid, input_tokens, output_tokens, cache_read, cache_write, reasoning, cost,
    (SELECT value FROM text WHERE id = error_type), (SELECT value FROM text WHERE id = service),
    (SELECT value FROM text WHERE id = workload), (SELECT value FROM text WHERE id = host),
    (SELECT value FROM text WHERE id = provider), (SELECT value FROM text WHERE id = operation),
    (SELECT value FROM text WHERE id = request_model),
    (SELECT value FROM text WHERE id = response_model), json";

/// Reads a row of [`COLUMNS`].
fn call(row: &Row<'_>) -> rusqlite::Result<Call> {
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
        duration: seconds(whole(4)?),
        time_to_first_chunk: seconds(whole(5)?),
        time_to_first_token: seconds(whole(6)?),
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
    Ok(call)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::super::{day, migrate};
    use crate::{CallsQuery, Span, Store};
    use contract::row::Time;
    use rusqlite::Connection;
    use std::path::Path;

    const START: u64 = 20_000 * 86_400_000_000_000;

    /// A file as the first versions wrote it: with `steps` of its migrations.
    fn old_file(path: &Path, steps: usize) {
        let mut file = Connection::open(path).unwrap();
        file.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL").unwrap();
        migrate::run(&mut file, path, &day::MIGRATIONS[..steps]).unwrap();
        let sql = "INSERT INTO text (id, value) VALUES (1, 'agent'), (2, 'gpt-4o'), (3, 'chat')";
        file.execute_batch(sql).unwrap();
        for number in 1..=9000_i64 {
            let at = i64::try_from(START).unwrap() + number * 1_000_000_000;
            let (trace, span) = (i128::from(number).to_be_bytes(), number.to_be_bytes());
            let sql =
                "INSERT INTO call (at, moved, trace_id, span_id, duration, outcome, embedding,
                service, request_model, operation, input_tokens, cost)
                VALUES (?1, ?2, ?3, ?4, 2000000000, 0, 0, 1, 2, 3, ?5, 7)";
            file.execute(sql, (at + number % 3, number % 3, trace, span, number)).unwrap();
            let json = format!("{{\"id\":\"r{number}\",\"fr\":[\"stop\"],\"m\":{{\"k\":1}}}}");
            file.execute("INSERT INTO rest (at, json) VALUES (?1, ?2)", (at + number % 3, json))
                .unwrap();
        }
    }

    #[test]
    fn a_file_of_rows_becomes_blocks_and_loses_nothing() {
        for steps in [1, 4] {
            let dir = tempfile::tempdir().unwrap();
            old_file(&dir.path().join("calls-2024-10-04.db"), steps);
            let store = Store::open(dir.path()).unwrap();
            let all = CallsQuery { limit: 20_000, ..CallsQuery::default() };
            let calls = store.calls(&all).unwrap().calls;
            assert_eq!(calls.len(), 9000);
            assert!(calls.is_sorted_by(|a, b| a.time > b.time));
            let call = &calls[0];
            assert_eq!(call.time, Time(START + 9000 * 1_000_000_000));
            assert_eq!(call.service_name.as_deref(), Some("agent"));
            assert_eq!(call.response_id.as_deref(), Some("r9000"));
            assert_eq!(call.finish_reasons, ["stop"]);
            assert_eq!((call.input_tokens, call.duration), (Some(9000), Some(2.0)));
            assert_eq!(call.more["k"], 1);
            assert_eq!(store.call(&call.id).unwrap().as_ref(), Some(call));
            assert_eq!(store.insert(calls.clone()).unwrap().duplicates, 9000);
            let span = Span { from: Time(START), to: Time(START + (1 << 45)), ..Span::default() };
            let totals = store.overview(&span).unwrap().totals;
            assert_eq!((totals.calls, totals.input_tokens), (9000, Some(9000 * 9001 / 2)));
            drop(store);
            let again = Store::open(dir.path()).unwrap();
            assert_eq!(again.overview(&span).unwrap().totals, totals);
            assert_eq!(again.calls(&all).unwrap().calls, calls);
        }
    }
}

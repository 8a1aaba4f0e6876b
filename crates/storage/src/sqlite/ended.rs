//! Calls by the time at which they ended, as far as sums need them.

use super::day::MAX_MOVED;
use crate::error::{Doing, Error};
use crate::outcome::CLASSES;
use crate::query::Outcome;
use crate::tally::Counted;
use crate::units::nanos;
use contract::row::Call;
use rusqlite::{Connection, Row};

/// Longer calls are few, and found by an index of their own. The number is in `calls_3.sql` too.
const LONG_NANOS: u64 = 60_000_000_000;

/// Whose call it is, and of which model, in numbers of one file's texts; 0 where not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Ids {
    pub(super) service: i64,
    pub(super) workload: i64,
    pub(super) provider: i64,
    /// As asked for, or else as answered.
    pub(super) model: i64,
    pub(super) operation: i64,
}

/// What sums need of a call.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) at: u64,
    pub(super) ids: Ids,
    pub(super) counted: Counted<'static>,
}

impl Ended {
    /// Of a call that is being written; the same as what is read of its row later.
    pub(super) fn of(call: &Call, ids: Ids) -> Self {
        Self {
            at: call.time.0.saturating_add(nanos(call.duration).unwrap_or(0)),
            ids,
            counted: Counted::of(call),
        }
    }
}

macro_rules! ended {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM call WHERE at >= ?1 AND at < ?2 AND coalesce(duration, 0) <= 60000000000
                AND at - moved + coalesce(duration, 0) >= ?3
                AND at - moved + coalesce(duration, 0) < ?4
                AND (?5 IS NULL OR service = ?5 OR workload = ?5)
            UNION ALL SELECT ",
            $columns,
            " FROM call WHERE duration > 60000000000
                AND at - moved + duration >= ?3 AND at - moved + duration < ?4
                AND (?5 IS NULL OR service = ?5 OR workload = ?5)"
        )
    };
}

/// Hands over each call of the file that ended in a span (nanoseconds, end excluded), of one
/// service when asked for: its shown name or its key, as a number of the file's texts.
pub(super) fn each(
    file: &Connection,
    from: u64,
    to: u64,
    only: Option<i64>,
    mut take: impl FnMut(&Ended) -> Result<(), Error>,
) -> Result<(), Error> {
    const DOING: &str = "add calls up";
    let sql = ended!(
        "at - moved, duration, outcome, class, stream, first_chunk, embedding, cost, input_tokens,
         output_tokens, cache_read, cache_write, reasoning, service, workload, provider,
         coalesce(request_model, response_model), operation"
    );
    let mut statement = file.prepare_cached(sql).doing(DOING)?;
    let mut rows = statement.query(span(from, to, only)).doing(DOING)?;
    while let Some(row) = rows.next().doing(DOING)? {
        take(&read(row).doing(DOING)?)?;
    }
    Ok(())
}

/// The parameters of [`ended!`].
fn span(from: u64, to: u64, only: Option<i64>) -> [Option<i64>; 5] {
    let place = |nanos| Some(i64::try_from(nanos).unwrap_or(i64::MAX));
    let (first, end) = (from.saturating_sub(LONG_NANOS), to.saturating_add(MAX_MOVED));
    [place(first), place(end), place(from), place(to), only]
}

fn read(row: &Row<'_>) -> rusqlite::Result<Ended> {
    let whole = |index| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(index)?.and_then(|value| u64::try_from(value).ok()))
    };
    let id = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.unwrap_or(0));
    let duration_nanos = whole(1)?;
    let class = whole(3)?.and_then(|class| usize::try_from(class).ok());
    Ok(Ended {
        at: whole(0)?.unwrap_or(0).saturating_add(duration_nanos.unwrap_or(0)),
        ids: Ids {
            service: id(13)?,
            workload: id(14)?,
            provider: id(15)?,
            model: id(16)?,
            operation: id(17)?,
        },
        counted: Counted {
            embedding: row.get(6)?,
            outcome: Some(Outcome::of_number(row.get(2)?)),
            class: class.and_then(|class| CLASSES.get(class).copied()),
            duration_nanos,
            stream: row.get::<_, Option<bool>>(4)?.unwrap_or(false),
            first_chunk_nanos: whole(5)?,
            cost: whole(7)?,
            tokens: [whole(8)?, whole(9)?, whole(10)?, whole(11)?, whole(12)?],
            ..Counted::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use crate::sqlite::day::DayWriter;
    use rusqlite::Connection;

    #[test]
    fn neither_half_of_the_question_reads_the_whole_day() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls.db");
        DayWriter::open(&path).unwrap();
        let file = Connection::open(&path).unwrap();
        let sql = concat!("EXPLAIN QUERY PLAN ", ended!("duration"));
        let mut statement = file.prepare(sql).unwrap();
        let steps = statement.query_map(super::span(0, 1, None), |row| row.get::<_, String>(3));
        let steps = steps.unwrap().map(Result::unwrap).collect::<Vec<_>>().join("\n");
        assert!(steps.contains("INTEGER PRIMARY KEY (rowid>? AND rowid<?)"), "{steps}");
        assert!(steps.contains("INDEX call_long_end (<expr>>? AND <expr><?)"), "{steps}");
        assert!(!steps.contains("SCAN call"), "{steps}");
    }
}

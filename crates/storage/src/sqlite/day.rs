//! The writing end of one day of calls: each commit is an entry of the log of its file; when the
//! log is long, its calls are sealed into blocks, and their sums are written.

use super::block::{Block, Extent, Id, MAX_ROWS, SPAN, TRACE};
use super::bloom::{Bloom, Growing, hash};
use super::convert;
use super::ended::Finishes;
use super::migrate::Migration;
use super::reading::{self, FILTER, Place, load, places};
use super::runs;
use super::scan::Names;
use super::sums::{self, Known};
use crate::error::{Doing, Error};
use crate::hashing::Keyed;
use crate::units::{span_id, trace_id};
use contract::row::{Call, Run};
use rusqlite::{Connection, Transaction};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

pub(super) const MIGRATIONS: [Migration; 10] = [
    Migration { name: "calls", sql: include_str!("calls_1.sql") },
    Migration { name: "long", sql: include_str!("calls_2.sql") },
    sums::MIGRATION,
    Migration { name: "long, by end", sql: include_str!("calls_3.sql") },
    Migration { name: "blocks", sql: include_str!("calls_4.sql") },
    Migration { name: "runs", sql: include_str!("calls_5.sql") },
    sums::PACKED,
    sums::WIDE,
    sums::ALONE,
    Migration { name: "unsummed", sql: include_str!("calls_6.sql") },
];

/// Texts whose numbers are remembered; beyond, the memory starts anew. Real fleets have hundreds.
const MAX_REMEMBERED: usize = 16_384;

/// Calls of the log from which on it is sealed: enough for full blocks, and few enough that every
/// question can read them all.
const LOG_ROWS: usize = 8 * MAX_ROWS;
/// Entries of the log from which on they are made one, or sealed.
const LOG_ENTRIES: usize = 64;

/// How late calls come, mostly: a wide bucket that ended longer ago is added up.
const LATE_NANOS: u64 = 300_000_000_000;

/// Numbers of texts of a file.
pub(super) type Texts = HashMap<String, i64, Keyed>;

/// The writing end of a day file.
#[derive(Debug)]
pub(super) struct DayWriter {
    connection: Connection,
    texts: Texts,
    known: Known,
    log: Vec<Entry>,
    log_rows: usize,
    /// Where the calls of the log are, by what they are known by: entry and row.
    log_ids: HashMap<Id, (usize, usize), Keyed>,
    /// What the calls of the blocks are known by.
    sealed: Growing,
    last_end: u64,
}

/// An entry of the log.
#[derive(Debug)]
struct Entry {
    id: i64,
    block: Block,
}

/// Brings a day file to the newest schema; tells when its last call ended.
pub(super) fn prepare(path: &Path) -> Result<u64, Error> {
    let mut connection = super::open(path, &MIGRATIONS)?;
    sums::convert(&mut connection)?;
    convert::convert(&mut connection)?;
    sums::add_unsummed(&mut connection)?;
    reading::last_end(&connection)
}

/// Forgets the sums of a width in seconds, and gives their space back. On the writer's thread.
pub(super) fn forget_sums(path: &Path, level: u64) -> Result<(), Error> {
    const DOING: &str = "forget old sums";
    let mut connection = super::open(path, &MIGRATIONS)?;
    if !sums::levels(&connection)?.iter().any(|kept| kept.seconds == level) {
        return Ok(());
    }
    let transaction = connection.transaction().doing(DOING)?;
    // What is wider and not whole yet is made of them.
    sums::close(&transaction, None)?;
    sums::forget(&transaction, level, None)?;
    transaction.commit().doing(DOING)?;
    // Into the file at once: nobody may come by who writes the log of a day that is over into it.
    let give_back = "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);";
    connection.execute_batch(give_back).doing(DOING)
}

impl DayWriter {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let last_end = prepare(path)?;
        let connection = super::open(path, &MIGRATIONS)?;
        // A commit appends; what is in the log goes into the file together, after many commits.
        let setup = "PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 67108864;";
        connection.execute_batch(setup).doing("set the database up")?;
        let mut writer = Self {
            connection,
            texts: Texts::default(),
            known: Known::default(),
            log: Vec::new(),
            log_rows: 0,
            log_ids: HashMap::default(),
            sealed: Growing::new(0),
            last_end,
        };
        writer.remember()?;
        Ok(writer)
    }

    /// Reads what the calls of the file are known by, and the calls of the log.
    fn remember(&mut self) -> Result<(), Error> {
        let mut places = places(&self.connection)?;
        places.sort_by_key(|place| place.id);
        let rows = places.iter().filter(|place| place.sealed).map(|place| place.extent.rows).sum();
        self.sealed = Growing::new(rows);
        for place in places {
            if place.sealed {
                let ids = load(&self.connection, &place, Some(&[TRACE, SPAN]))?;
                (0..ids.len())
                    .map(|row| ids.id(row))
                    .for_each(|(t, s)| self.sealed.add(hash(t, s)));
                continue;
            }
            let block = load(&self.connection, &place, None)?;
            self.append(place.id, block);
        }
        Ok(())
    }

    /// Takes an entry of the log into memory.
    fn append(&mut self, id: i64, block: Block) {
        let entry = self.log.len();
        self.log_ids.extend((0..block.len()).map(|row| (block.id(row), (entry, row))));
        self.log_rows += block.len();
        self.log.push(Entry { id, block });
    }

    /// When the last call of the file ended.
    pub(super) fn last_end(&self) -> u64 {
        self.last_end
    }

    /// Whether the file has a call.
    pub(super) fn has(&self, id: Id) -> Result<bool, Error> {
        if self.log_ids.contains_key(&id) {
            return Ok(true);
        }
        Ok(self.sealed.may_have(hash(id.0, id.1))
            && reading::find_row(&self.connection, id)?.is_some())
    }

    /// Writes the calls in one transaction and says of each whether it was new. On an error
    /// nothing is written.
    pub(super) fn insert(&mut self, calls: &[(Id, &Call)]) -> Result<Vec<bool>, Error> {
        let outcome = self.try_insert(calls);
        if outcome.is_err() {
            // Numbers that the transaction gave are gone with it.
            self.texts.clear();
        }
        outcome
    }

    fn try_insert(&mut self, calls: &[(Id, &Call)]) -> Result<Vec<bool>, Error> {
        if self.texts.len() > MAX_REMEMBERED {
            self.texts.clear();
        }
        let mut batch = HashSet::with_capacity_and_hasher(calls.len(), Keyed::default());
        let mut is_new = Vec::with_capacity(calls.len());
        let mut new = Vec::with_capacity(calls.len());
        for (id, call) in calls {
            is_new.push(batch.insert(*id) && !self.has(*id)?);
            if is_new.last() == Some(&true) {
                new.push((*id, *call));
            }
        }
        if new.is_empty() {
            return Ok(is_new);
        }
        let transaction = self.connection.transaction().doing("begin to write calls")?;
        let block = Block::of(&new, |text| intern(&transaction, &mut self.texts, text))?;
        let entry = write_log(&transaction, None, &block)?;
        transaction.commit().doing("commit calls")?;
        self.last_end = self.last_end.max(block.extent().last_end);
        self.append(entry, block);
        Ok(is_new)
    }

    /// Writes what stands around calls. On an error nothing is written.
    pub(super) fn insert_runs(&mut self, runs: &[&Run]) -> Result<(), Error> {
        runs::insert(&mut self.connection, runs)
    }

    /// Gives rows, named by the ids that they had, other ids and values, in one transaction. They
    /// keep their places, and count as what they are now.
    pub(super) fn amend(&mut self, rows: &[(Id, Call)]) -> Result<(), Error> {
        let outcome = self.try_amend(rows);
        if outcome.is_err() {
            self.known.clear();
        }
        outcome
    }

    fn try_amend(&mut self, rows: &[(Id, Call)]) -> Result<(), Error> {
        const DOING: &str = "add to a call";
        let transaction = self.connection.transaction().doing(DOING)?;
        let mut in_log: BTreeMap<usize, Amended<'_>> = BTreeMap::new();
        let mut sealed: BTreeMap<i64, (Place, Amended<'_>)> = BTreeMap::new();
        for (was, call) in rows {
            let was = *was;
            let is = trace_id(&call.trace_id).zip(span_id(&call.span_id));
            let Some(is) = is else { continue };
            if let Some((entry, row)) = self.log_ids.get(&was) {
                in_log.entry(*entry).or_default().insert(*row, (is, call));
            } else if let Some((place, row)) = reading::find_row(&transaction, was)? {
                let (_, rows) = sealed.entry(place.id).or_insert((place, Amended::new()));
                rows.insert(row, (is, call));
            }
        }
        // Numbers of new texts are remembered only once they are on disk.
        let mut texts = Texts::default();
        let mut entries = Vec::new();
        for (entry, rows) in &in_log {
            let Entry { id, block } = &self.log[*entry];
            let block = block.with(rows, |text| intern(&transaction, &mut texts, text))?;
            write_log(&transaction, Some(*id), &block)?;
            entries.push((*entry, block));
        }
        let (mut before, mut after) = (sums::Batch::default(), sums::Batch::default());
        for (place, rows) in sealed.values() {
            let old = load(&transaction, place, None)?;
            let new = old.with(rows, |text| intern(&transaction, &mut texts, text))?;
            write_block(&transaction, Some(place.id), &new)?;
            let names = Names::new(&transaction);
            let finishes = Finishes::new(&names);
            for row in rows.keys() {
                before.add(&transaction, &mut self.known, (&old, *row), &finishes)?;
                after.add(&transaction, &mut self.known, (&new, *row), &finishes)?;
            }
        }
        // In this order: a sum from which all was taken would no longer know what it knew.
        after.write(&transaction)?;
        before.take_out(&transaction)?;
        transaction.commit().doing(DOING)?;
        for (entry, block) in entries {
            self.last_end = self.last_end.max(block.extent().last_end);
            let before = std::mem::replace(&mut self.log[entry].block, block);
            for row in in_log.get(&entry).into_iter().flat_map(Amended::keys) {
                self.log_ids.remove(&before.id(*row));
                self.log_ids.insert(self.log[entry].block.id(*row), (entry, *row));
            }
        }
        for (_, rows) in sealed.values() {
            rows.values().for_each(|(id, _)| self.sealed.add(hash(id.0, id.1)));
            self.last_end = self.last_end.max(reading::last_end(&self.connection)?);
        }
        Ok(())
    }

    /// Makes the sums of the day whole: of all calls, in all widths.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        const DOING: &str = "finish the sums of a day";
        self.seal()?;
        let transaction = self.connection.transaction().doing(DOING)?;
        sums::close(&transaction, None)?;
        transaction.commit().doing(DOING)
    }

    /// Keeps the log short. What was written stays written if this fails.
    pub(super) fn tidy(&mut self) -> Result<(), Error> {
        let is_long = self.log.len() >= LOG_ENTRIES;
        if self.log_rows >= LOG_ROWS || (is_long && self.log_rows >= 2 * MAX_ROWS) {
            self.seal()
        } else if is_long {
            self.join()
        } else {
            Ok(())
        }
    }

    /// The calls of the log, entry by entry.
    fn blocks(&self) -> Vec<&Block> {
        self.log.iter().map(|entry| &entry.block).collect()
    }

    /// Makes the entries of the log one.
    fn join(&mut self) -> Result<(), Error> {
        const DOING: &str = "make the log of calls shorter";
        let blocks = self.blocks();
        let all = Block::of_rows(&blocks, &rows_of(&blocks));
        let transaction = self.connection.transaction().doing(DOING)?;
        transaction.execute("DELETE FROM log", []).doing(DOING)?;
        let id = write_log(&transaction, None, &all)?;
        transaction.commit().doing(DOING)?;
        self.forget_log();
        self.append(id, all);
        Ok(())
    }

    /// Makes blocks and sums of the log.
    pub(super) fn seal(&mut self) -> Result<(), Error> {
        if self.log_rows == 0 {
            return Ok(());
        }
        let outcome = self.try_seal();
        if outcome.is_err() {
            self.known.clear();
        }
        outcome?;
        for id in self.log_ids.keys() {
            self.sealed.add(hash(id.0, id.1));
        }
        self.forget_log();
        Ok(())
    }

    fn try_seal(&mut self) -> Result<(), Error> {
        const DOING: &str = "seal calls";
        if self.known.len() > MAX_REMEMBERED {
            self.known.clear();
        }
        let blocks: Vec<&Block> = self.log.iter().map(|entry| &entry.block).collect();
        let transaction = self.connection.transaction().doing(DOING)?;
        let last_end = seal(&transaction, &mut self.known, &blocks)?;
        sums::close(&transaction, Some(last_end.saturating_sub(LATE_NANOS)))?;
        transaction.execute("DELETE FROM log", []).doing(DOING)?;
        transaction.commit().doing(DOING)
    }

    fn forget_log(&mut self) {
        self.log.clear();
        self.log_ids.clear();
        self.log_rows = 0;
    }
}

/// Calls that go into rows of a block.
type Amended<'a> = BTreeMap<usize, (Id, &'a Call)>;

/// Writes calls as blocks, in order of time, and their sums. Gives back when the last one ended.
pub(super) fn seal(
    to: &Transaction<'_>,
    known: &mut Known,
    calls: &[&Block],
) -> Result<u64, Error> {
    write_blocks(to, calls)?;
    let names = Names::new(to);
    let finishes = Finishes::new(&names);
    let mut batch = sums::Batch::default();
    for (block, row) in rows_of(calls) {
        batch.add(to, known, (calls[block], row), &finishes)?;
    }
    batch.write(to)?;
    Ok(batch.last_end())
}

/// Writes calls as blocks, in order of time.
pub(super) fn write_blocks(to: &Transaction<'_>, calls: &[&Block]) -> Result<(), Error> {
    let rows = rows_of(calls).into_iter();
    let mut order: Vec<_> =
        rows.map(|(block, row)| (calls[block].start[row], block, row)).collect();
    // Ids tell apart what began at one time: few are looked at.
    let id = |block: usize, row: usize| calls[block].id(row);
    order.sort_unstable_by(|(one, block, row), (other, other_block, other_row)| {
        one.cmp(other).then_with(|| id(*block, *row).cmp(&id(*other_block, *other_row)))
    });
    let order: Vec<_> = order.into_iter().map(|(_, block, row)| (block, row)).collect();
    // Blocks of about one size: none has a few calls only.
    let len = order.len().div_ceil(order.len().div_ceil(MAX_ROWS).max(1)).max(1);
    for rows in order.chunks(len) {
        write_block(to, None, &Block::of_rows(calls, rows))?;
    }
    Ok(())
}

/// All rows of blocks: number of the block, and of the row.
fn rows_of(blocks: &[&Block]) -> Vec<(usize, usize)> {
    let rows = |(number, block): (usize, &&Block)| (0..block.len()).map(move |row| (number, row));
    blocks.iter().enumerate().flat_map(rows).collect()
}

/// Writes an entry of the log, in place of one or as a new one; its number.
fn write_log(to: &Transaction<'_>, id: Option<i64>, block: &Block) -> Result<i64, Error> {
    const DOING: &str = "write calls";
    let sql =
        "INSERT OR REPLACE INTO log (id, rows, first_start, last_start, first_end, last_end, body)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let [rows, first_start, last_start, first_end, last_end] = columns(&block.extent());
    let mut insert = to.prepare_cached(sql).doing(DOING)?;
    let body = block.to_bytes();
    let values = (id, rows, first_start, last_start, first_end, last_end, body);
    insert.insert(values).doing(DOING)
}

/// Writes a sealed block, in place of one or as a new one.
fn write_block(to: &Transaction<'_>, id: Option<i64>, block: &Block) -> Result<(), Error> {
    const DOING: &str = "seal calls";
    let sql =
        "INSERT OR REPLACE INTO block (id, rows, first_start, last_start, first_end, last_end)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    if let Some(id) = id {
        let sql = "DELETE FROM part WHERE id >= ?1 AND id < ?2";
        to.execute(sql, [id << 8, (id + 1) << 8]).doing(DOING)?;
    }
    let [rows, first_start, last_start, first_end, last_end] = columns(&block.extent());
    let mut insert = to.prepare_cached(sql).doing(DOING)?;
    let values = (id, rows, first_start, last_start, first_end, last_end);
    let id = insert.insert(values).doing(DOING)?;
    let mut insert =
        to.prepare_cached("INSERT INTO part (id, body) VALUES (?1, ?2)").doing(DOING)?;
    for (column, body) in block.columns() {
        insert.execute((id << 8 | i64::from(column), body)).doing(DOING)?;
    }
    let mut traces = Bloom::new(block.len());
    block.trace.iter().for_each(|trace| traces.add(hash(*trace, 0)));
    insert.execute((id << 8 | i64::from(FILTER), traces.as_bytes())).doing(DOING)?;
    Ok(())
}

fn columns(extent: &Extent) -> [i64; 5] {
    let Extent { rows, first_start, last_start, first_end, last_end } = *extent;
    [rows as u64, first_start, last_start, first_end, last_end]
        .map(|number| i64::try_from(number).unwrap_or(i64::MAX))
}

/// The number of a text; makes one for a new text.
pub(super) fn intern(to: &Transaction<'_>, texts: &mut Texts, text: &str) -> Result<u64, Error> {
    if let Some(id) = texts.get(text) {
        return Ok(id.unsigned_abs());
    }
    let id = insert_text(to, text)?;
    texts.insert(text.to_owned(), id);
    Ok(id.unsigned_abs())
}

/// The number of a text, which may be new.
pub(super) fn insert_text(to: &Transaction<'_>, text: &str) -> Result<i64, Error> {
    // A statement that always answers: the update changes nothing.
    let sql = "INSERT INTO text (value) VALUES (?1)
               ON CONFLICT (value) DO UPDATE SET value = excluded.value RETURNING id";
    let mut statement = to.prepare_cached(sql).doing("write a text")?;
    statement.query_row([text], |row| row.get(0)).doing("write a text")
}

#[cfg(test)]
mod tests;

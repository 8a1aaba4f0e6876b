//! What numbers are added up by alone: the services, hosts, environments, users and agents of a
//! file. Each is known by a small number, so that those of a bucket share rows.

use super::{By, DOING, Known, LOOKING};
use crate::engine::MAX_GROUPS;
use crate::error::{Doing, Error};
use crate::further::Further;
use crate::hashing::Keyed;
use crate::sqlite::block::{Block, Name, Text};
use crate::sqlite::column::NONE;
use crate::sqlite::day::insert_text;
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::collections::HashMap;

/// The number of those that have none: more than an answer tells apart are one, in each file.
const REST: i64 = 1 + MAX_GROUPS as i64;

/// The number of a call of which it is not known.
const UNKNOWN: i64 = 0;

/// Texts of further attributes that are remembered.
const MAX_FURTHER: usize = 4096;

/// Numbers of what a call is added up by alone, in the order of [`By::ALONE`].
pub(super) type Members = [i64; By::ALONE.len()];

/// Numbers that are known.
#[derive(Debug, Default)]
pub(super) struct KnownMembers {
    /// By numbers of texts.
    of_texts: HashMap<(By, i64), i64, Keyed>,
    /// Of names in further attributes.
    of_names: HashMap<(By, String), i64, Keyed>,
    /// Of all further attributes, as a call has them: mostly they are those of another call.
    of_further: HashMap<String, [i64; 3], Keyed>,
}

/// What a number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sqlite) enum Member {
    /// A text of the file; `None` where it is not known.
    One(Option<i64>),
    /// All that have no number of their own.
    Rest,
}

impl KnownMembers {
    pub(super) fn len(&self) -> usize {
        self.of_texts.len() + self.of_names.len()
    }

    pub(super) fn clear(&mut self) {
        self.of_texts.clear();
        self.of_names.clear();
        self.of_further.clear();
    }
}

impl Known {
    /// The numbers of a row; makes those that are new.
    pub(super) fn members(
        &mut self,
        to: &Transaction<'_>,
        block: &Block,
        row: usize,
    ) -> Result<Members, Error> {
        let mut named = |by, column| match block.name(column, row) {
            NONE => Ok(UNKNOWN),
            text => self.member(to, by, text.cast_signed()),
        };
        let (service, host) = (named(By::Service, Name::Service)?, named(By::Host, Name::Host)?);
        let [environment, user, agent] = match block.text(Text::More, row) {
            Some(further) => self.of_further(to, further)?,
            None => [UNKNOWN; 3],
        };
        Ok([service, host, environment, user, agent])
    }

    fn of_further(&mut self, to: &Transaction<'_>, further: &str) -> Result<[i64; 3], Error> {
        if let Some(members) = self.members.of_further.get(further) {
            return Ok(*members);
        }
        let Further { environment, user, agent } = Further::of(further);
        let mut member = |by, text: Option<String>| match text {
            Some(text) => self.member_of(to, by, text),
            None => Ok(UNKNOWN),
        };
        let members = [
            member(By::Environment, environment)?,
            member(By::User, user)?,
            member(By::Agent, agent)?,
        ];
        // They may hold what no two calls have; then only these are looked at anew.
        if self.members.of_further.len() >= MAX_FURTHER {
            self.members.of_further.clear();
        }
        self.members.of_further.insert(further.to_owned(), members);
        Ok(members)
    }

    /// The number of a text that the file may not have yet. It gets none that is of no use.
    fn member_of(&mut self, to: &Transaction<'_>, by: By, text: String) -> Result<i64, Error> {
        let name = (by, text);
        if let Some(id) = self.members.of_names.get(&name) {
            return Ok(*id);
        }
        let mut find = to.prepare_cached("SELECT id FROM text WHERE value = ?1").doing(DOING)?;
        let found = find.query_row([&name.1], |row| row.get(0)).optional().doing(DOING)?;
        let id = match found {
            Some(text) => self.member(to, by, text)?,
            None if next(to, by)? == REST => REST,
            None => self.member(to, by, insert_text(to, &name.1)?)?,
        };
        self.members.of_names.insert(name, id);
        Ok(id)
    }

    /// The number of a text of the file; makes one for a new text, as long as there is room.
    pub(in crate::sqlite) fn member(
        &mut self,
        to: &Transaction<'_>,
        by: By,
        text: i64,
    ) -> Result<i64, Error> {
        if let Some(id) = self.members.of_texts.get(&(by, text)) {
            return Ok(*id);
        }
        let sql = "SELECT id FROM member WHERE kind = ?1 AND text = ?2";
        let mut find = to.prepare_cached(sql).doing(DOING)?;
        let found = find.query_row((by.number(), text), |row| row.get(0)).optional();
        let id = match found.doing(DOING)? {
            Some(id) => id,
            None => next(to, by)?,
        };
        if id != REST {
            let sql = "INSERT OR IGNORE INTO member (kind, text, id) VALUES (?1, ?2, ?3)";
            let mut insert = to.prepare_cached(sql).doing(DOING)?;
            insert.execute((by.number(), text, id)).doing(DOING)?;
        }
        self.members.of_texts.insert((by, text), id);
        Ok(id)
    }
}

/// The number that the next one gets.
fn next(to: &Transaction<'_>, by: By) -> Result<i64, Error> {
    let sql = "SELECT coalesce(max(id), 0) + 1 FROM member WHERE kind = ?1";
    let mut statement = to.prepare_cached(sql).doing(DOING)?;
    let next: i64 = statement.query_row([by.number()], |row| row.get(0)).doing(DOING)?;
    Ok(next.min(REST))
}

/// What a number of a file stands for.
pub(in crate::sqlite) fn member(file: &Connection, by: By, id: i64) -> Result<Member, Error> {
    if id == UNKNOWN || id == REST {
        return Ok(if id == REST { Member::Rest } else { Member::One(None) });
    }
    let sql = "SELECT text FROM member WHERE kind = ?1 AND id = ?2";
    let mut statement = file.prepare_cached(sql).doing(LOOKING)?;
    let text = statement.query_row((by.number(), id), |row| row.get(0)).doing(LOOKING)?;
    Ok(Member::One(Some(text)))
}

impl Member {
    /// Its number in another file, where its text has a number that `same` gives.
    pub(in crate::sqlite) fn in_file(
        self,
        to: &Transaction<'_>,
        known: &mut Known,
        by: By,
        same: impl FnOnce(i64) -> Result<i64, Error>,
    ) -> Result<i64, Error> {
        match self {
            Self::One(None) => Ok(UNKNOWN),
            Self::One(Some(text)) => known.member(to, by, same(text)?),
            Self::Rest => Ok(REST),
        }
    }
}

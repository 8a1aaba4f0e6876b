//! Who may come in: tokens, one-time login codes, sessions. Only keyed hashes are kept.

use super::live::{KnownToken, SecretHash};
use super::{Control, optional, signed, unsigned};
use crate::error::{Doing, Error};
use crate::fleet::NewToken;
use crate::secret;
use crate::store::{Token, TokenKind};
use contract::row::Time;
use rusqlite::{Connection, params};
use std::collections::HashMap;

/// Codes that are good at a time; the oldest give way.
const MAX_CODES: u32 = 32;
/// Sessions that are good at a time; the oldest give way.
const MAX_SESSIONS: u32 = 1000;

impl Control {
    pub(crate) fn make_token(&self, new: &NewToken, now: Time) -> Result<String, Error> {
        const DOING: &str = "keep a token";
        let token = secret::make(new.kind.prefix())?;
        let hash = self.pepper.hash("token", &token);
        let connection = self.lock();
        let sql = "INSERT INTO token (hash, kind, name, created, expires, uses, environment)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id";
        let values = params![
            hash,
            new.kind.word(),
            new.name,
            signed(now.0),
            new.expires.map(|expires| signed(expires.0)),
            new.uses,
            new.environment
        ];
        let id: i64 = connection.query_row(sql, values, |row| row.get(0)).doing(DOING)?;
        let known = KnownToken {
            id: unsigned(id),
            kind: new.kind,
            expires: new.expires,
            uses: new.uses,
            used: 0,
            last_used: None,
            environment: new.environment.clone(),
        };
        self.live().tokens.insert(hash, known);
        Ok(token)
    }

    /// All tokens, oldest first.
    pub(crate) fn tokens(&self) -> Result<Vec<Token>, Error> {
        const DOING: &str = "list tokens";
        let connection = self.lock();
        let sql = "SELECT id, kind, name, created, expires, uses, used, environment, last_used
            FROM token ORDER BY id";
        let mut statement = connection.prepare_cached(sql).doing(DOING)?;
        let rows = statement.query_map([], |row| {
            let kind: String = row.get(1)?;
            let Some(kind) = TokenKind::of_word(&kind) else { return Ok(None) };
            Ok(Some(Token {
                id: unsigned(row.get(0)?),
                kind,
                name: row.get(2)?,
                created: Time(unsigned(row.get(3)?)),
                expires: time(row.get(4)?),
                uses: row.get(5)?,
                used: row.get(6)?,
                environment: row.get(7)?,
                last_used: time(row.get(8)?),
            }))
        });
        let rows: Vec<Option<Token>> = rows.and_then(Iterator::collect).doing(DOING)?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Notes a use of a token, where none is noted that is near enough.
    pub(crate) fn token_used(&self, id: u64, now: Time) -> Result<(), Error> {
        let connection = self.lock();
        // Those who asked before this one had its turn did the same.
        if self.live().token(id).is_none_or(|token| token.is_noted(now)) {
            return Ok(());
        }
        let sql = "UPDATE token SET last_used = ?2 WHERE id = ?1";
        connection.execute(sql, [signed(id), signed(now.0)]).doing("note a use of a token")?;
        if let Some(token) = self.live().tokens.values_mut().find(|token| token.id == id) {
            token.last_used = Some(now);
        }
        Ok(())
    }

    /// Makes a token worthless; false when there is none of this id.
    pub(crate) fn revoke(&self, id: u64) -> Result<bool, Error> {
        let connection = self.lock();
        let sql = "DELETE FROM token WHERE id = ?1";
        let rows = connection.execute(sql, [signed(id)]).doing("revoke a token")?;
        self.live().tokens.retain(|_, token| token.id != id);
        Ok(rows > 0)
    }

    pub(crate) fn new_login_code(&self, expires: Time, now: Time) -> Result<String, Error> {
        const DOING: &str = "keep a login code";
        let code = secret::make("")?;
        let hash = self.pepper.hash("login", &code);
        let connection = self.lock();
        connection
            .execute("DELETE FROM login_code WHERE expires <= ?1", [signed(now.0)])
            .doing(DOING)?;
        connection
            .execute(
                "INSERT INTO login_code (hash, expires) VALUES (?1, ?2)",
                params![hash, signed(expires.0)],
            )
            .doing(DOING)?;
        let sql = "DELETE FROM login_code WHERE hash NOT IN
            (SELECT hash FROM login_code ORDER BY expires DESC LIMIT ?1)";
        connection.execute(sql, [MAX_CODES]).doing(DOING)?;
        Ok(code)
    }

    /// Uses a code up, and begins a session when it was good.
    pub(crate) fn login(
        &self,
        code: &str,
        expires: Time,
        now: Time,
    ) -> Result<Option<String>, Error> {
        const DOING: &str = "begin a session";
        let hash = self.pepper.hash("login", code);
        let session = secret::make("")?;
        let session_hash = self.pepper.hash("session", &session);
        let mut connection = self.lock();
        let transaction = connection.transaction().doing(DOING)?;
        let sql = "DELETE FROM login_code WHERE hash = ?1 AND expires > ?2";
        let used = transaction.execute(sql, params![hash, signed(now.0)]).doing(DOING)?;
        if used == 0 {
            return Ok(None);
        }
        let sql = "DELETE FROM session WHERE expires <= ?1";
        transaction.execute(sql, [signed(now.0)]).doing(DOING)?;
        let sql = "INSERT INTO session (hash, created, expires) VALUES (?1, ?2, ?3)";
        let values = params![session_hash, signed(now.0), signed(expires.0)];
        transaction.execute(sql, values).doing(DOING)?;
        let sql = "DELETE FROM session WHERE hash NOT IN
            (SELECT hash FROM session ORDER BY created DESC LIMIT ?1)";
        transaction.execute(sql, [MAX_SESSIONS]).doing(DOING)?;
        transaction.commit().doing(DOING)?;
        Ok(Some(session))
    }

    pub(crate) fn session(&self, session: &str, now: Time) -> Result<bool, Error> {
        const DOING: &str = "look a session up";
        let hash = self.pepper.hash("session", session);
        let connection = self.lock();
        let sql = "SELECT 1 FROM session WHERE hash = ?1 AND expires > ?2";
        let mut statement = connection.prepare_cached(sql).doing(DOING)?;
        statement.exists(params![hash, signed(now.0)]).doing(DOING)
    }

    pub(crate) fn logout(&self, session: &str) -> Result<(), Error> {
        let hash = self.pepper.hash("session", session);
        let sql = "DELETE FROM session WHERE hash = ?1";
        self.lock().execute(sql, [hash]).map(|_rows| ()).doing("end a session")
    }
}

fn time(nanos: Option<i64>) -> Option<Time> {
    nanos.map(|nanos| Time(unsigned(nanos)))
}

/// All tokens by their hashes, for the start.
pub(super) fn all(from: &Connection) -> Result<HashMap<SecretHash, KnownToken>, Error> {
    const DOING: &str = "read tokens";
    let sql = "SELECT hash, id, kind, expires, uses, used, environment, last_used FROM token";
    let mut statement = from.prepare(sql).doing(DOING)?;
    let rows = statement.query_map([], |row| {
        let kind: String = row.get(2)?;
        let (Some(hash), Some(kind)) = (optional(row.get(0)?), TokenKind::of_word(&kind)) else {
            return Ok(None);
        };
        let known = KnownToken {
            id: unsigned(row.get(1)?),
            kind,
            expires: time(row.get(3)?),
            uses: row.get(4)?,
            used: row.get(5)?,
            environment: row.get(6)?,
            last_used: time(row.get(7)?),
        };
        Ok(Some((hash, known)))
    });
    let rows: Vec<Option<(SecretHash, KnownToken)>> =
        rows.and_then(Iterator::collect).doing(DOING)?;
    Ok(rows.into_iter().flatten().collect())
}

//! Who may come in: tokens, one-time login codes, sessions. Only keyed hashes are kept.

use super::{Control, signed, unsigned};
use crate::error::{Doing, Error};
use crate::secret;
use crate::store::{Token, TokenKind};
use contract::row::Time;
use rusqlite::{OptionalExtension, params};

/// Codes that are good at a time; the oldest give way.
const MAX_CODES: u32 = 32;
/// Sessions that are good at a time; the oldest give way.
const MAX_SESSIONS: u32 = 1000;

impl Control {
    pub(crate) fn new_token(
        &self,
        kind: TokenKind,
        name: &str,
        now: Time,
    ) -> Result<String, Error> {
        let token = secret::make(kind.prefix())?;
        let hash = self.pepper.hash("token", &token);
        self.lock()
            .execute(
                "INSERT INTO token (hash, kind, name, created) VALUES (?1, ?2, ?3, ?4)",
                params![hash, kind.word(), name, signed(now.0)],
            )
            .doing("keep a token")?;
        Ok(token)
    }

    pub(crate) fn token(&self, token: &str) -> Result<Option<TokenKind>, Error> {
        let hash = self.pepper.hash("token", token);
        let connection = self.lock();
        // The hash is keyed: how long the look-up takes says nothing about a token.
        let mut statement = connection
            .prepare_cached("SELECT kind FROM token WHERE hash = ?1")
            .doing("look a token up")?;
        let kind: Option<String> =
            statement.query_row([hash], |row| row.get(0)).optional().doing("look a token up")?;
        Ok(kind.and_then(|kind| TokenKind::of_word(&kind)))
    }

    /// All tokens, oldest first.
    pub(crate) fn tokens(&self) -> Result<Vec<Token>, Error> {
        const DOING: &str = "list tokens";
        let connection = self.lock();
        let sql = "SELECT id, kind, name, created FROM token ORDER BY id";
        let mut statement = connection.prepare_cached(sql).doing(DOING)?;
        let rows = statement.query_map([], |row| {
            let kind: String = row.get(1)?;
            Ok((row.get(0)?, kind, row.get(2)?, row.get(3)?))
        });
        let rows: Vec<(i64, String, String, i64)> =
            rows.and_then(Iterator::collect).doing(DOING)?;
        let token = |(id, kind, name, created): (i64, String, String, i64)| {
            let kind = TokenKind::of_word(&kind)?;
            Some(Token { id: unsigned(id), kind, name, created: Time(unsigned(created)) })
        };
        Ok(rows.into_iter().filter_map(token).collect())
    }

    /// Makes a token worthless; false when there is none of this id.
    pub(crate) fn revoke(&self, id: u64) -> Result<bool, Error> {
        let sql = "DELETE FROM token WHERE id = ?1";
        self.lock().execute(sql, [signed(id)]).map(|rows| rows > 0).doing("revoke a token")
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

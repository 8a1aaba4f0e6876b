//! Who may speak for which node.

use super::live::{Identity, Live, SecretHash};
use super::{Control, note, optional, signed, unsigned};
use crate::error::{Doing, Error};
use crate::fleet::{Bearer, Denied};
use contract::poll::{Enrolled, Enrolment, PROTOCOL, Secret, agreed};
use contract::row::Time;
use rusqlite::{Connection, Transaction, params};

/// A node that polled within this time has its credential: nobody else may join in its name. Three
/// polls and some.
const SILENT_NANOS: u64 = 90_000_000_000;

const DOING: &str = "keep who may speak for a node";

/// An identity with a credential that follows; in memory once it is on disk.
#[derive(Debug, Default)]
pub(super) struct Kept(Option<Identity>);

/// What a node brings at its first contact.
struct Claim<'a> {
    id: &'a str,
    /// Number of the join token that vouches for it.
    token: u64,
    /// Of its own credential; `None` when it goes on with the join token.
    hash: Option<SecretHash>,
    cluster: Option<String>,
}

impl Kept {
    pub(super) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn apply(self, id: &str, live: &mut Live) {
        if let Some(identity) = self.0 {
            live.set_identity(id, identity);
        }
    }
}

impl Control {
    pub(crate) fn bearer(&self, secret: &str, now: Time) -> Result<Bearer, Denied> {
        let hashes = [self.pepper.hash("token", secret), self.credential_hash(secret)];
        self.live().bearer(hashes, now)
    }

    pub(crate) fn cluster_of(&self, instance: &str) -> Option<String> {
        self.live().identities.get(instance)?.cluster.clone()
    }

    pub(crate) fn enrol(
        &self,
        enrolment: &Enrolment,
        token: u64,
        now: Time,
    ) -> Result<Enrolled, Error> {
        let id = &enrolment.instance.id;
        let hash = self.credential_hash(&enrolment.credential.0);
        let cluster = enrolment.instance.cluster.as_ref().map(|cluster| cluster.id.clone());
        let known = self.live().identities.get(id).cloned();
        let identity = match known {
            Some(known) if !known.revoked && known.hash == Some(hash) => known,
            known => {
                let claim = Claim { id, token, hash: Some(hash), cluster };
                self.take_in(claim, known.as_ref(), now)?
            }
        };
        let protocol = agreed(enrolment.oldest_protocol, enrolment.protocol).unwrap_or(PROTOCOL);
        Ok(Enrolled { id: id.clone(), protocol, environment: identity.environment })
    }

    pub(crate) fn join(&self, instance: &str, token: u64, now: Time) -> Result<(), Error> {
        let known = self.live().identities.get(instance).cloned();
        match &known {
            Some(known) if known.hash.is_some() => Err(Error::Taken),
            Some(known) if known.token == token && !known.revoked => Ok(()),
            _ => {
                let claim = Claim { id: instance, token, hash: None, cluster: None };
                self.take_in(claim, known.as_ref(), now).map(|_new| ())
            }
        }
    }

    /// Binds a node to a join token, and to a credential where it has one.
    fn take_in(
        &self,
        Claim { id, token, hash, cluster }: Claim<'_>,
        known: Option<&Identity>,
        now: Time,
    ) -> Result<Identity, Error> {
        let mut connection = self.lock();
        let transaction = connection.transaction().doing(DOING)?;
        let environment = {
            let live = self.live();
            let Some(token) = live.token(token) else { return Err(Error::Spent) };
            if let Some(known) = known {
                let last_poll = live.nodes.get(id).map_or(Time(0), |node| node.last_poll);
                let is_own = known.hash.is_none() && known.token == token.id;
                let is_heard = now.0.saturating_sub(last_poll.0) < SILENT_NANOS;
                if known.revoked || (is_heard && !is_own) {
                    return Err(if known.revoked { Error::Revoked } else { Error::Taken });
                }
            }
            let is_new = known.is_none_or(|known| known.token != token.id);
            if is_new && token.uses.is_some_and(|uses| token.used >= uses) {
                return Err(Error::Spent);
            }
            if is_new {
                let sql = "UPDATE token SET used = used + 1 WHERE id = ?1";
                transaction.execute(sql, [signed(token.id)]).doing(DOING)?;
            }
            token.environment.clone()
        };
        let identity = Identity {
            token,
            environment,
            cluster,
            hash,
            next_hash: None,
            made: now,
            enrolled: now,
            revoked: false,
        };
        write(&transaction, id, &identity)?;
        let what = if hash.is_some() { "enrolled" } else { "joined" };
        note(&transaction, now, ("node", "identity", id, what))?;
        transaction.commit().doing(DOING)?;
        let mut live = self.live();
        if known.is_none_or(|known| known.token != token)
            && let Some(token) = live.tokens.values_mut().find(|known| known.id == token)
        {
            token.used += 1;
        }
        live.set_identity(id, identity.clone());
        Ok(identity)
    }

    /// Keeps the credential that is to follow; nothing when the node has none, or its form is
    /// wrong.
    pub(super) fn follow(
        &self,
        to: &Transaction<'_>,
        id: &str,
        next: &Secret,
    ) -> Result<Kept, Error> {
        let hash = self.credential_hash(&next.0);
        let identity = {
            let live = self.live();
            let is_anothers = live.credentials.get(&hash).is_some_and(|node| node != id);
            live.identities.get(id).filter(|_| !is_anothers).cloned()
        };
        let good = |identity: &Identity| identity.hash.is_some() && !identity.revoked;
        let Some(identity) = identity.filter(good).filter(|_| next.is_credential()) else {
            return Ok(Kept::default());
        };
        let next_hash = Some(hash).filter(|hash| identity.hash != Some(*hash));
        let identity = Identity { next_hash, ..identity };
        write(to, id, &identity)?;
        Ok(Kept(Some(identity)))
    }

    pub(crate) fn promote(&self, id: &str, secret: &str, now: Time) -> Result<(), Error> {
        let hash = self.credential_hash(secret);
        let Some(identity) = self.live().identities.get(id).cloned() else { return Ok(()) };
        if identity.next_hash != Some(hash) {
            return Ok(());
        }
        let identity = Identity { hash: Some(hash), next_hash: None, made: now, ..identity };
        self.change_identity(id, identity, ("node", "identity", id, "changed its credential"), now)
    }

    pub(crate) fn revoke_node(&self, id: &str, actor: &str, now: Time) -> Result<bool, Error> {
        let Some(identity) = self.live().identities.get(id).cloned() else { return Ok(false) };
        let identity = Identity { revoked: true, next_hash: None, ..identity };
        self.change_identity(id, identity, (actor, "identity", id, "revoked"), now)?;
        Ok(true)
    }

    pub(crate) fn readmit_node(&self, id: &str, actor: &str, now: Time) -> Result<bool, Error> {
        if !self.live().identities.contains_key(id) {
            return Ok(false);
        }
        let mut connection = self.lock();
        let transaction = connection.transaction().doing(DOING)?;
        transaction.execute("DELETE FROM identity WHERE id = ?1", [id]).doing(DOING)?;
        note(&transaction, now, (actor, "identity", id, "may join anew"))?;
        transaction.commit().doing(DOING)?;
        self.live().forget_identity(id);
        Ok(true)
    }

    fn change_identity(
        &self,
        id: &str,
        identity: Identity,
        change: (&str, &str, &str, &str),
        now: Time,
    ) -> Result<(), Error> {
        let mut connection = self.lock();
        let transaction = connection.transaction().doing(DOING)?;
        write(&transaction, id, &identity)?;
        note(&transaction, now, change)?;
        transaction.commit().doing(DOING)?;
        self.live().set_identity(id, identity);
        Ok(())
    }

    fn credential_hash(&self, secret: &str) -> SecretHash {
        self.pepper.hash("credential", secret)
    }
}

fn write(to: &Transaction<'_>, id: &str, identity: &Identity) -> Result<(), Error> {
    let sql = "INSERT INTO identity
        (id, token, environment, cluster, hash, next_hash, made, enrolled, revoked)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO UPDATE SET
        token = ?2, environment = ?3, cluster = ?4, hash = ?5, next_hash = ?6, made = ?7,
        enrolled = ?8, revoked = ?9";
    let values = params![
        id,
        signed(identity.token),
        identity.environment,
        identity.cluster,
        identity.hash,
        identity.next_hash,
        signed(identity.made.0),
        signed(identity.enrolled.0),
        identity.revoked.then_some(1_i64),
    ];
    to.execute(sql, values).map(|_rows| ()).doing(DOING)
}

/// All identities, for the start.
pub(super) fn all(from: &Connection) -> Result<Vec<(String, Identity)>, Error> {
    let sql = "SELECT id, token, environment, cluster, hash, next_hash, made, enrolled,
        revoked IS NOT NULL FROM identity";
    let mut statement = from.prepare(sql).doing(DOING)?;
    let rows = statement.query_map([], |row| {
        let identity = Identity {
            token: unsigned(row.get(1)?),
            environment: row.get(2)?,
            cluster: row.get(3)?,
            hash: optional(row.get(4)?),
            next_hash: optional(row.get(5)?),
            made: Time(unsigned(row.get(6)?)),
            enrolled: Time(unsigned(row.get(7)?)),
            revoked: row.get(8)?,
        };
        Ok((row.get(0)?, identity))
    });
    rows.and_then(Iterator::collect).doing(DOING)
}

//! What is asked of a systemd and of the disk beside it: of the system's in this process, of a user's
//! in one that is that user (`as_user`). So whatever a user laid out for us, nothing is written that
//! the user could not write.

use super::bus::Bus;
use super::files::{put_back, read, to_be_made, write};
use super::{Change, UNITS, Unit, paths};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Deed {
    /// Look at a unit, and at the files beside it.
    Look(String),
    /// Write the files of a change.
    Write(Change),
    /// Put the files back as they were.
    PutBack(Change),
    /// Have systemd read its files anew.
    Reload,
    /// Restart a unit if it runs.
    Restart(String),
    /// Restart a unit with a clean record, or start it.
    StartAnew(String),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// How a unit is.
    Seen(Box<Seen>),
    /// Files that stay because others wrote to them.
    Kept(Vec<String>),
    /// It is done.
    Done,
}

/// A unit and the files beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) unit: Unit,
    /// Where its drop-ins are.
    pub(super) directory: PathBuf,
    /// The uppermost directory that has to be made for that, if any.
    pub(super) made: Option<PathBuf>,
    pub(super) drop_in: Option<String>,
    pub(super) variables: Option<String>,
}

/// Does it, as whoever runs this.
///
/// # Errors
///
/// A sentence.
pub(super) async fn carry_out(root: &Path, user: Option<u32>, deed: Deed) -> Result<Said, String> {
    match deed {
        Deed::Look(name) => look(root, user, &name).await.map(|seen| Said::Seen(Box::new(seen))),
        Deed::Write(change) => write(root, &change)
            .map(|()| Said::Done)
            .map_err(|error| format!("Cannot write the files of {}: {error}.", change.unit)),
        Deed::PutBack(change) => put_back(root, &change)
            .map(Said::Kept)
            .map_err(|error| format!("Cannot put the files of {} back: {error}.", change.unit)),
        Deed::Reload => Bus::open(root, user).await?.reload().await.map(|()| Said::Done),
        Deed::Restart(name) => {
            Bus::open(root, user).await?.restart(&name).await.map(|()| Said::Done)
        }
        Deed::StartAnew(name) => {
            Bus::open(root, user).await?.start_anew(&name).await.map(|()| Said::Done)
        }
    }
}

async fn look(root: &Path, user: Option<u32>, name: &str) -> Result<Seen, String> {
    let bus = Bus::open(root, user).await?;
    let units = match user {
        None => PathBuf::from(UNITS),
        Some(_) => own_units(bus.unit_path().await?)?,
    };
    let directory = units.join(format!("{name}.d"));
    let (drop_in, variables) = paths(&directory);
    let read = |path: &Path| {
        read(root, path).map_err(|error| {
            format!("cannot read {}: {error}; look at its permissions", path.display())
        })
    };
    Ok(Seen {
        unit: bus.unit(name).await?,
        made: to_be_made(root, &directory),
        drop_in: read(&drop_in)?,
        variables: read(&variables)?,
        directory,
    })
}

/// Where a user keeps units of their own (systemd.unit(5): `$XDG_CONFIG_HOME/systemd/user`), out of
/// all places that the user's systemd looks at.
fn own_units(places: Vec<String>) -> Result<PathBuf, String> {
    let is_own = |place: &String| {
        let of_all = ["/etc/", "/run/", "/usr/"];
        place.ends_with("/systemd/user")
            && place.starts_with('/')
            && !of_all.iter().any(|start| place.starts_with(start))
    };
    places.into_iter().find(is_own).map(PathBuf::from).ok_or_else(|| {
        "the user's systemd names no directory for units of the user; give the user a home"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_own_units_are_in_the_users_configuration() {
        let places = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        // As systemd 252 says it.
        let all = places(&[
            "/home/ann/.config/systemd/user.control",
            "/run/user/1000/systemd/user.control",
            "/run/user/1000/systemd/transient",
            "/run/user/1000/systemd/generator.early",
            "/home/ann/.config/systemd/user",
            "/etc/xdg/systemd/user",
            "/etc/systemd/user",
            "/run/user/1000/systemd/user",
            "/run/systemd/user",
            "/home/ann/.local/share/systemd/user",
            "/usr/lib/systemd/user",
        ]);
        assert_eq!(own_units(all).unwrap(), Path::new("/home/ann/.config/systemd/user"));
        assert!(own_units(places(&["/etc/systemd/user", "systemd/user"])).is_err());
    }
}

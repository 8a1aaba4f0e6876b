//! Units of systemd, recognised by their cgroups.
//!
//! A service is a unit that restarts under its name. A scope is a group of processes that somebody
//! else started: a login session, a terminal tab, a desktop program; nothing restarts it and its name
//! is made up, so what runs in it is a bare process. So are services with a name that `systemd-run`
//! made up.

use super::{Place, Platform};
use crate::process::{Process, clean};
use contract::workload;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) struct Systemd;

impl Platform for Systemd {
    fn place(&self, process: &Process, _root: &Path) -> Option<Place> {
        let (unit, user) = process.cgroups.iter().find_map(|path| unit(path))?;
        let unit = clean(unit, 256);
        let place = match user {
            Some(user) => format!("user-{}/{unit}", clean(user, 16)),
            None => unit.clone(),
        };
        Some(Place {
            platform: workload::Platform::Systemd,
            place: Some(place),
            name: Some(unit.trim_end_matches(".service").to_owned()),
            attributes: BTreeMap::from([("systemd.unit".to_owned(), unit)]),
        })
    }
}

/// The innermost unit of a cgroup path, with the user whose manager runs it, if one does.
fn unit(path: &str) -> Option<(&str, Option<&str>)> {
    let mut units =
        path.split('/').filter(|part| part.ends_with(".service") || part.ends_with(".scope"));
    let user =
        path.split('/').find_map(|part| part.strip_prefix("user@")?.strip_suffix(".service"));
    let innermost = units.next_back()?;
    let is_manager = innermost.starts_with("user@");
    let is_made_up = innermost.starts_with("run-u")
        || innermost.starts_with("run-r")
        || innermost.starts_with("run-p");
    let is_service = innermost.ends_with(".service") && !is_manager && !is_made_up;
    is_service.then_some((innermost, user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_unit_and_the_innermost_counts() {
        assert_eq!(unit("/system.slice/agent.service"), Some(("agent.service", None)));
        assert_eq!(unit("/system.slice/system-a.slice/a@1.service"), Some(("a@1.service", None)));
        let user = "/user.slice/user-1000.slice/user@1000.service/app.slice/bot.service";
        assert_eq!(unit(user), Some(("bot.service", Some("1000"))));
    }

    #[test]
    fn sessions_scopes_and_made_up_names_are_no_units() {
        assert_eq!(unit("/user.slice/user-0.slice/session-3.scope"), None);
        assert_eq!(unit("/user.slice/user-0.slice/user@0.service/init.scope"), None);
        assert_eq!(unit("/user.slice/user-0.slice/user@0.service"), None);
        assert_eq!(
            unit("/user.slice/user-1.slice/user@1.service/app.slice/vte-spawn-1.scope"),
            None
        );
        assert_eq!(unit("/system.slice/run-u12.service"), None);
        assert_eq!(unit("/init.scope"), None);
        assert_eq!(unit("/"), None);
    }
}

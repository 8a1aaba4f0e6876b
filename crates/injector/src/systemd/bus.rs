//! Speaks to systemd over the system bus, without running programs.
//!
//! systemd's own socket (`/run/systemd/private`) needs no bus, but names a sender there that the
//! specification of D-Bus does not allow, which our library refuses.

use super::{Unit, as_user};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use zbus::Connection;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const ROOT: &str = "/org/freedesktop/systemd1";

/// A reload of a machine with thousands of units takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a manager.
#[derive(Debug)]
pub(crate) struct Bus(Connection);

type All = HashMap<String, OwnedValue>;

impl Bus {
    /// Connects to the systemd of the node, or to that of the user that this program is.
    ///
    /// # Errors
    ///
    /// A sentence with what to do.
    pub(crate) async fn open(root: &Path, user: Option<u32>) -> Result<Self, String> {
        let socket = match user {
            None => root.join("run/dbus/system_bus_socket"),
            Some(user) => root.join(as_user::bus(user)),
        };
        let address = format!("unix:path={}", socket.display());
        let cannot = |error: &dyn std::fmt::Display| {
            format!(
                "cannot speak to systemd through {}: {error}; the node needs dbus, and the \
                 controller root and the node's /run",
                socket.display()
            )
        };
        let builder =
            zbus::connection::Builder::address(address.as_str()).map_err(|error| cannot(&error))?;
        match tokio::time::timeout(PATIENCE, builder.build()).await {
            Ok(Ok(connection)) => Ok(Self(connection)),
            Ok(Err(error)) => Err(cannot(&error)),
            Err(_) => Err(cannot(&"it does not answer")),
        }
    }

    /// What systemd says of a unit.
    pub(crate) async fn unit(&self, name: &str) -> Result<Unit, String> {
        let path: OwnedObjectPath = self.call(ROOT, MANAGER, "LoadUnit", &name).await?;
        let unit: All = self.call(path.as_str(), PROPERTIES, "GetAll", &UNIT).await?;
        let service: All = self.call(path.as_str(), PROPERTIES, "GetAll", &SERVICE).await?;
        Ok(Unit {
            name: name.to_owned(),
            load_state: text(&unit, "LoadState"),
            active_state: text(&unit, "ActiveState"),
            sub_state: text(&unit, "SubState"),
            kind: text(&service, "Type"),
            needs_reload: flag(&unit, "NeedDaemonReload"),
            is_transient: flag(&unit, "Transient"),
            can_stop: flag(&unit, "CanStop"),
            refuses_manual_stop: flag(&unit, "RefuseManualStop"),
            refuses_manual_start: flag(&unit, "RefuseManualStart"),
            main_pid: number(&service, "MainPID"),
            restarts: number(&service, "NRestarts"),
            active_since_micros: number(&unit, "ActiveEnterTimestampMonotonic"),
            has_private_network: flag(&service, "PrivateNetwork"),
            unset: texts(&service, "UnsetEnvironment"),
            drop_ins: texts(&unit, "DropInPaths"),
            result: text(&service, "Result"),
            exit_status: number(&service, "ExecMainStatus"),
        })
    }

    /// Directories with units, in the order in which they win.
    pub(crate) async fn unit_path(&self) -> Result<Vec<String>, String> {
        let path: OwnedValue = self.call(ROOT, PROPERTIES, "Get", &(MANAGER, "UnitPath")).await?;
        Ok(Vec::<String>::try_from(path).unwrap_or_default())
    }

    /// Has systemd read its files anew.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        self.call(ROOT, MANAGER, "Reload", &()).await
    }

    /// Restarts a unit if it runs, and waits until systemd is done with it.
    pub(crate) async fn restart(&self, name: &str) -> Result<(), String> {
        let job = self.call(ROOT, MANAGER, "TryRestartUnit", &(name, "replace")).await?;
        self.done(job).await;
        Ok(())
    }

    /// Starts a unit that failed or keeps failing, or restarts it: with a clean record.
    pub(crate) async fn start_anew(&self, name: &str) -> Result<(), String> {
        let _: () = self.call(ROOT, MANAGER, "ResetFailedUnit", &name).await?;
        let job = self.call(ROOT, MANAGER, "RestartUnit", &(name, "replace")).await?;
        self.done(job).await;
        Ok(())
    }

    /// Waits until a job is done.
    async fn done(&self, job: OwnedObjectPath) {
        // The job is gone when it is done, however it went; how the unit is says the rest.
        let is_there = async || {
            let state: Result<OwnedValue, _> = self
                .call(job.as_str(), PROPERTIES, "Get", &("org.freedesktop.systemd1.Job", "State"))
                .await;
            state.is_ok()
        };
        for _ in 0..PATIENCE.as_millis() / 100 {
            if !is_there().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn call<B, R>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<R, String>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
        R: for<'d> zbus::zvariant::DynamicDeserialize<'d>,
    {
        let asked = self.0.call_method(Some(DESTINATION), path, Some(interface), method, body);
        let said = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(said) => said.map_err(|error| format!("systemd refuses {method}: {error}"))?,
            Err(_) => return Err(format!("systemd does not answer {method} within a minute")),
        };
        said.body()
            .deserialize()
            .map_err(|error| format!("cannot read what systemd says to {method}: {error}"))
    }
}

fn text(from: &All, name: &str) -> String {
    from.get(name).and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default().to_owned()
}

fn texts(from: &All, name: &str) -> Vec<String> {
    from.get(name)
        .and_then(|value| value.try_clone().ok())
        .and_then(|value| Vec::<String>::try_from(value).ok())
        .unwrap_or_default()
}

fn flag(from: &All, name: &str) -> bool {
    from.get(name).and_then(|value| bool::try_from(value).ok()).unwrap_or_default()
}

fn number<T: for<'v> TryFrom<&'v OwnedValue> + Default>(from: &All, name: &str) -> T {
    from.get(name).and_then(|value| T::try_from(value).ok()).unwrap_or_default()
}

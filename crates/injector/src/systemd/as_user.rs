//! Speaks to a user's systemd as that user: its bus lets nobody else in, and what is below a home is
//! written with the user's own rights. A program of ours does it that has no others.

use super::deed::{Deed, Said, carry_out};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// The one argument of a `sonde` that is started for this.
pub const AS_USER: &str = "as-user";

/// A unit with a long stop takes a minute and a half, and its start as long. The user may hold our
/// program up, and must not hold us up.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a unit and two files come to, many times over.
const MAX_ANSWER: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    root: PathBuf,
    user: u32,
    deed: Deed,
}

/// Where a user's programs meet.
pub(super) fn bus(user: u32) -> PathBuf {
    PathBuf::from(format!("run/user/{user}/bus"))
}

/// Has it done as a user.
///
/// # Errors
///
/// A sentence.
pub(super) fn ask(root: &Path, user: u32, deed: Deed) -> Result<Said, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot act as user {user}: {error}");
    let runtime = root.join(format!("run/user/{user}"));
    let group = fs::metadata(&runtime)
        .map_err(|error| cannot(&format!("{} is not there ({error})", runtime.display())))?
        .gid();
    // Nothing of ours is told: not the environment, and no file that is open.
    let mut child = Command::new("/proc/self/exe")
        .arg(AS_USER)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .gid(group)
        .uid(user)
        .spawn()
        .map_err(|error| cannot(&format!("{error}; the controller needs root")))?;
    let asked = serde_json::to_vec(&Asked { root: root.to_owned(), user, deed })
        .map_err(|error| cannot(&error))?;
    let (mut to, from) = (child.stdin.take(), child.stdout.take());
    let (reply, answer) = sync_channel(1);
    let talk = move || {
        let mut text = Vec::new();
        if let Some(to) = &mut to {
            to.write_all(&asked).unwrap_or_default();
        }
        drop(to);
        let read = from.map(|from| from.take(MAX_ANSWER).read_to_end(&mut text));
        reply.try_send(read.map(|_| text).unwrap_or_default()).unwrap_or_default();
    };
    let talking = std::thread::Builder::new().name("as-user".to_owned()).spawn(talk);
    talking.map_err(|error| cannot(&error))?;
    let text = answer.recv_timeout(PATIENCE);
    // It is at its end, or has to come to it.
    child.kill().unwrap_or_default();
    child.wait().map_err(|error| cannot(&error))?;
    let text = text.map_err(|_late| cannot(&"it takes longer than four minutes"))?;
    serde_json::from_slice::<Result<Said, String>>(&text).map_err(|error| cannot(&error))?
}

/// Does what the controller asks on standard input, as the user that it was started as.
///
/// # Errors
///
/// When nobody asks, or nobody hears the answer.
pub fn act_as_user() -> std::io::Result<()> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(MAX_ANSWER).read_to_end(&mut text)?;
    let Asked { root, user, deed } = serde_json::from_slice(&text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(carry_out(&root, Some(user), deed));
    serde_json::to_writer(std::io::stdout().lock(), &said)?;
    Ok(())
}

//! `sonde controller uninstall`: leaves a node as it was found.

use crate::cli::ControllerUninstall;
use crate::failure::Failure;
use crate::place::{self, CONTROLLER_SOCKET, SOCKET};
use crate::table::plain;
use anyhow::Context as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Says what is changed, or takes it back.
pub(crate) fn run(options: &ControllerUninstall) -> Result<(), Failure> {
    let data_dir = match &options.data_dir {
        Some(directory) => std::path::absolute(directory).map_err(anyhow::Error::from)?,
        None => place::default_data_dir()?,
    };
    let controller: PathBuf = data_dir.join("controller");
    match options.restore {
        true => restore(options, &data_dir, &controller),
        false => list(&data_dir, &controller),
    }
}

/// Says what is changed; fails where anything is.
fn list(data_dir: &Path, controller: &Path) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let changed = controller::changed(controller);
    for one in &changed {
        writeln!(out, "{}\n{}", plain(&one.key), one.change)?;
    }
    if !changed.is_empty() {
        return Err(Failure::Failed(anyhow::anyhow!(
            "cannot leave yet; programs of this node that are changed: {}: put them back with \
             `sonde controller uninstall --restore`",
            changed.len()
        )));
    }
    writeln!(
        out,
        "No program of this node is changed. Remove {} to forget everything.",
        data_dir.display()
    )?;
    Ok(())
}

/// Takes everything back, and says for each program how that went.
fn restore(
    options: &ControllerUninstall,
    data_dir: &Path,
    controller: &Path,
) -> Result<(), Failure> {
    for socket in [SOCKET, CONTROLLER_SOCKET].map(|socket| data_dir.join(socket)) {
        if UnixStream::connect(&socket).is_ok() {
            return Err(Failure::usage(format!(
                "cannot put anything back while a Sonde runs on `{}`, which would do it again; stop \
                 it first",
                data_dir.display()
            )));
        }
    }
    let waits = |what: &str| tracing::info!("{}", plain(what));
    let kubeconfig = options.kubeconfig.clone();
    let restored = controller::restore(controller, Path::new("/"), kubeconfig, waits)
        .context("cannot put programs back")?;
    let mut out = std::io::stdout().lock();
    let mut failed = 0;
    for one in &restored {
        let outcome = match &one.outcome {
            Ok(None) => "is as it was before".to_owned(),
            Ok(Some(kept)) => format!("has nothing of ours any more; {kept}"),
            Err(reason) => {
                failed += 1;
                format!("is not put back: {reason}")
            }
        };
        writeln!(out, "{} {outcome}", plain(&one.key))?;
    }
    if failed > 0 {
        return Err(Failure::Failed(anyhow::anyhow!(
            "cannot put {failed} of {} programs back; mend what is said above, then run this again",
            restored.len()
        )));
    }
    writeln!(
        out,
        "Nothing of this node is changed any more. Remove {} to forget everything.",
        data_dir.display()
    )?;
    Ok(())
}

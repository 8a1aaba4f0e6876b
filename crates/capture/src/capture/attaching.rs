//! Probes in the libraries that watched processes map.

use super::{Capture, LOOK_NANOS};
use crate::event::Event;
use crate::library::{FileKey, names};
use crate::process;
use crate::system;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

impl Capture {
    pub(super) fn read_mapped(&mut self) {
        let Some(mapped) = &mut self.mapped else {
            let now = system::monotonic_nanos();
            if now.saturating_sub(self.last_look) >= LOOK_NANOS {
                self.last_look = now;
                self.look_again();
            }
            return;
        };
        let watches = &self.watches;
        let seen = mapped.read(|pid| watches.contains(pid));
        for mapping in seen.mappings {
            let path = PathBuf::new();
            let mapping =
                (mapping.pid, process::Mapping { start: mapping.start, end: mapping.end, path });
            self.attach_one(mapping.0, &mapping.1);
        }
        if seen.lost {
            self.look_again();
        }
    }

    pub(super) fn look_again(&mut self) {
        for pid in self.watches.pids() {
            if let Err(error) = self.attach_mapped(pid) {
                tracing::debug!(pid, %error, "cannot look into a watched process");
            }
        }
    }

    /// Sets probes in everything that a watched process maps now.
    pub(super) fn attach_mapped(&mut self, pid: u32) -> io::Result<()> {
        for mapping in process::mappings(pid)? {
            self.attach_one(pid, &mapping);
        }
        Ok(())
    }

    /// Sets probes in one mapped file, if it is a TLS library and has none yet.
    pub(super) fn attach_one(&mut self, pid: u32, mapping: &process::Mapping) {
        let Ok(file) = process::open(pid, mapping) else { return };
        let Ok(key) = FileKey::of(&file) else { return };
        let Some(watch) = self.watches.of(pid) else { return };
        if !watch.files.insert(key) {
            return;
        }
        let functions = self.libraries.functions(key, &file);
        if functions.is_empty() {
            return;
        }
        let path = shown_path(&file, mapping);
        let process = watch.process;
        let Some(tls) = self.tls.programs() else { return };
        self.events.push_back(match tls.attach(pid, watch.id, &file, &functions) {
            Ok(links) => {
                Event::Attached { process, library: watch.attached(path, names(&functions), links) }
            }
            Err(error) => {
                let reason = format!("{error:#}");
                watch.refused.push((path.clone(), reason.clone()));
                Event::Refused { process, path, reason }
            }
        });
    }
}

/// The path of a mapped file for people to read.
fn shown_path(file: &File, mapping: &process::Mapping) -> PathBuf {
    if mapping.path != Path::new("") {
        return mapping.path.clone();
    }
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

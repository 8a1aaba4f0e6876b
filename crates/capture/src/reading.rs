//! The programs that read TLS calls: tried at the start, and loaded while somebody is to be
//! watched.
//!
//! Their ring is the largest piece of memory of a capture, and is mapped twice so that a record
//! that wraps is one piece: where nobody is watched there is none.

use std::sync::mpsc;
use std::thread;

use crate::error::Error;
use crate::kernel::{Fact, Standing};
use crate::programs::{Multi, TlsPrograms, Warmth};

/// Reasons of `enum loss` that these programs count.
const REASONS: usize = 6;

/// The programs, or why there are none.
#[derive(Debug)]
pub(crate) struct Reading {
    ring_bytes: u32,
    state: State,
    /// What earlier programs lost, by the index of `enum loss`.
    lost_before: [u64; REASONS],
}

#[derive(Debug)]
enum State {
    /// What the kernel said; then nothing can be watched.
    Refused(String),
    /// They work here, and nobody is to be watched.
    Resting(Multi),
    Loaded {
        programs: TlsPrograms,
        /// Begins the kernel's wait before a link is wanted; see [`Warmth`].
        warmer: Option<mpsc::SyncSender<()>>,
    },
}

impl Reading {
    /// Tries what this kernel allows; nothing stays loaded.
    pub(crate) fn try_out(
        ring_bytes: u32,
        single_links: bool,
    ) -> Result<(Self, Fact), libbpf_rs::Error> {
        let multi = Multi::find_out(single_links)?;
        let fact = multi.fact();
        let state = State::Resting(multi);
        Ok((Self { ring_bytes, state, lost_before: [0; REASONS] }, fact))
    }

    /// What stands for the programs where the kernel refused them, and the fact that no call can be
    /// read.
    pub(crate) fn refused(reason: String) -> (Self, Fact) {
        let fact = Fact {
            name: "uprobe_multi",
            standing: Standing::Missing,
            found: reason.clone(),
            remedy: "no call can be read, and programs are still found; use a kernel with \
                     CONFIG_UPROBE_EVENTS=y, and grant CAP_BPF and CAP_PERFMON"
                .to_owned(),
        };
        let state = State::Refused(reason);
        (Self { ring_bytes: 0, state, lost_before: [0; REASONS] }, fact)
    }

    /// Loads the programs where they are not.
    pub(crate) fn load(&mut self) -> Result<&TlsPrograms, Error> {
        if let State::Resting(multi) = &self.state {
            let programs = TlsPrograms::load(self.ring_bytes, multi.clone());
            let programs = programs.map_err(|error| super::capture::refused(WHAT, &error))?;
            let warmer = programs.warmth().map(warmer).transpose()?;
            self.state = State::Loaded { programs, warmer };
        }
        match &self.state {
            State::Loaded { programs, .. } => Ok(programs),
            State::Refused(missing) => Err(Error::Kernel { missing: missing.clone() }),
            State::Resting(_) => Err(Error::Kernel { missing: WHAT.to_owned() }),
        }
    }

    /// Takes the programs and their ring away. Links that are still being removed keep what they
    /// need until then.
    pub(crate) fn rest(&mut self) {
        let State::Loaded { programs, .. } = &self.state else { return };
        for (reason, before) in (0..).zip(&mut self.lost_before) {
            *before += programs.programs.lost(reason);
        }
        self.state = State::Resting(programs.multi().clone());
    }

    /// The programs, where they are loaded.
    pub(crate) fn programs(&self) -> Option<&TlsPrograms> {
        match &self.state {
            State::Loaded { programs, .. } => Some(programs),
            State::Refused(_) | State::Resting(_) => None,
        }
    }

    /// What was lost so far, by the index of `enum loss`.
    pub(crate) fn lost(&self, reason: u32) -> u64 {
        let before = usize::try_from(reason).ok().and_then(|reason| self.lost_before.get(reason));
        let now = self.programs().map_or(0, |programs| programs.programs.lost(reason));
        before.copied().unwrap_or_default() + now
    }

    /// Makes the next link quick: a process started, which may be one to be watched.
    pub(crate) fn warm(&self) {
        if let State::Loaded { warmer: Some(warmer), .. } = &self.state {
            // Refused while one is under way, which serves as well.
            warmer.try_send(()).ok();
        }
    }
}

const WHAT: &str = "the programs that read TLS calls";

/// Starts the thread that keeps links quick while processes start.
fn warmer(warmth: Warmth) -> Result<mpsc::SyncSender<()>, Error> {
    let (sender, starts) = mpsc::sync_channel::<()>(0);
    thread::Builder::new()
        .name("warm".to_owned())
        .spawn(move || {
            for () in starts {
                warmth.renew();
            }
        })
        .map_err(|source| Error::Resource { doing: "start a thread", source })?;
    Ok(sender)
}

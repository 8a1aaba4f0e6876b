//! `sonde replay`: a recording, played through the real pipeline.

use crate::api;
use crate::cli::Replay as Options;
use crate::failure::Failure;
use crate::place;
use crate::signals::Signals;
use anyhow::Context as _;
use controller::{Playback, Replay};

/// Largest recording that is read; a day of a busy service is smaller.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Plays the file at its own pace into the dashboard that the flags name.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let recording = read(options)?;
    let config = match &options.target.remote.dashboard {
        Some(url) => {
            let token = api::token(&options.target.remote)?.ok_or_else(|| {
                Failure::usage(
                    "a dashboard elsewhere needs a token: `sonde tokens create --kind join` there \
                     makes one; give it with --token-file or SONDE_TOKEN",
                )
            })?;
            let mut config = controller::Config::new("", url.as_str());
            config.token = Some(controller::Token(token));
            config
        }
        None => {
            // Asking first gives the same clear message as every other command when none runs.
            let api = api::Api::local(options.target.data_dir.as_deref())?;
            api.get("/api/v1/status", &[])?;
            let socket = place::socket(options.target.data_dir.as_deref())?;
            controller::Config::new("", format!("unix:{}", socket.display()))
        }
    };
    let signals = Signals::catch()?;
    let playback = Playback { speed: options.speed, repeat: options.r#loop };
    let replay =
        Replay::start(recording, &config, playback).context("cannot play the recording")?;
    signals.wait_unless(|| replay.is_finished());
    if replay.is_finished() {
        tracing::info!("played the recording to its end");
        replay.wait();
    } else {
        replay.stop();
    }
    Ok(())
}

fn read(options: &Options) -> Result<wire::transcript::Recording, Failure> {
    let cannot = |reason: String| {
        Failure::usage(format!(
            "cannot play `{}`: {reason}; `sonde up --record FILE` makes a recording",
            options.file.display()
        ))
    };
    let length = std::fs::metadata(&options.file).map_err(|error| cannot(error.to_string()))?.len();
    if length > MAX_FILE_BYTES {
        return Err(cannot(format!("it has {length} bytes, more than {MAX_FILE_BYTES}")));
    }
    let text = std::fs::read_to_string(&options.file).map_err(|error| cannot(error.to_string()))?;
    wire::transcript::parse(&text).map_err(|error| cannot(error.to_string()))
}

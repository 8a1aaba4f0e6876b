//! What the agent says of itself, read from outside.
//!
//! The agent maps an anonymous file whose name is its report, so `/proc/<pid>/maps` shows it: with
//! a root that is read-only, without a network, and as long as the process lives. A process that
//! forks hands it on; one that executes another program loses it.

/// What begins the name of the file.
const MARK: &str = "/memfd:sonde-agent/1 ";

/// The reason that concerns one library alone.
const LIBRARY: &str = "library-version";

/// How far the agent came in one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is in the process, and waits for a library that it knows.
    Loaded,
    /// It watches the libraries that are named.
    Started {
        /// Names of instrumented libraries, with their versions.
        libraries: Vec<String>,
    },
    /// Spans of it do not arrive.
    Unsent {
        /// What came of sending them.
        reason: String,
    },
    /// Its first span arrived.
    Sent {
        /// Names of instrumented libraries, with their versions.
        libraries: Vec<String>,
    },
    /// It has left the program alone.
    StoodDown {
        /// One word, such as `other-agent`, `python-too-old`.
        reason: String,
        /// For people: which agent, which version.
        detail: String,
    },
}

/// The agent's last word in one process, from its `/proc/<pid>/maps`; nothing where no agent is.
///
/// One library that is too old does not hold back the others.
pub fn read(maps: &str) -> Option<State> {
    let weight = |state: &State| match state {
        State::Loaded => 0,
        State::StoodDown { reason, .. } if reason == LIBRARY => 1,
        State::Started { libraries } => 2 + libraries.len(),
        State::Unsent { .. } => usize::MAX - 2,
        State::Sent { .. } => usize::MAX - 1,
        State::StoodDown { .. } => usize::MAX,
    };
    let said = || {
        let marks = maps.lines().filter_map(|line| line.split_once(MARK));
        marks.filter_map(|(_, said)| one(said))
    };
    let last = said().max_by_key(weight)?;
    let State::Sent { .. } = last else { return Some(last) };
    let started = said().filter(|state| matches!(state, State::Started { .. })).max_by_key(weight);
    match started {
        Some(State::Started { libraries }) => Some(State::Sent { libraries }),
        _ => Some(last),
    }
}

/// `loaded`, `started LIBRARY…`, `unsent REASON…`, `sent`, `stood-down REASON DETAIL…`.
fn one(said: &str) -> Option<State> {
    let said = said.strip_suffix(" (deleted)").unwrap_or(said);
    let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
    match word {
        "loaded" => Some(State::Loaded),
        "started" => {
            Some(State::Started { libraries: rest.split_whitespace().map(str::to_owned).collect() })
        }
        "unsent" => Some(State::Unsent { reason: rest.to_owned() }),
        "sent" => Some(State::Sent { libraries: Vec::new() }),
        "stood-down" => {
            let (reason, detail) = rest.split_once(' ').unwrap_or((rest, ""));
            Some(State::StoodDown { reason: reason.to_owned(), detail: detail.to_owned() })
        }
        // Of an agent that is newer than we are.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(said: &[&str]) -> String {
        let mut text = "7f1-7f2 r-xp 0 08:01 1  /usr/lib/libc.so.6\n".to_owned();
        for said in said {
            text += &format!("7f3-7f4 r--s 0 00:01 2  /memfd:sonde-agent/1 {said} (deleted)\n");
        }
        text
    }

    #[test]
    fn the_last_word_counts() {
        assert_eq!(read(&maps(&[])), None);
        assert_eq!(read(&maps(&["loaded"])), Some(State::Loaded));
        let started = State::Started { libraries: vec!["openai=2.54.0".to_owned()] };
        assert_eq!(read(&maps(&["started openai=2.54.0", "loaded"])), Some(started));
        let down = State::StoodDown {
            reason: "other-agent".to_owned(),
            detail: "ddtrace is in this process".to_owned(),
        };
        assert_eq!(
            read(&maps(&["loaded", "stood-down other-agent ddtrace is in this process"])),
            Some(down)
        );
    }

    #[test]
    fn a_library_that_is_too_old_holds_back_no_other() {
        let old = "stood-down library-version openai 1.40.0 is older than 1.92.0";
        assert!(matches!(read(&maps(&["loaded", old])), Some(State::StoodDown { .. })));
        let more = ["loaded", "started a=1 b=2", old, "started a=1"];
        let libraries = vec!["a=1".to_owned(), "b=2".to_owned()];
        assert_eq!(read(&maps(&more)), Some(State::Started { libraries }));
    }

    #[test]
    fn the_first_span_is_told_with_what_is_watched() {
        let reason = "the answer is 401".to_owned();
        let unsent = ["loaded", "started a=1", "unsent the answer is 401"];
        assert_eq!(read(&maps(&unsent)), Some(State::Unsent { reason }));
        let libraries = vec!["a=1".to_owned(), "b=2".to_owned()];
        let sent = ["loaded", "sent", "started a=1", "started a=1 b=2"];
        assert_eq!(read(&maps(&sent)), Some(State::Sent { libraries }));
    }

    #[test]
    fn a_word_that_is_not_known_is_no_report() {
        assert_eq!(read(&maps(&["dancing wildly"])), None);
        assert_eq!(read(""), None);
    }
}

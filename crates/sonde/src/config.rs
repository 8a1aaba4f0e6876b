//! The configuration file: its keys are the flags, and its values are their defaults.
//!
//! Flags win over the environment, the environment over the file, the file over the built-in
//! defaults. A key that is no flag of any command is an error, and so is a value of the wrong form;
//! all mistakes are reported at once.

use crate::cli::Cli;
use crate::failure::Failure;
use clap::CommandFactory as _;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Finds the mistakes in one table.
type Check = fn(&str) -> Vec<String>;

/// Keys that hold tables.
const TABLES: [(&str, Check); 4] = [
    ("include", controller::rules::rule_mistakes),
    ("exclude", controller::rules::rule_mistakes),
    ("provider", controller::rules::provider_mistakes),
    ("wish", controller::rules::rule_mistakes),
];

const DEFAULT_FILE: &str = "/etc/sonde/sonde.toml";

/// The file is small; more than this is a wrong path.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The command line with the values of the configuration file as defaults.
///
/// # Errors
///
/// [`Failure::Usage`] when the file cannot be read or says something that no flag takes.
pub(crate) fn layered(arguments: &[OsString]) -> Result<clap::Command, Failure> {
    let command = Cli::command();
    let Some(file) = file(arguments) else { return Ok(command) };
    let text = read(&file)?;
    let values = values(&text, &command).map_err(|mistakes| {
        Failure::usage(format!("cannot use `{}`:\n  {}", file.display(), mistakes.join("\n  ")))
    })?;
    Ok(with_defaults(command, &values))
}

/// The file that is asked for, else the one in the usual place where it exists.
fn file(arguments: &[OsString]) -> Option<PathBuf> {
    named_on_the_command_line(arguments)
        .or_else(|| environment("SONDE_CONFIG").map(PathBuf::from))
        .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()))
}

/// A variable of the environment; empty is the same as not set.
#[expect(clippy::disallowed_methods, reason = "configuration enters here")]
pub(crate) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn named_on_the_command_line(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        if argument == OsStr::new("--") {
            return None;
        }
        if argument == OsStr::new("--config") {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(PathBuf::from(path));
        }
    }
    None
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "cannot read the configuration file `{}`: {error}; name a readable TOML file with \
             --config, or leave it out",
            file.display()
        ))
    };
    let length = std::fs::metadata(file).map_err(|error| cannot(&error))?.len();
    if length > MAX_FILE_BYTES {
        return Err(cannot(&format!("it has {length} bytes, more than {MAX_FILE_BYTES}")));
    }
    std::fs::read_to_string(file).map_err(|error| cannot(&error))
}

type Values = BTreeMap<String, Vec<String>>;

/// Reads the keys that are flags of some command; every mistake is one line.
fn values(text: &str, command: &clap::Command) -> Result<Values, Vec<String>> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(0, |span| text.get(..span.start).map_or(0, |head| head.matches('\n').count()));
        vec![format!("line {}: {}", line + 1, error.message())]
    })?;
    let known = flags(command);
    let mut values = Values::new();
    let mut mistakes = Vec::new();
    for (key, value) in table {
        if !known.contains(&key) {
            mistakes.push(unknown(&key, &known));
            continue;
        }
        let list = match TABLES.iter().find(|(name, _)| *name == key) {
            Some((_, check)) => tables(&key, &value, *check, &mut mistakes),
            None => scalar_or_list(&value),
        };
        match list {
            Some(list) => {
                values.insert(key, list);
            }
            None => mistakes.push(format!(
                "`{key}`: needs text, a number, true or false, or a list of them; found a {}",
                value.type_str()
            )),
        }
    }
    if mistakes.is_empty() { Ok(values) } else { Err(mistakes) }
}

fn scalar_or_list(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Float(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(switch) => Some(vec![switch.to_string()]),
        toml::Value::Array(list) => {
            list.iter().map(scalar_or_list).collect::<Option<Vec<_>>>().map(|lists| lists.concat())
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// Rules, each a table or text as on the command line; every mistake is told with its place.
fn tables(
    key: &str,
    value: &toml::Value,
    check: Check,
    mistakes: &mut Vec<String>,
) -> Option<Vec<String>> {
    let one = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Table(table) => serde_json::to_string(table).ok(),
        _ => None,
    };
    let all = match value {
        toml::Value::Array(list) => list.iter().map(one).collect::<Option<Vec<_>>>()?,
        value => vec![one(value)?],
    };
    for (index, text) in all.iter().enumerate() {
        let place = |mistake: String| format!("`{key}` number {}: {mistake}", index + 1);
        mistakes.extend(check(text).into_iter().map(place));
    }
    Some(all)
}

/// Ids of all flags of all commands.
fn flags(command: &clap::Command) -> Vec<String> {
    let own = command
        .get_arguments()
        .filter(|argument| argument.get_long().is_some() && argument.get_env().is_some())
        .map(|argument| argument.get_id().to_string())
        .filter(|id| id != "config");
    let mut all: Vec<String> = own.chain(command.get_subcommands().flat_map(flags)).collect();
    all.sort();
    all.dedup();
    all
}

fn unknown(key: &str, known: &[String]) -> String {
    let like = |candidate: &&String| {
        candidate.replace('_', "") == key.replace(['-', '_'], "").to_lowercase()
            || strsim::levenshtein(candidate, key) <= 2
    };
    match known.iter().find(like) {
        Some(candidate) => format!("`{key}` is not a setting; did you mean `{candidate}`?"),
        None => format!("`{key}` is not a setting; the settings are {}", known.join(", ")),
    }
}

/// Makes the file's values the defaults, in every command that has the flag.
fn with_defaults(command: clap::Command, values: &Values) -> clap::Command {
    let command = command.mut_args(|argument| match values.get(argument.get_id().as_str()) {
        // A flag with a default is never missing, so clap must not ask for it.
        Some(list) => argument.required(false).default_values(list.clone()),
        None => argument,
    });
    command.mut_subcommands(|subcommand| with_defaults(subcommand, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, arguments: &[&str]) -> Result<clap::ArgMatches, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sonde.toml");
        std::fs::write(&file, text).unwrap();
        let arguments: Vec<OsString> = ["sonde", "--config", file.to_str().unwrap()]
            .iter()
            .chain(arguments)
            .map(OsString::from)
            .collect();
        let command = layered(&arguments).map_err(|failure| failure.message().unwrap())?;
        command.try_get_matches_from(&arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_of_the_file_is_the_default_of_its_flag() {
        let matches = with_file("listen = '127.0.0.1:9'\nlimit = 7", &["up"]).unwrap();
        let up = matches.subcommand_matches("up").unwrap();
        assert_eq!(up.get_one::<std::net::SocketAddr>("listen").unwrap().port(), 9);
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let matches = with_file("limit = 7", &["calls", "--limit", "3"]).unwrap();
        let calls = matches.subcommand_matches("calls").unwrap();
        assert_eq!(calls.get_one::<u32>("limit"), Some(&3));
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_a_suggestion() {
        let message =
            with_file("data-dir = '/x'\nlisen = 'y'\nlimit = {a = 1}", &["up"]).unwrap_err();
        assert!(message.contains("did you mean `data_dir`"), "{message}");
        assert!(message.contains("did you mean `listen`"), "{message}");
        assert!(message.contains("`limit`: needs"), "{message}");
    }

    #[test]
    fn rules_are_tables_and_every_mistake_is_told_with_its_place() {
        let good = "[[exclude]]\nnamespace = 'kube-*'\n[[exclude]]\npath = '/opt/a,b/*'\n\
                    [[provider]]\nname = 'ours'\nhost = 'llm.*.example'\nport = 8443";
        let matches = with_file(good, &["up", "--include", "user=alice,name=chat*"]).unwrap();
        let up = matches.subcommand_matches("up").unwrap();
        let rules = |key: &str| -> Vec<contract::rules::Rule> {
            up.get_many(key).into_iter().flatten().cloned().collect()
        };
        assert_eq!(rules("exclude").len(), 2);
        assert_eq!(rules("exclude")[1].path.as_deref(), Some("/opt/a,b/*"));
        assert_eq!(rules("include")[0].name.as_deref(), Some("chat*"));
        let provider = up.get_one::<contract::rules::Provider>("provider").unwrap();
        assert_eq!(provider.port, Some(8443));

        let bad = "exclude = ['name=a', 'labl=b']\n[[include]]\n[[provider]]\nname = ''\n\
                   host = 'a/b'";
        let message = with_file(bad, &["up"]).unwrap_err();
        for part in [
            "`exclude` number 2: unknown field `labl`",
            "`include` number 1: says nothing",
            "`provider` number 1: `name`",
            "`provider` number 1: `host`",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_wrong_value_is_refused_by_the_flag_itself() {
        assert!(with_file("listen = 'nowhere'", &["up"]).unwrap_err().contains("nowhere"));
    }

    #[test]
    fn a_broken_file_names_the_line() {
        assert!(with_file("limit = 1\nlisten = ", &["up"]).unwrap_err().contains("line 2"));
    }
}

//! What was there before a unit was changed, in short, and the change made out again from that and
//! from what is on disk.

use super::{Change, DROP_IN, MARK, VARIABLES, directory, files_of};
use contract::before::{Before, Was};
use std::collections::{BTreeMap, BTreeSet};

impl Change {
    /// What was there before. Files that were there already are never changed.
    pub(crate) fn before(&self) -> Before {
        let has_directory = self.directory.is_none();
        let place = directory(&self.unit);
        let mut shown = match has_directory {
            true => format!("{} was there", place.display()),
            false => format!("{} was not there", place.display()),
        };
        for name in [DROP_IN, VARIABLES] {
            shown.push_str(&format!("\n{} was not there", place.join(name).display()));
        }
        let variables = self.variables.keys().cloned().collect();
        Before { shown, was: Was::Unit { has_directory, variables } }
    }
}

/// The change of a unit, by what its files say now; nothing when none of them is ours.
pub(super) fn recovered(
    unit: &str,
    (drop_in, variables): (Option<&str>, Option<&str>),
    (has_directory, names): (bool, &BTreeSet<String>),
) -> Option<Change> {
    let is_ours = |text: &Option<&str>| text.is_some_and(|text| text.starts_with(MARK));
    if ![drop_in, variables].iter().any(|text| is_ours(text)) {
        return None;
    }
    let mut variables = assignments(variables.unwrap_or_default());
    variables.retain(|name, _| names.contains(name));
    Some(Change {
        unit: unit.to_owned(),
        files: files_of(unit, &variables, &[]),
        directory: (!has_directory).then(|| directory(unit)),
        variables,
    })
}

/// The variables of a file as we write them.
fn assignments(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let is_name = |name: &str| {
            name.bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let one = rest.split_once("=\"").filter(|(name, _)| is_name(name));
        let read = one.and_then(|(name, value)| Some((name, unquoted(value)?)));
        let Some((name, (value, left))) = read else {
            rest = &rest[end..];
            continue;
        };
        all.insert(name.to_owned(), value);
        rest = left.strip_prefix('\n').unwrap_or(left);
    }
    all
}

/// A value up to its closing quote, and what comes after it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{around, change};
    use super::*;

    #[test]
    fn a_change_is_made_out_again_from_what_is_on_disk() {
        let mut around = around();
        let odd = "/srv/a \"b\" $c `d` \\e\nPYTHONPATH=\"x";
        around.program.environment.insert("PYTHONPATH".to_owned(), odd.to_owned());
        let made = change(&around);
        let [variables, drop_in] = made.files.as_slice() else { panic!("{made:?}") };
        let Was::Unit { has_directory, variables: names } = made.before().was else {
            panic!("{made:?}")
        };
        let texts = (Some(drop_in.text.as_str()), Some(variables.text.as_str()));
        let again = recovered(&made.unit, texts, (has_directory, &names)).unwrap();
        assert_eq!(again.variables, made.variables);
        assert_eq!(again.directory, made.directory);
        let pairs = |change: &Change| {
            let of = |file: &super::super::File| (file.path.clone(), file.text.clone());
            change.files.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(pairs(&again), pairs(&made));
        // What somebody added is not ours.
        let added = format!("{}MINE=\"1\"\n", variables.text);
        let texts = (Some(drop_in.text.as_str()), Some(added.as_str()));
        let again = recovered(&made.unit, texts, (has_directory, &names)).unwrap();
        assert_eq!(pairs(&again), pairs(&made));
    }

    #[test]
    fn what_was_there_before_holds_no_secret_and_files_of_others_are_no_change() {
        let made = change(&around());
        let told = serde_json::to_string(&made.before()).unwrap();
        assert!(!told.contains("sonde_secret"), "{told}");
        assert!(told.contains("agent.service.d was not there"), "{told}");
        let foreign = (Some("[Service]\nNice=1\n"), Some("A=\"1\"\n"));
        assert_eq!(recovered("agent.service", foreign, (true, &BTreeSet::new())), None);
        assert_eq!(recovered("agent.service", (None, None), (true, &BTreeSet::new())), None);
    }
}

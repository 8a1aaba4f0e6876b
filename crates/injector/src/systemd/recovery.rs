//! What was there before a unit was changed, in short, and the change made out again from that and
//! from what is on disk.

use super::deed::Seen;
use super::{Change, DROP_IN, MARK, VARIABLES, files_of};
use contract::before::{Before, Was};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// `UNIT.d`, `user`, `systemd` and `.config` of a home.
const MOST_MADE: u32 = 4;

impl Change {
    /// What was there before. Files that were there already are never changed.
    pub(crate) fn before(&self) -> Before {
        let place = self.place();
        let mut shown = match &self.directory {
            None => format!("{} was there", place.display()),
            Some(_) => {
                let made = self.made().map(|it| format!("{} was not there", it.display()));
                made.collect::<Vec<_>>().join("\n")
            }
        };
        for name in [DROP_IN, VARIABLES] {
            shown.push_str(&format!("\n{} was not there", place.join(name).display()));
        }
        let variables = self.variables.keys().cloned().collect();
        let made = u32::try_from(self.made().count()).unwrap_or(0);
        Before { shown, was: Was::Unit { made, variables } }
    }
}

/// The change of a unit, by what its files say now; nothing when none of them is ours.
pub(super) fn recovered(
    seen: &Seen,
    user: Option<u32>,
    (made, names): (u32, &BTreeSet<String>),
) -> Option<Change> {
    let is_ours = |text: &Option<String>| text.as_ref().is_some_and(|it| it.starts_with(MARK));
    if ![&seen.drop_in, &seen.variables].into_iter().any(is_ours) {
        return None;
    }
    let mut variables = assignments(seen.variables.as_deref().unwrap_or_default());
    variables.retain(|name, _| names.contains(name));
    let above = usize::try_from(made.min(MOST_MADE)).unwrap_or(0).checked_sub(1);
    let directory = above.and_then(|above| seen.directory.ancestors().nth(above));
    Some(Change {
        unit: seen.unit.name.clone(),
        user,
        files: files_of(&seen.directory, &variables, &[]),
        directory: directory.map(Path::to_owned),
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
        let Was::Unit { made: count, variables: names } = made.before().was else {
            panic!("{made:?}")
        };
        let mut seen = Seen {
            directory: made.place().to_owned(),
            drop_in: Some(drop_in.text.clone()),
            variables: Some(variables.text.clone()),
            ..Seen::default()
        };
        let again = recovered(&seen, None, (count, &names)).unwrap();
        assert_eq!(again.variables, made.variables);
        assert_eq!(again.directory, made.directory);
        let pairs = |change: &Change| {
            let of = |file: &super::super::File| (file.path.clone(), file.text.clone());
            change.files.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(pairs(&again), pairs(&made));
        // What somebody added is not ours.
        seen.variables = Some(format!("{}MINE=\"1\"\n", variables.text));
        let again = recovered(&seen, None, (count, &names)).unwrap();
        assert_eq!(pairs(&again), pairs(&made));
    }

    #[test]
    fn what_was_there_before_holds_no_secret_and_files_of_others_are_no_change() {
        let made = change(&around());
        let told = serde_json::to_string(&made.before()).unwrap();
        assert!(!told.contains("sonde_secret"), "{told}");
        assert!(told.contains("agent.service.d was not there"), "{told}");
        let mut seen = Seen { drop_in: Some("[Service]\nNice=1\n".to_owned()), ..Seen::default() };
        assert_eq!(recovered(&seen, None, (0, &BTreeSet::new())), None);
        seen.drop_in = None;
        assert_eq!(recovered(&seen, None, (0, &BTreeSet::new())), None);
    }
}

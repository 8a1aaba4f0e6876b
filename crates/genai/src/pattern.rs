//! Patterns that people write for hosts, names and paths: whole words in which `*` stands for any
//! run of characters.

/// Characters of a pattern; host names have at most 253, paths that people write are shorter.
const MAX_LEN: usize = 256;

/// A pattern that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// Takes a pattern.
    ///
    /// # Errors
    ///
    /// A sentence for the one who wrote it, when it is empty, too long or holds control characters.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; `*` matches everything".to_owned());
        }
        if text.chars().count() > MAX_LEN {
            return Err(format!("is longer than {MAX_LEN} characters"));
        }
        if text.chars().any(char::is_control) {
            return Err("holds a control character".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether the whole of `text` is as the pattern says.
    pub fn matches(&self, text: &str) -> bool {
        matches(&self.0, text)
    }
}

/// Whether the whole of `text` is as `pattern` says.
///
/// Takes time in proportion to both lengths multiplied, at worst, and no memory: only the last star is
/// ever tried again.
pub(crate) fn matches(mut pattern: &str, text: &str) -> bool {
    let mut rest = text;
    // Where to go on when what follows the last star does not fit here.
    let mut again: Option<(&str, &str)> = None;
    loop {
        let mut ahead = pattern.chars();
        match (ahead.next(), rest.chars().next()) {
            (Some('*'), _) => {
                pattern = ahead.as_str();
                again = Some((pattern, rest));
                continue;
            }
            (Some(wanted), Some(found)) if wanted == found => {
                pattern = ahead.as_str();
                rest = after_first(rest);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match again {
            Some((behind_star, from)) if !from.is_empty() => {
                rest = after_first(from);
                pattern = behind_star;
                again = Some((behind_star, rest));
            }
            _ => return false,
        }
    }
}

fn after_first(text: &str) -> &str {
    let mut characters = text.chars();
    characters.next();
    characters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_and_all_else_for_itself() {
        for (pattern, text, is_match) in [
            ("api.example", "api.example", true),
            ("api.example", "xapi.example", false),
            ("api.example", "api.example.", false),
            ("*", "", true),
            ("*.example", "a.b.example", true),
            ("*.example", ".example", true),
            ("*.example", "example", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("kube-*", "kube-system", true),
            ("**x**", "x", true),
            ("", "", false),
            ("ä*ö", "äxö", true),
            ("a.c", "abc", false),
            ("[a-z]", "a", false),
        ] {
            let matches = Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text));
            assert_eq!(matches, is_match, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_length_times_the_text() {
        // A matcher that tried every star again would not end.
        let pattern = Pattern::new(&"*a".repeat(128)).unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(4_096))));
        assert!(pattern.matches(&"a".repeat(4_096)));
    }

    #[test]
    fn what_cannot_be_a_pattern_is_refused_in_words() {
        assert!(Pattern::new("").unwrap_err().contains("empty"));
        assert!(Pattern::new(&"a".repeat(300)).unwrap_err().contains("256"));
        assert!(Pattern::new("a\nb").unwrap_err().contains("control"));
    }
}

//! The difference of two texts, line by line, as `diff -u` writes it.

/// Lines around a change.
const CONTEXT: usize = 3;

/// Texts beyond are compared as a whole: the table of the comparison grows with the square.
const MAX_LINES: usize = 4_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep,
    Remove,
    Add,
}

/// What has to be done to `before` so that it is `after`; empty when nothing.
///
/// A text that is absent (`None`) is `/dev/null`.
pub(crate) fn unified(name: &str, before: Option<&str>, after: Option<&str>) -> String {
    if before == after {
        return String::new();
    }
    let heads = [before, after].map(|text| if text.is_some() { name } else { "/dev/null" });
    let old: Vec<&str> = before.unwrap_or_default().lines().collect();
    let new: Vec<&str> = after.unwrap_or_default().lines().collect();
    let script = script(&old, &new);
    let mut text = format!("--- {}\n+++ {}\n", heads[0], heads[1]);
    for hunk in hunks(&script) {
        text.push_str(&written(&script[hunk.clone()], &script[..hunk.start]));
    }
    text
}

fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Edit, &'a str)> {
    if old.len() > MAX_LINES || new.len() > MAX_LINES {
        let removed = old.iter().map(|line| (Edit::Remove, *line));
        return removed.chain(new.iter().map(|line| (Edit::Add, *line))).collect();
    }
    // Length of the longest common run of lines from each place to the end.
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for left in (0..old.len()).rev() {
        for right in (0..new.len()).rev() {
            common[left * width + right] = if old[left] == new[right] {
                common[(left + 1) * width + right + 1] + 1
            } else {
                common[(left + 1) * width + right].max(common[left * width + right + 1])
            };
        }
    }
    let (mut left, mut right) = (0, 0);
    let mut script = Vec::new();
    while left < old.len() || right < new.len() {
        if left < old.len() && right < new.len() && old[left] == new[right] {
            script.push((Edit::Keep, old[left]));
            (left, right) = (left + 1, right + 1);
        } else if right == new.len()
            || (left < old.len()
                && common[(left + 1) * width + right] >= common[left * width + right + 1])
        {
            script.push((Edit::Remove, old[left]));
            left += 1;
        } else {
            script.push((Edit::Add, new[right]));
            right += 1;
        }
    }
    script
}

/// Runs of the script that hold changes, with what is around them.
fn hunks(script: &[(Edit, &str)]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, (edit, _)) in script.iter().enumerate() {
        if *edit == Edit::Keep {
            continue;
        }
        let range = at.saturating_sub(CONTEXT)..(at + 1 + CONTEXT).min(script.len());
        match hunks.last_mut() {
            Some(last) if last.end >= range.start => last.end = range.end,
            _ => hunks.push(range),
        }
    }
    hunks
}

fn written(hunk: &[(Edit, &str)], before: &[(Edit, &str)]) -> String {
    let count =
        |script: &[(Edit, &str)], not: Edit| script.iter().filter(|(edit, _)| *edit != not).count();
    let place = |not: Edit| {
        let length = count(hunk, not);
        // An empty side names the line before it (GNU diffutils, "Detailed Description of Unified
        // Format").
        format!("{},{length}", count(before, not) + usize::from(length > 0))
    };
    let mut text = format!("@@ -{} +{} @@\n", place(Edit::Add), place(Edit::Remove));
    for (edit, line) in hunk {
        text.push(match edit {
            Edit::Keep => ' ',
            Edit::Remove => '-',
            Edit::Add => '+',
        });
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let after = "a\nb\nc\nd\nE\nf\ng\nh\n";
        assert_eq!(
            unified("x", Some(before), Some(after)),
            "--- x\n+++ x\n@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n"
        );
        assert_eq!(unified("x", Some(before), Some(before)), "");
    }

    #[test]
    fn a_new_file_comes_from_nothing_and_goes_back_there() {
        assert_eq!(
            unified("x", None, Some("a\nb\n")),
            "--- /dev/null\n+++ x\n@@ -0,0 +1,2 @@\n+a\n+b\n"
        );
        assert_eq!(unified("x", Some("a\n"), None), "--- x\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-a\n");
    }

    #[test]
    fn changes_far_apart_are_hunks_of_their_own() {
        let lines = |first: &str, last: &str| {
            let middle: String = (0..20).map(|n| format!("{n}\n")).collect();
            format!("{first}\n{middle}{last}\n")
        };
        let text = unified("x", Some(&lines("a", "z")), Some(&lines("A", "Z")));
        assert_eq!(text.matches("@@ -").count(), 2, "{text}");
    }
}

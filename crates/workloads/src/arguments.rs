//! Arguments without their secrets.
//!
//! A command line is readable by every user of its machine, but a page that shows it is read by
//! more people. What looks like a secret is replaced by [`MASK`]: the value of an option, a variable,
//! a header or a query parameter whose name says that it is one; words that begin like the keys of
//! well-known services; and passwords in URLs. A secret that nothing announces cannot be known.
//!
//! Free text is not shown at all: `claude -p "…"` and `curl -d '{…}'` carry prompts.

/// Stands in for a secret.
const MASK: &str = "***";

/// Arguments worth showing.
const MAX_SHOWN: usize = 64;

/// Characters of one argument worth showing; inline scripts are longer.
const MAX_SHOWN_LENGTH: usize = 512;

/// Words in a name that announce a secret.
const SECRET_WORDS: [&str; 15] = [
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "key",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "secret",
    "secrets",
    "token",
];

/// Beginnings of the keys of well-known services.
const SECRET_PREFIXES: [&str; 19] = [
    "sk-",
    "sk_",
    "pk_live_",
    "rk_live_",
    "gsk_",
    "hf_",
    "xai-",
    "pplx-",
    "r8_",
    "AIza",
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xox",
    "eyJ",
];

/// What follows such a beginning is at least this long in a real key.
const SHORTEST_KEY: usize = 8;

/// The arguments with secrets masked, in full length.
pub(crate) fn masked(arguments: &[String]) -> Vec<String> {
    let mut masked = Vec::with_capacity(arguments.len());
    let mut follows: Option<Follows> = None;
    for argument in arguments {
        let text: String = argument
            .chars()
            .filter(|character| crate::process::is_shown(*character) || *character == '\n')
            .collect();
        masked.push(match follows.take() {
            Some(Follows::Secret) if !text.starts_with("--") => MASK.to_owned(),
            Some(Follows::UserAndPassword) if text.contains(':') => {
                format!("{}:{MASK}", text.split(':').next().unwrap_or_default())
            }
            _ => within(&text),
        });
        follows = announced(argument);
    }
    masked
}

/// The masked arguments, without free text and cut to what is worth showing.
pub(crate) fn shown(masked: &[String]) -> Vec<String> {
    let cut = |argument: &String| match argument.char_indices().nth(MAX_SHOWN_LENGTH) {
        _ if is_free_text(argument) => format!("‹{} characters›", argument.chars().count()),
        Some((at, _)) => format!("{}…", &argument[..at]),
        None => argument.clone(),
    };
    masked.iter().take(MAX_SHOWN).map(cut).collect()
}

/// Whether a person or a program may have written this as content: words with spaces, or JSON.
pub(crate) fn is_free_text(argument: &str) -> bool {
    argument.contains(char::is_whitespace) || argument.starts_with(['{', '['])
}

/// What an option says about the argument after it.
enum Follows {
    Secret,
    UserAndPassword,
}

fn announced(option: &str) -> Option<Follows> {
    if option.eq_ignore_ascii_case("bearer") {
        return Some(Follows::Secret);
    }
    if option == "-u" || option == "--user" || option == "--proxy-user" {
        return Some(Follows::UserAndPassword);
    }
    let is_secret =
        option.starts_with('-') && !option.contains(['=', ':', ' ']) && is_secret_name(option);
    is_secret.then_some(Follows::Secret)
}

/// `--openai-api-key`, `HF_TOKEN` and `accessToken` are; `--max-tokens` and `--tokenizer` are not.
fn is_secret_name(name: &str) -> bool {
    let mut words = String::with_capacity(name.len() + 8);
    let mut after_lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && after_lower {
            words.push(' ');
        }
        after_lower = character.is_ascii_lowercase();
        words.push(if character.is_ascii_alphanumeric() {
            character.to_ascii_lowercase()
        } else {
            ' '
        });
    }
    words.split(' ').any(|word| SECRET_WORDS.contains(&word))
}

/// Masks what is secret inside of one argument.
fn within(argument: &str) -> String {
    let assigned = mask_assigned(argument);
    let in_urls = mask_urls(&assigned);
    mask_keys(&mask_bearers(&in_urls))
}

/// Masks the word behind `Bearer` (RFC 6750 section 2.1).
fn mask_bearers(text: &str) -> String {
    const WORD: &str = "bearer ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // Lower case in ASCII alone, so that places stay where they are.
    while let Some(at) = rest.to_ascii_lowercase().find(WORD) {
        let (before, after) = rest.split_at(at + WORD.len());
        let end = after.find([' ', '"', '\'', '\n']).unwrap_or(after.len());
        out.push_str(before);
        if end > 0 {
            out.push_str(MASK);
        }
        rest = &after[end..];
    }
    out + rest
}

/// Masks the values of `name=value` and `name: value`, wherever they stand.
fn mask_assigned(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let sign = &rest[at..=at];
        out.push_str(before);
        out.push_str(sign);
        rest = after;
        if !is_secret_name(last_name(before)) || (sign == ":" && after.starts_with("//")) {
            continue;
        }
        let lead = after.len() - after.trim_start_matches([' ', '"', '\'', '\\']).len();
        let value = &after[lead..];
        // A header goes to the end of its line, a quoted value to its quote, a parameter to the next.
        let ends: &[char] = match (sign, after[..lead].contains(['"', '\''])) {
            (_, true) => &['"', '\'', '\n'],
            (":", false) => &['\n', '"', '\'', ',', '}'],
            _ => &['&', ' ', ';', ',', '\n', '"', '\''],
        };
        let end = value.find(ends).unwrap_or(value.len());
        out.push_str(&after[..lead]);
        if end > 0 {
            out.push_str(MASK);
        }
        rest = &value[end..];
    }
    out.push_str(rest);
    out
}

/// The name that ends here, without the quotes around it.
fn last_name(text: &str) -> &str {
    let text = text.trim_end_matches(['"', '\'', ' ', '\\']);
    let begin = text
        .rfind(|character: char| !character.is_ascii_alphanumeric() && !"_-.".contains(character));
    begin.map_or(text, |at| {
        text[at..].trim_start_matches(|character: char| !character.is_ascii_alphanumeric())
    })
}

/// Masks the password of `scheme://user:password@host`.
fn mask_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let authority = after.find(['/', '?', '#', ' ', '"', '\'']).unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(user_end) => {
                let user = &after[..user_end];
                match user.split_once(':') {
                    Some((name, _)) => out.push_str(&format!("{name}:{MASK}")),
                    None => out.push_str(user),
                }
                &after[user_end..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

/// Masks words that begin like a key.
fn mask_keys(text: &str) -> String {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        let is_key = |prefix: &str| {
            rest[..word].strip_prefix(prefix).is_some_and(|tail| tail.len() >= SHORTEST_KEY)
        };
        if SECRET_PREFIXES.iter().any(|prefix| is_key(prefix)) {
            out.push_str(MASK);
        } else {
            out.push_str(&rest[..word]);
        }
        let next = rest[word..].find(is_part).map_or(rest.len(), |gap| word + gap);
        out.push_str(&rest[word..next]);
        rest = &rest[next..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> Vec<String> {
        masked(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_value_of_a_secret_option_is_masked_and_others_are_kept() {
        assert_eq!(
            of(&["x", "--api-key", "abc", "--model", "gpt-4o"]),
            ["x", "--api-key", "***", "--model", "gpt-4o"]
        );
        assert_eq!(
            of(&["x", "--api-key=abc", "--max-tokens=100"]),
            ["x", "--api-key=***", "--max-tokens=100"]
        );
        assert_eq!(
            of(&["x", "--tokenizer", "bert", "--max-tokens", "7"]),
            ["x", "--tokenizer", "bert", "--max-tokens", "7"]
        );
        assert_eq!(of(&["x", "--openaiApiKey", "abc"]), ["x", "--openaiApiKey", "***"]);
    }

    #[test]
    fn variables_and_queries_are_masked() {
        assert_eq!(
            of(&["env", "OPENAI_API_KEY=abc", "MODEL=x"]),
            ["env", "OPENAI_API_KEY=***", "MODEL=x"]
        );
        assert_eq!(of(&["https://h/p?key=abc&alt=sse"]), ["https://h/p?key=***&alt=sse"]);
        assert_eq!(
            of(&["-c", "client = OpenAI(api_key='abc', timeout=3)"]),
            ["-c", "client = OpenAI(api_key='***', timeout=3)"]
        );
        assert_eq!(of(&[r#"{"api_key": "abc", "n": 1}"#]), [r#"{"api_key": "***", "n": 1}"#]);
    }

    #[test]
    fn headers_are_masked_to_their_end() {
        assert_eq!(
            of(&["curl", "-H", "Authorization: Bearer a b"]),
            ["curl", "-H", "Authorization: ***"]
        );
        assert_eq!(of(&["curl", "-H", "x-api-key:abc"]), ["curl", "-H", "x-api-key:***"]);
        assert_eq!(
            of(&["curl", "-H", "content-type: application/json"]),
            ["curl", "-H", "content-type: application/json"]
        );
    }

    #[test]
    fn passwords_of_urls_and_users_are_masked() {
        assert_eq!(of(&["https://me:pw@host:8443/x"]), ["https://me:***@host:8443/x"]);
        assert_eq!(
            of(&["postgres://u:p%40@db/x", "https://host/a@b"]),
            ["postgres://u:***@db/x", "https://host/a@b"]
        );
        assert_eq!(of(&["curl", "-u", "me:pw"]), ["curl", "-u", "me:***"]);
    }

    #[test]
    fn words_that_look_like_keys_are_masked_anywhere() {
        assert_eq!(of(&["run", "sk-ant-REDACTED"]), ["run", "***"]);
        assert_eq!(of(&["say sk-abcdefghijk now"]), ["say *** now"]);
        assert_eq!(of(&["sk-short", "task-runner-service"]), ["sk-short", "task-runner-service"]);
    }

    #[test]
    fn a_prompt_on_the_command_line_is_not_shown() {
        let shown = shown(&of(&["claude", "-p", "my secret plan", "-d", r#"{"messages":[]}"#]));
        assert_eq!(shown, ["claude", "-p", "‹14 characters›", "-d", "‹15 characters›"]);
    }

    #[test]
    fn secrets_are_masked_in_every_spelling() {
        let rows = [
            ("--api-key=sk-proj-abcdefgh1234", "--api-key=***"),
            ("--apiKey=abc", "--apiKey=***"),
            ("-DOPENAI_API_KEY=abc", "-DOPENAI_API_KEY=***"),
            ("ANTHROPIC_API_KEY=abc", "ANTHROPIC_API_KEY=***"),
            ("--header=Authorization: Bearer abc.def", "--header=Authorization: ***"),
            ("Bearer abcdefgh12345678", "Bearer ***"),
            (
                "https://user:pa%20ss@host/v1?api_key=x&n=1",
                "https://user:***@host/v1?api_key=***&n=1",
            ),
            ("https://token@host/", "https://token@host/"),
            ("redis://:pw@cache:6379/0", "redis://:***@cache:6379/0"),
            ("AZURE_OPENAI_KEY=abc;ENDPOINT=https://x", "AZURE_OPENAI_KEY=***;ENDPOINT=https://x"),
            ("hf_abcdefghijklmnop", "***"),
            ("key:AIzaSyA-abcdefgh", "key:***"),
            ("--max-tokens=100", "--max-tokens=100"),
            ("--model=gpt-4o", "--model=gpt-4o"),
        ];
        for (argument, masked) in rows {
            assert_eq!(of(&["x", argument]), ["x", masked], "{argument}");
        }
        assert_eq!(
            of(&["x", "--openai-api-key", "abc", "-p", "y"]),
            ["x", "--openai-api-key", "***", "-p", "y"]
        );
        assert_eq!(of(&["curl", "-H", "Bearer", "abcdefgh12345678"])[3], "***");
    }

    #[test]
    fn nothing_is_cut_in_the_middle_of_a_character() {
        let long = "é".repeat(2 * MAX_SHOWN_LENGTH);
        assert_eq!(shown(&of(&[&long]))[0].chars().count(), MAX_SHOWN_LENGTH + 1);
        assert_eq!(
            of(&["=", ":", "a=", "key=", "://", "://@", "token:"]),
            ["=", ":", "a=", "key=", "://", "://@", "token:"]
        );
    }
}

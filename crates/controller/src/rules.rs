//! Which programs count and which hosts are providers, as people say: rules, checked and matched.
//! A value without I/O; where the rules come from does not matter here.

use contract::attribute;
use contract::rules::{Provider, Rule, Rules};
use genai::{Pattern, Providers};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use workloads::Program;

/// Rules of one kind from one source; each costs a comparison for each program that is found.
const MAX_RULES: usize = 256;

/// Longest name of a provider that people add.
const MAX_NAME: usize = 64;

/// Reads a rule as it is written on the command line: `namespace=kube-*,user=postgres`, or the same
/// as a JSON object, for patterns that hold a comma.
///
/// # Errors
///
/// One sentence that names the key and the mistake.
pub fn rule(text: &str) -> Result<Rule, String> {
    let rule: Rule = read(text)?;
    first(check_rule(&rule))?;
    Ok(rule)
}

/// Reads a provider in the same forms: `name=our-gateway,host=llm.*.example,port=8443`.
///
/// # Errors
///
/// One sentence that names the key and the mistake.
pub fn provider(text: &str) -> Result<Provider, String> {
    let provider: Provider = read(text)?;
    first(check_provider(&provider))?;
    Ok(provider)
}

/// Everything that is wrong with a rule in one of these forms.
pub fn rule_mistakes(text: &str) -> Vec<String> {
    read(text).map_or_else(|mistake| vec![mistake], |rule| check_rule(&rule))
}

/// Everything that is wrong with a provider in one of these forms.
pub fn provider_mistakes(text: &str) -> Vec<String> {
    read(text).map_or_else(|mistake| vec![mistake], |provider| check_provider(&provider))
}

/// Everything that is wrong with a rule, each with its key.
fn check_rule(rule: &Rule) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut check = |key: &str, pattern: Option<&String>| {
        if let Some(Err(mistake)) = pattern.map(|pattern| Pattern::new(pattern)) {
            mistakes.push(format!("`{key}` {mistake}"));
        }
    };
    check("namespace", rule.namespace.as_ref());
    check("name", rule.name.as_ref());
    check("user", rule.user.as_ref());
    check("path", rule.path.as_ref());
    check("label", rule.label.as_ref());
    let label = rule.label.as_deref().map(|label| label.split_once('=').unwrap_or((label, "*")));
    match label {
        Some(("", _)) => mistakes.push("`label` has no name; write `name=pattern`".to_owned()),
        Some((_, "")) => mistakes.push("`label` has no pattern behind the `=`".to_owned()),
        _ => {}
    }
    if *rule == Rule::default() {
        mistakes.push(
            "says nothing; give at least one of namespace, label, name, user and path".to_owned(),
        );
    }
    mistakes
}

/// Everything that is wrong with a provider, each with its key.
fn check_provider(provider: &Provider) -> Vec<String> {
    let mut mistakes = Vec::new();
    let name = provider.name.as_str();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        mistakes.push(format!("`name` has to be a word of 1 to {MAX_NAME} characters"));
    }
    if let Err(mistake) = Pattern::new(&provider.host) {
        mistakes.push(format!("`host` {mistake}"));
    } else if provider.host.contains(['/', ':', ' ']) {
        mistakes.push("`host` is a host name alone; port and path have their own keys".to_owned());
    }
    if provider.port == Some(0) {
        mistakes.push("`port` is from 1 to 65535".to_owned());
    }
    if provider.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        mistakes.push("`path` begins with `/`".to_owned());
    }
    let families = genai::families();
    if provider.family.as_deref().is_some_and(|family| !families.contains(&family)) {
        mistakes.push(format!("`family` is one of {}", families.join(", ")));
    }
    mistakes
}

fn first(mistakes: Vec<String>) -> Result<(), String> {
    mistakes.into_iter().next().map_or(Ok(()), Err)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        fields(text)?
    };
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn fields(text: &str) -> Result<Value, String> {
    let mut fields = Map::new();
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("`{field}` has no `=`; write key=pattern,key=pattern"))?;
        let key = key.trim();
        let value = match (key, value.parse::<u16>()) {
            ("port", Ok(port)) => port.into(),
            ("port", Err(_)) => return Err("`port` is a number from 1 to 65535".to_owned()),
            _ => value.into(),
        };
        if fields.insert(key.to_owned(), value).is_some() {
            return Err(format!("`{key}` is given twice"));
        }
    }
    Ok(Value::Object(fields))
}

/// What rules look at of a program or of a workload.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) key: String,
    /// Attributes, labels among them.
    pub(crate) attributes: BTreeMap<String, String>,
    /// Users that it runs as; of a workload that is stopped, those that are known.
    pub(crate) users: BTreeSet<String>,
    /// Executables that it runs.
    pub(crate) paths: BTreeSet<String>,
}

impl Subject {
    /// A program, under the name that is shown.
    pub(crate) fn of(program: &Program, name: &str) -> Self {
        let mut attributes = program.attributes.clone();
        attributes.extend(program.instance.attributes.clone());
        Self {
            name: name.to_owned(),
            key: program.key.0.clone(),
            attributes,
            users: BTreeSet::from([program.instance.user.clone()]),
            paths: BTreeSet::from([program.instance.executable.clone()]),
        }
    }

    fn labels(&self, name: &str) -> impl Iterator<Item = &str> {
        [attribute::K8S_POD_LABEL, attribute::CONTAINER_LABEL]
            .into_iter()
            .filter_map(move |prefix| self.attributes.get(&format!("{prefix}{name}")))
            .map(String::as_str)
    }
}

/// Rules that choose programs: each of them alone does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chooser(Vec<Matcher>);

impl Chooser {
    /// Reads rules; one that cannot be read chooses nothing, and is said.
    pub(crate) fn new(rules: &[Rule], user: impl Fn(u32) -> String) -> Self {
        let made = rules.iter().enumerate().filter_map(|(index, rule)| {
            let made = Matcher::new(format!("wish {}", index + 1), rule, &user);
            if let Err(mistake) = &made {
                tracing::warn!(mistake, "cannot use a wish of the configuration; the others hold");
            }
            made.ok()
        });
        Self(made.collect())
    }

    /// Whether one of them chooses it.
    pub(crate) fn chooses(&self, subject: &Subject) -> bool {
        self.0.iter().any(|rule| rule.matches(subject))
    }
}

/// What the rules say about one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Whether it counts.
    pub(crate) counts: bool,
    /// The rule that decides, with its place; absent when none does.
    pub(crate) rule: Option<String>,
}

/// All rules that hold on this node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rulebook {
    exclude: Vec<Matcher>,
    /// By source: where a source has any, one of them has to match.
    include: Vec<Vec<Matcher>>,
    providers: Providers,
    /// Rules that cannot be used, with the reason.
    pub(crate) refused: Vec<String>,
}

#[derive(Debug, Clone)]
struct Matcher {
    /// Where it stands, and what it says.
    shown: String,
    namespace: Option<Pattern>,
    label: Option<(String, Pattern)>,
    name: Option<Pattern>,
    user: Option<Pattern>,
    path: Option<Pattern>,
}

impl Rulebook {
    /// The rules of these sources, each with its name; `user` gives the name of a user by its
    /// number.
    ///
    /// A rule that says nothing or cannot be read is left out, and listed: a mistake on the dashboard
    /// must neither stop a node nor exclude all of it.
    pub(crate) fn new(sources: &[(&str, &Rules)], user: impl Fn(u32) -> String) -> Self {
        let mut book = Self::default();
        let mut providers = Vec::new();
        for (source, rules) in sources {
            let mut matchers = |kind: &str, rules: &[Rule]| -> Vec<Matcher> {
                let made = rules.iter().enumerate().take(MAX_RULES).map(|(index, rule)| {
                    Matcher::new(format!("{source} {kind} {}", index + 1), rule, &user)
                });
                made.filter_map(|made| made.map_err(|mistake| book.refused.push(mistake)).ok())
                    .collect()
            };
            let (exclude, include) =
                (matchers("exclude", &rules.exclude), matchers("include", &rules.include));
            book.exclude.extend(exclude);
            // Rules that were meant to narrow and cannot be read must not widen: nothing passes them.
            if !rules.include.is_empty() {
                book.include.push(include);
            }
            for (index, provider) in rules.providers.iter().enumerate().take(MAX_RULES) {
                match known_provider(provider) {
                    Ok(provider) => providers.push(provider),
                    Err(mistake) => {
                        book.refused.push(format!("{source} provider {}: {mistake}", index + 1));
                    }
                }
            }
        }
        book.providers = Providers::new(providers);
        book
    }

    /// Hosts that serve models, with those that people added.
    pub(crate) fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Whether a program counts, and which rule says so.
    pub(crate) fn decide(&self, subject: &Subject) -> Decision {
        if let Some(rule) = self.exclude.iter().find(|rule| rule.matches(subject)) {
            return Decision { counts: false, rule: Some(rule.shown.clone()) };
        }
        let mut by = None;
        for rules in &self.include {
            match rules.iter().find(|rule| rule.matches(subject)) {
                Some(rule) => by = by.or_else(|| Some(rule.shown.clone())),
                None => {
                    let rule = "no include rule matches".to_owned();
                    return Decision { counts: false, rule: Some(rule) };
                }
            }
        }
        Decision { counts: true, rule: by }
    }
}

impl Matcher {
    fn new(place: String, rule: &Rule, user: impl Fn(u32) -> String) -> Result<Self, String> {
        if let Some(mistake) = check_rule(rule).into_iter().next() {
            return Err(format!("{place}: {mistake}"));
        }
        let pattern = |text: Option<&str>| text.map(Pattern::new).transpose();
        let label =
            rule.label.as_deref().map(|label| label.split_once('=').unwrap_or((label, "*")));
        let label = label
            .map(|(name, value)| Pattern::new(value).map(|value| (name.to_owned(), value)))
            .transpose()?;
        // A program is shown with the name of its user, where that has one.
        let named = rule.user.as_ref().and_then(|given| given.parse().ok()).map(user);
        Ok(Self {
            shown: format!("{place}: {}", in_words(rule)),
            namespace: pattern(rule.namespace.as_deref())?,
            label,
            name: pattern(rule.name.as_deref())?,
            user: pattern(named.as_deref().or(rule.user.as_deref()))?,
            path: pattern(rule.path.as_deref())?,
        })
    }

    fn matches(&self, subject: &Subject) -> bool {
        let holds = |pattern: &Option<Pattern>, is: &dyn Fn(&Pattern) -> bool| {
            pattern.as_ref().is_none_or(is)
        };
        let namespace = subject.attributes.get(attribute::K8S_NAMESPACE_NAME);
        holds(&self.namespace, &|it| namespace.is_some_and(|name| it.matches(name)))
            && holds(&self.name, &|it| it.matches(&subject.name) || it.matches(&subject.key))
            && holds(&self.user, &|it| subject.users.iter().any(|user| it.matches(user)))
            && holds(&self.path, &|it| subject.paths.iter().any(|path| it.matches(path)))
            && self
                .label
                .as_ref()
                .is_none_or(|(name, value)| subject.labels(name).any(|label| value.matches(label)))
    }
}

fn in_words(rule: &Rule) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(rule) else { return String::new() };
    let field = |(key, value): (&String, &Value)| Some(format!("{key}={}", value.as_str()?));
    fields.iter().filter_map(field).collect::<Vec<_>>().join(",")
}

fn known_provider(provider: &Provider) -> Result<genai::Provider, String> {
    first(check_provider(provider))?;
    Ok(genai::Provider {
        name: provider.name.clone(),
        host: Pattern::new(&provider.host.to_ascii_lowercase())?,
        port: provider.port,
        path: provider.path.clone(),
        family: provider.family.clone(),
    })
}

#[cfg(test)]
mod tests;

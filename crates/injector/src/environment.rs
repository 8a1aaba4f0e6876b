//! What a program is started with so that the agent is in it: a pure function of what it would be
//! started with otherwise.
//!
//! The agent has settings of its own, `SONDE_…`, because a program may have an OpenTelemetry SDK of
//! its own: an endpoint or a header in `OTEL_EXPORTER_OTLP_…` would redirect that SDK, and would
//! send our key to wherever it exports. Only name and attributes are told in the standard variables,
//! and only where the program says nothing itself.

use contract::attribute;
use std::collections::BTreeMap;

/// Where Python looks for modules before its own.
pub(crate) const PYTHONPATH: &str = "PYTHONPATH";
/// Name of the service.
pub(crate) const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// Attributes of everything that the program sends, as `name=value`, with commas between.
pub(crate) const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// Base of the OTLP endpoint that the agent sends to, such as `http://127.0.0.1:4318`.
pub const ENDPOINT: &str = "SONDE_AGENT_ENDPOINT";
/// Headers of what the agent sends, as `name=value`, percent-encoded, with commas between.
pub(crate) const HEADERS: &str = "SONDE_AGENT_HEADERS";
/// `1` lets the agent send prompts and answers.
pub(crate) const CAPTURE_CONTENT: &str = "SONDE_AGENT_CONTENT";
/// `1` keeps the agent out: nothing of it is loaded.
pub(crate) const DISABLED: &str = "SONDE_DISABLED";
/// Agents of others that the program's owner wants beside ours, with commas between.
pub(crate) const BESIDE: &str = "SONDE_AGENT_BESIDE";
/// Directory of a bundle that alone is put on the path of modules.
pub(crate) const BOOTSTRAP: &str = "bootstrap";

/// All variables that are ever set.
pub(crate) const NAMES: [&str; 6] =
    [PYTHONPATH, SERVICE_NAME, RESOURCE_ATTRIBUTES, ENDPOINT, HEADERS, CAPTURE_CONTENT];

/// All that the agent is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injection {
    /// The bundle, as the program sees it.
    pub bundle: String,
    /// Base of the OTLP endpoint, as the program reaches it.
    pub endpoint: String,
    /// Headers of the requests there; values are secret.
    pub headers: Vec<(String, String)>,
    /// Key of the workload; empty where it is not known.
    pub workload_key: String,
    /// Name of the service, where the program says none.
    pub service_name: Option<String>,
    /// Further attributes, where the program says none of the same name: the environment that it
    /// is deployed in, the host.
    pub attributes: Vec<(String, String)>,
    /// Prompts and answers are wanted.
    pub capture_content: bool,
}

/// One variable that is to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Name of the variable.
    pub name: &'static str,
    /// Value in effect without us; nothing where it is not set.
    pub before: Option<String>,
    /// Value to be set.
    pub after: String,
    /// The value must not be shown or logged.
    pub secret: bool,
}

/// The variables that differ from what is `effective` once the agent is to be in the program.
///
/// What is effective includes what the image, files and other objects say; from a
/// specification alone it cannot be known. Given an environment that is changed already, the
/// answer is empty: `environment(apply(e)) == []`.
pub fn environment(effective: &BTreeMap<String, String>, injection: &Injection) -> Vec<Change> {
    let told = |name: &str| effective.get(name).map(String::as_str);
    let mut wanted = vec![
        (PYTHONPATH, python_path(told(PYTHONPATH), &injection.bundle), false),
        (ENDPOINT, injection.endpoint.clone(), false),
    ];
    if !injection.headers.is_empty() {
        wanted.push((HEADERS, pairs(&injection.headers), true));
    }
    if injection.capture_content {
        wanted.push((CAPTURE_CONTENT, "1".to_owned(), false));
    }
    let attributes = told(RESOURCE_ATTRIBUTES).unwrap_or_default();
    // A name among the attributes is weaker than the variable, and is the program's own.
    let named = told(SERVICE_NAME).is_some() || has(attributes, attribute::SERVICE_NAME);
    if let (Some(name), false) = (&injection.service_name, named) {
        wanted.push((SERVICE_NAME, name.clone(), false));
    }
    wanted.push((RESOURCE_ATTRIBUTES, merged(attributes, injection), false));
    wanted
        .into_iter()
        .filter(|(name, after, _)| told(name).unwrap_or_default() != after)
        .map(|(name, after, secret)| Change {
            name,
            before: told(name).map(str::to_owned),
            after,
            secret,
        })
        .collect()
}

/// Whether a value of before is part of the one that was made of it.
pub(crate) fn is_within(name: &str, before: &str, after: &str) -> bool {
    match name {
        PYTHONPATH => {
            before.is_empty() || after.split_once(':').is_some_and(|(_, rest)| rest == before)
        }
        RESOURCE_ATTRIBUTES => {
            let is_there = |pair: &str| after.split(',').any(|it| it == pair);
            before.split(',').all(|pair| pair.trim().is_empty() || is_there(pair))
        }
        _ => false,
    }
}

/// Our directory first, then what was there, to the byte: an empty element means the working
/// directory, and stays one.
fn python_path(existing: Option<&str>, bundle: &str) -> String {
    let ours = format!("{bundle}/{BOOTSTRAP}");
    let Some(existing) = existing.filter(|path| !path.is_empty()) else { return ours };
    let rest: Vec<&str> = existing.split(':').filter(|element| *element != ours).collect();
    if rest.is_empty() {
        return ours;
    }
    format!("{ours}:{}", rest.join(":"))
}

/// The program's own attributes as they stand, then ours that it has not. The key is always ours.
fn merged(existing: &str, injection: &Injection) -> String {
    let key = format!("{}=", attribute::WORKLOAD_KEY);
    let mut all: Vec<String> = existing
        .split(',')
        .filter(|pair| !pair.trim().is_empty() && !pair.trim_start().starts_with(&key))
        .map(str::to_owned)
        .collect();
    for (name, value) in &injection.attributes {
        if !has(existing, name) {
            all.push(format!("{name}={}", encoded(value)));
        }
    }
    if !injection.workload_key.is_empty() {
        all.push(format!("{key}{}", encoded(&injection.workload_key)));
    }
    all.join(",")
}

/// The value of the variable with the headers.
pub(crate) fn headers(injection: &Injection) -> String {
    pairs(&injection.headers)
}

fn has(attributes: &str, name: &str) -> bool {
    attributes.split(',').any(|pair| pair.split('=').next().is_some_and(|it| it.trim() == name))
}

fn pairs(pairs: &[(String, String)]) -> String {
    let each: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    each.join(",")
}

/// Percent-encodes a value of a list of pairs, as the baggage of W3C is: a space is `%20`, never a
/// plus. What shells, units and pods expand (`$`, `%`, quotes) is encoded too.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@+".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injection() -> Injection {
        Injection {
            bundle: "/opt/sonde/python".to_owned(),
            endpoint: "http://127.0.0.1:4318".to_owned(),
            headers: vec![("authorization".to_owned(), "Basic dXNlcjpwYXNz==".to_owned())],
            workload_key: "systemd:shop, eu=1.service".to_owned(),
            service_name: Some("shop".to_owned()),
            attributes: vec![("deployment.environment.name".to_owned(), "prod".to_owned())],
            capture_content: false,
        }
    }

    fn effective(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn applied(effective: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = effective.clone();
        for change in environment(effective, &injection()) {
            assert_eq!(change.before.as_ref(), effective.get(change.name));
            all.insert(change.name.to_owned(), change.after);
        }
        all
    }

    #[test]
    fn a_program_that_says_nothing_gets_everything() {
        let all = applied(&BTreeMap::new());
        assert_eq!(all[PYTHONPATH], "/opt/sonde/python/bootstrap");
        assert_eq!(all[ENDPOINT], "http://127.0.0.1:4318");
        assert_eq!(all[HEADERS], "authorization=Basic%20dXNlcjpwYXNz%3D%3D");
        assert_eq!(all[SERVICE_NAME], "shop");
        assert_eq!(
            all[RESOURCE_ATTRIBUTES],
            "deployment.environment.name=prod,sonde.workload.key=systemd:shop%2C%20eu%3D1.service"
        );
        assert!(!all.contains_key(CAPTURE_CONTENT));
    }

    #[test]
    fn what_the_program_says_stays() {
        let own = effective(&[
            (PYTHONPATH, "/srv/lib::/opt/more"),
            (SERVICE_NAME, "mine"),
            (RESOURCE_ATTRIBUTES, "team=a%20b,deployment.environment.name=stage"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ]);
        let all = applied(&own);
        assert_eq!(all[PYTHONPATH], "/opt/sonde/python/bootstrap:/srv/lib::/opt/more");
        assert_eq!(all[SERVICE_NAME], "mine");
        assert!(
            all[RESOURCE_ATTRIBUTES]
                .starts_with("team=a%20b,deployment.environment.name=stage,sonde.workload.key=")
        );
        assert_eq!(all["OTEL_EXPORTER_OTLP_ENDPOINT"], "http://collector:4318");
    }

    #[test]
    fn a_name_among_the_attributes_is_not_overruled() {
        let own = effective(&[(RESOURCE_ATTRIBUTES, "service.name=mine")]);
        assert!(!applied(&own).contains_key(SERVICE_NAME));
    }

    #[test]
    fn changing_twice_is_changing_once() {
        for own in [effective(&[]), effective(&[(PYTHONPATH, "/a:"), (RESOURCE_ATTRIBUTES, "a=b")])]
        {
            assert_eq!(environment(&applied(&own), &injection()), []);
        }
    }

    #[test]
    fn what_was_there_before_is_told_from_what_was_not() {
        let own = effective(&[(PYTHONPATH, "/a::/b"), (RESOURCE_ATTRIBUTES, "team=a%20b,,x=y")]);
        let all = applied(&own);
        for (name, before) in &own {
            assert!(is_within(name, before, &all[name]), "{name}");
            assert!(!is_within(name, &format!("{before},evil"), &all[name]), "{name}");
            assert!(!is_within(name, "/evil", &all[name]), "{name}");
        }
        assert!(!is_within(ENDPOINT, "http://evil", "http://evil"));
        assert!(all.keys().all(|name| NAMES.contains(&name.as_str())), "{all:?}");
    }

    #[test]
    fn another_key_of_ours_is_replaced() {
        let own = effective(&[(RESOURCE_ATTRIBUTES, "sonde.workload.key=docker:old,a=b")]);
        let attributes = &applied(&own)[RESOURCE_ATTRIBUTES];
        assert!(attributes.starts_with("a=b,"), "{attributes}");
        assert!(!attributes.contains("docker:old"), "{attributes}");
    }

    #[test]
    fn only_headers_are_secret() {
        let secret: Vec<_> = environment(&BTreeMap::new(), &injection())
            .into_iter()
            .filter(|change| change.secret)
            .map(|change| change.name)
            .collect();
        assert_eq!(secret, [HEADERS]);
    }
}

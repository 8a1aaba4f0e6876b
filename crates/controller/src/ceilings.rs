//! What this node's own configuration forbids. Nothing that is received can lift it.

use crate::config;
use anyhow::Context as _;
use contract::attribute;
use contract::capture::Level;
use contract::workload::{Key, Platform};
use genai::Pattern;
use std::collections::BTreeMap;

/// The ceilings of a node, read once.
#[derive(Debug, Clone)]
pub(crate) struct Ceilings {
    max_capture: Level,
    observe_only: bool,
    injection: bool,
    namespaces: Lists,
    units: Lists,
}

/// What is allowed, and what is not; empty allows all.
#[derive(Debug, Clone, Default)]
struct Lists {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
}

impl Default for Ceilings {
    /// Allows everything.
    fn default() -> Self {
        Self {
            max_capture: Level::Full,
            observe_only: false,
            injection: true,
            namespaces: Lists::default(),
            units: Lists::default(),
        }
    }
}

impl Ceilings {
    /// Reads what was configured.
    ///
    /// # Errors
    ///
    /// When a pattern is none; the message names the key. A ceiling that cannot be read must not be
    /// taken for none.
    pub(crate) fn new(from: &config::Ceilings) -> anyhow::Result<Self> {
        let patterns = |key: &str, texts: &[String]| -> anyhow::Result<Vec<Pattern>> {
            let one = |text: &String| {
                Pattern::new(text)
                    .map_err(anyhow::Error::msg)
                    .with_context(|| format!("cannot use `{text}` of `{key}` as a pattern"))
            };
            texts.iter().map(one).collect()
        };
        Ok(Self {
            max_capture: from.max_capture,
            observe_only: from.observe_only,
            injection: from.injection,
            namespaces: Lists {
                allow: patterns("allow_namespace", &from.allow_namespace)?,
                deny: patterns("deny_namespace", &from.deny_namespace)?,
            },
            units: Lists {
                allow: patterns("allow_unit", &from.allow_unit)?,
                deny: patterns("deny_unit", &from.deny_unit)?,
            },
        })
    }

    /// Whether anything may be changed on this node at all; the reason when not.
    pub(crate) fn forbids_changes(&self) -> Option<&'static str> {
        self.observe_only
            .then_some("This node only observes: its own configuration says observe_only.")
    }

    /// Whether an SDK may be put into programs of this node; the reason when not.
    pub(crate) fn forbids_injection(&self) -> Option<&'static str> {
        let off = "This node's own configuration says injection = off.";
        let low = "This node's own configuration says max_capture = network.";
        self.forbids_changes()
            .or_else(|| (!self.injection).then_some(off))
            .or_else(|| (self.max_capture < Level::Full).then_some(low))
    }

    /// Whether network capture of a workload is forbidden, and by which key.
    pub(crate) fn forbids_capture(
        &self,
        key: &Key,
        platform: Platform,
        attributes: &BTreeMap<String, String>,
    ) -> Option<String> {
        let forbids = |rule: &str| {
            Some(format!(
                "This node's own configuration forbids it: {rule}. Change that on the node."
            ))
        };
        if self.observe_only {
            return forbids("observe_only is set");
        }
        if self.max_capture < Level::Network {
            return forbids("max_capture is off");
        }
        let namespace = attributes.get(attribute::K8S_NAMESPACE_NAME);
        if let Some(name) = namespace
            && let Some(list) = self.namespaces.forbid(&[name])
        {
            return forbids(&format!("{list}_namespace does not let `{name}` pass"));
        }
        if platform == Platform::Systemd
            && let Some(unit) = key.0.rsplit_once("systemd:").map(|(_, unit)| unit)
            // A unit of a user is `user-1000/NAME`; both ways of writing it match.
            && let Some(list) = self.units.forbid(&[unit, unit.rsplit('/').next().unwrap_or(unit)])
        {
            return forbids(&format!("{list}_unit does not let `{unit}` pass"));
        }
        None
    }
}

impl Lists {
    /// The list that forbids something with these names, if one does.
    fn forbid(&self, names: &[&str]) -> Option<&'static str> {
        let matches = |patterns: &[Pattern]| {
            patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches(name)))
        };
        if matches(&self.deny) {
            return Some("deny");
        }
        (!self.allow.is_empty() && !matches(&self.allow)).then_some("allow")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceilings(change: impl FnOnce(&mut config::Ceilings)) -> Ceilings {
        let mut config = config::Ceilings::default();
        change(&mut config);
        Ceilings::new(&config).unwrap()
    }

    fn pod(ceilings: &Ceilings, namespace: &str) -> Option<String> {
        let attributes =
            BTreeMap::from([(attribute::K8S_NAMESPACE_NAME.to_owned(), namespace.to_owned())]);
        ceilings.forbids_capture(&Key("c/kubernetes:x".into()), Platform::Kubernetes, &attributes)
    }

    fn unit(ceilings: &Ceilings, unit: &str) -> Option<String> {
        let key = Key(format!("host-1/systemd:{unit}"));
        ceilings.forbids_capture(&key, Platform::Systemd, &BTreeMap::new())
    }

    #[test]
    fn without_ceilings_everything_is_allowed() {
        let none = ceilings(|_| {});
        assert_eq!((pod(&none, "a"), unit(&none, "a.service")), (None, None));
        assert_eq!((none.forbids_changes(), none.forbids_injection()), (None, None));
    }

    #[test]
    fn each_ceiling_forbids_and_names_its_key() {
        let off = ceilings(|it| it.max_capture = Level::Off);
        assert!(pod(&off, "a").unwrap().contains("max_capture"));
        let observing = ceilings(|it| it.observe_only = true);
        assert!(unit(&observing, "a").unwrap().contains("observe_only"));
        assert!(observing.forbids_injection().is_some());
        let without = ceilings(|it| it.injection = false);
        assert!(without.forbids_injection().unwrap().contains("injection"));
        assert_eq!((without.forbids_changes(), pod(&without, "a")), (None, None));
        let low = ceilings(|it| it.max_capture = Level::Network);
        assert!(low.forbids_injection().unwrap().contains("max_capture"));
        assert_eq!((low.forbids_changes(), pod(&low, "a")), (None, None));

        let spaces = ceilings(|it| {
            it.allow_namespace = vec!["prod*".into()];
            it.deny_namespace = vec!["prod-secret".into()];
        });
        assert_eq!(pod(&spaces, "prod-web"), None);
        assert!(pod(&spaces, "dev").unwrap().contains("allow_namespace"));
        assert!(pod(&spaces, "prod-secret").unwrap().contains("deny_namespace"));
        assert_eq!(unit(&spaces, "a.service"), None, "it has no namespace");

        let units = ceilings(|it| it.deny_unit = vec!["bank-*.service".into()]);
        assert!(unit(&units, "bank-core.service").unwrap().contains("deny_unit"));
        assert!(unit(&units, "user-1000/bank-x.service").is_some());
        assert_eq!((unit(&units, "a.service"), pod(&units, "bank-x.service")), (None, None));
    }

    #[test]
    fn a_ceiling_that_cannot_be_read_stops_the_start() {
        let config = config::Ceilings { deny_unit: vec![String::new()], ..Default::default() };
        assert!(format!("{:#}", Ceilings::new(&config).unwrap_err()).contains("deny_unit"));
    }
}

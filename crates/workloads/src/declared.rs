//! What the owner of a program said about it, by the variables of the OpenTelemetry specification.
//!
//! Of the environment, which holds secrets, exactly two variables are read, and of the second only
//! three attributes.

use crate::process::{clean, read_bytes};
use std::path::Path;

/// The kernel allows 2 MiB for arguments and environment together.
const MAX_ENVIRONMENT: u64 = 2 << 20;

/// Longest value that is taken.
const MAX_VALUE: usize = 128;

/// Names that a person gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    /// `service.name`.
    pub(crate) name: Option<String>,
    /// `service.namespace`.
    pub(crate) namespace: Option<String>,
    /// `deployment.environment.name`, or its older name without the end.
    pub(crate) environment: Option<String>,
}

impl Declared {
    /// Reads the environment that the process was started with.
    pub(crate) fn read(directory: &Path) -> Self {
        let environment =
            read_bytes(&directory.join("environ"), MAX_ENVIRONMENT).unwrap_or_default();
        let variable = |name: &str| {
            environment
                .split(|byte| *byte == 0)
                .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let mut declared = Self::default();
        for pair in variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default().split(',') {
            if let Some((name, value)) = pair.split_once('=') {
                declared.take(name.trim(), &percent_decoded(value));
            }
        }
        if let Some(name) = variable("OTEL_SERVICE_NAME").as_deref().and_then(value) {
            declared.name = Some(name);
        }
        declared
    }

    /// Takes one resource attribute, when it is one that counts.
    pub(crate) fn take(&mut self, name: &str, text: &str) {
        let Some(value) = value(text) else { return };
        match name {
            "service.name" => self.name = Some(value),
            "service.namespace" => self.namespace = Some(value),
            "deployment.environment.name" => self.environment = Some(value),
            "deployment.environment" => drop(self.environment.get_or_insert(value)),
            _ => {}
        }
    }

    /// What is said here, else what `other` says.
    pub(crate) fn or(&self, other: &Self) -> Self {
        let first = |ours: &Option<String>, theirs: &Option<String>| {
            ours.clone().or_else(|| theirs.clone())
        };
        Self {
            name: first(&self.name, &other.name),
            namespace: first(&self.namespace, &other.namespace),
            environment: first(&self.environment, &other.environment),
        }
    }
}

fn value(text: &str) -> Option<String> {
    Some(clean(text.trim(), MAX_VALUE)).filter(|value| !value.is_empty())
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                decoded.push(code);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(environment: &str) -> Declared {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("environ"), environment).unwrap();
        Declared::read(directory.path())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_variables_of_the_specification_are_read_and_no_others() {
        let attributes = "OTEL_RESOURCE_ATTRIBUTES= service.name = my%20bot ,service.namespace=shop,\
                          deployment.environment=old,deployment.environment.name=staging,api.key=sk-1";
        let declared = read(&format!("A=1\0{attributes}\0OPENAI_API_KEY=sk-abc\0"));
        let all = Declared {
            name: some("my bot"),
            namespace: some("shop"),
            environment: some("staging"),
        };
        assert_eq!(declared, all);
        assert_eq!(
            read(&format!("{attributes}\0OTEL_SERVICE_NAME=support\0")).name,
            some("support")
        );
        assert_eq!(read(&format!("{attributes}\0OTEL_SERVICE_NAME= \0")).name, some("my bot"));
        assert_eq!(
            read("OTEL_RESOURCE_ATTRIBUTES=deployment.environment=old\0").environment,
            some("old")
        );
    }

    #[test]
    fn strange_values_are_cleaned_and_cut() {
        assert_eq!(read("OTEL_SERVICE_NAME=a\u{1b}[31m\nb\0").name, some("a[31mb"));
        let long = read(&format!("OTEL_SERVICE_NAME={}\0", "é".repeat(9_999))).name.unwrap();
        assert_eq!(long.chars().count(), MAX_VALUE);
        for text in [
            "",
            "OTEL_RESOURCE_ATTRIBUTES=",
            "OTEL_RESOURCE_ATTRIBUTES=%,=%zz,service.name=%",
            "\0\0",
        ] {
            let name = read(text).name;
            assert!(name.is_none() || name.as_deref() == Some("%"), "{text:?}");
        }
    }
}

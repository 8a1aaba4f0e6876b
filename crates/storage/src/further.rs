//! What the further attributes of a call say of where it is from. Pure.

use crate::filter::{AGENT, ENVIRONMENT, USER, text_of};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// Of attributes as JSON; all others are passed over.
#[derive(Debug, Default)]
pub(crate) struct Further {
    pub(crate) environment: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) agent: Option<String>,
}

/// Attributes of [`ENVIRONMENT`], [`USER`] and [`AGENT`], by their places in these.
#[derive(Default)]
struct Found([[Option<Value>; 3]; 3]);

impl Further {
    /// Of a JSON text; what cannot be read says nothing.
    pub(crate) fn of(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl From<Found> for Further {
    /// The first of each list that there is.
    fn from(Found([environment, user, agent]): Found) -> Self {
        let first = |values: [Option<Value>; 3]| {
            let mut values = values.iter().flatten();
            values.find_map(|value| text_of(value).map(Cow::into_owned))
        };
        Self { environment: first(environment), user: first(user), agent: first(agent) }
    }
}

impl<'de> Deserialize<'de> for Further {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Further;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Further, A::Error> {
                let mut found = Found::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let lists: [&[&str]; 3] = [&ENVIRONMENT, &USER, &AGENT];
                    let place = lists.iter().enumerate().find_map(|(list, names)| {
                        Some((list, names.iter().position(|name| *name == key)?))
                    });
                    match place {
                        Some((list, at)) => found.0[list][at] = Some(map.next_value()?),
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(found.into())
            }
        }

        from.deserialize_map(Reading)
    }
}

#[cfg(test)]
mod tests {
    use super::Further;

    #[test]
    fn the_first_that_there_is_counts() {
        let of = |text| {
            let Further { environment, user, agent } = Further::of(text);
            [environment, user, agent]
        };
        let text = r#"{"user.name":"n","service.namespace":{"a":[1]},"enduser.id":7,
            "gen_ai.agent.name":null,"gen_ai.agent.id":"a"}"#;
        assert_eq!(of(text), [None, Some("7".into()), Some("a".into())]);
        assert_eq!(of("{}"), [None, None, None]);
        assert_eq!(of("\"user.id\""), [None, None, None]);
        assert_eq!(of(r#"{"user.id":"u""#), [None, None, None], "cut");
    }
}

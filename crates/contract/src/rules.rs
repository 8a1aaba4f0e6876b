//! What people add to discovery: which programs count, and which hosts are providers.

use serde::{Deserialize, Serialize};

/// Rules of discovery, from a node's own configuration or from the dashboard.
///
/// A program is discovered when no rule of `exclude` matches it and, where there are any, one of
/// `include` does. The node's own rules and the dashboard's apply together: both must let it pass.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Rules {
    /// Programs that count; empty for all.
    pub include: Vec<Rule>,
    /// Programs that never count; stronger than `include`.
    pub exclude: Vec<Rule>,
    /// Hosts that serve models beside those that are known.
    pub providers: Vec<Provider>,
}

/// Matches programs: all that is given must hold. A rule that gives nothing is refused.
///
/// Patterns are whole words in which `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Pattern of the Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A label of the pod or container, `name=pattern`, or `name` for any value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Pattern of the shown name or of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name or number of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Pattern of the path of the executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A host that serves models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Name to show, such as `our-gateway`.
    pub name: String,
    /// Pattern of the host, in which `*` stands for any run of characters.
    pub host: String,
    /// Port; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Beginning of the path, such as `/llm/`; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Family of wire formats it speaks, such as `openai`; told by the shape when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
}

//! Who serves models: hosts, and the families they speak.
//!
//! A new provider that speaks a known family is one line in [`HOSTS`]. A new
//! family is one file, and one line in [`FAMILIES`].

mod anthropic;
mod embeddings;
mod openai;
mod responses;

use std::sync::Arc;

use crate::family::Family;
use crate::pattern::{self, Pattern};

/// Every family, in order of precedence.
pub(crate) static FAMILIES: [Family; 4] =
    [openai::FAMILY, anthropic::FAMILY, responses::FAMILY, embeddings::FAMILY];

/// Hosts and their providers, by the names of the semantic conventions where they have one.
/// A pattern that begins with a dot stands for every host that ends with it; a star for any run of
/// characters, such as a region.
const HOSTS: &[(&str, &str)] = &[
    ("api.openai.com", "openai"),
    (".api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    (".openai.azure.com", "azure.ai.openai"),
    (".openai.azure.us", "azure.ai.openai"),
    (".openai.azure.cn", "azure.ai.openai"),
    (".cognitiveservices.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.inference"),
    (".models.ai.azure.com", "azure.ai.inference"),
    ("models.inference.ai.azure.com", "azure.ai.inference"),
    ("models.github.ai", "azure.ai.inference"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "x_ai"),
    (".api.x.ai", "x_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.mistral.ai", "mistral_ai"),
    ("codestral.mistral.ai", "mistral_ai"),
    ("api.together.ai", "together_ai"),
    ("api.together.xyz", "together_ai"),
    ("api.fireworks.ai", "fireworks_ai"),
    ("openrouter.ai", "openrouter"),
    ("api.cerebras.ai", "cerebras"),
    ("api.sambanova.ai", "sambanova"),
    ("integrate.api.nvidia.com", "nvidia_nim"),
    ("ai.api.nvidia.com", "nvidia_nim"),
    ("router.huggingface.co", "hugging_face"),
    ("api-inference.huggingface.co", "hugging_face"),
    (".endpoints.huggingface.cloud", "hugging_face"),
    ("api.ai21.com", "ai21"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    ("dashscope.aliyuncs.com", "alibaba_cloud"),
    ("dashscope-intl.aliyuncs.com", "alibaba_cloud"),
    ("dashscope-us.aliyuncs.com", "alibaba_cloud"),
    ("api.z.ai", "zhipu_ai"),
    ("open.bigmodel.cn", "zhipu_ai"),
    ("api.minimax.io", "minimax"),
    ("api.deepinfra.com", "deepinfra"),
    ("api.novita.ai", "novita"),
    (".nebius.com", "nebius"),
    ("api.lambda.ai", "lambda"),
    ("inference.baseten.co", "baseten"),
    ("api.scaleway.ai", "scaleway"),
    ("ai-gateway.vercel.sh", "vercel"),
    ("gateway.ai.cloudflare.com", "cloudflare"),
    ("api.githubcopilot.com", "github_copilot"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("*-aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("bedrock-runtime.*.amazonaws.com", "aws.bedrock"),
    ("bedrock-runtime-fips.*.amazonaws.com", "aws.bedrock"),
    ("bedrock-runtime.*.amazonaws.com.cn", "aws.bedrock"),
    ("bedrock-runtime.*.api.aws", "aws.bedrock"),
    ("*.bedrock-runtime.*.vpce.amazonaws.com", "aws.bedrock"),
    ("bedrock-agent-runtime.*.amazonaws.com", "aws.bedrock"),
    (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("api.replicate.com", "replicate"),
    ("api.voyageai.com", "voyage"),
    ("api.jina.ai", "jina"),
    (".githubcopilot.com", "github_copilot"),
    ("api.siliconflow.cn", "siliconflow"),
    ("api.siliconflow.com", "siliconflow"),
    ("ark.*.volces.com", "volcengine"),
    ("api.stepfun.com", "stepfun"),
    ("api.upstage.ai", "upstage"),
    ("api.reka.ai", "reka"),
    ("api.writer.com", "writer"),
    ("api.hyperbolic.xyz", "hyperbolic"),
    ("llm.chutes.ai", "chutes"),
];

/// Who serves models: the hosts that are known, and those that people added, which win.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Providers {
    added: Arc<[Provider]>,
}

/// A host that serves models and is not in the list of those that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Name to show.
    pub name: String,
    /// Pattern of the host, in lower case.
    pub host: Pattern,
    /// Port; any when absent.
    pub port: Option<u16>,
    /// Beginning of the paths of its calls; any when absent.
    pub path: Option<String>,
    /// Family of wire formats, one of [`families`]; told by path and shape when absent.
    pub family: Option<String>,
}

/// What is known about who is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) provider: &'a str,
    /// The formats it speaks, where a person said so or its name does.
    pub(crate) family: Option<&'static Family>,
    /// Whether a person added it.
    is_added: bool,
    /// Whether a person said that all paths like this one are calls.
    pub(crate) by_path: bool,
}

impl Providers {
    /// The known hosts, and these.
    pub fn new(added: Vec<Provider>) -> Self {
        Self { added: added.into() }
    }

    /// The provider behind a host name, which may have a port; `port` is the one that was connected
    /// to, where the name has none.
    pub fn of_host(&self, authority: &str, port: Option<u16>) -> Option<&str> {
        let added = self.added(authority, port, None).map(|added| added.name.as_str());
        added.or_else(|| provider_of_host(authority))
    }

    /// The provider behind an address that is known to have this name: like [`of_host`](Self::of_host),
    /// but only where it serves HTTP, since an address has other ports for other things.
    pub fn of_address(&self, name: &str, port: u16) -> Option<&str> {
        let is_web = matches!(port, 80 | 443);
        match self.added(name, Some(port), None) {
            Some(added) => (is_web || added.port.is_some()).then_some(added.name.as_str()),
            None => provider_of_host(name).filter(|_| is_web),
        }
    }

    /// Who is asked for `path` at one of these names, the first that is known.
    pub(crate) fn asked(
        &self,
        names: &[Option<&str>],
        port: Option<u16>,
        path: Option<&str>,
    ) -> Option<Known<'_>> {
        let names = || names.iter().copied().flatten();
        if let Some(added) = names().find_map(|name| self.added(name, port, path)) {
            let family = added.family.as_deref().map(family_of);
            let by_path = added.path.is_some() && family.is_some();
            return Some(Known { provider: &added.name, family, is_added: true, by_path });
        }
        let provider = names().find_map(provider_of_host)?;
        let family = Some(family_of(provider));
        Some(Known { provider, family, is_added: false, by_path: false })
    }

    fn added(&self, authority: &str, port: Option<u16>, path: Option<&str>) -> Option<&Provider> {
        if self.added.is_empty() {
            return None;
        }
        let (host, own_port) = split_port(authority);
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let port = own_port.or(port);
        let is_port = |wanted: u16| port.is_none_or(|port| port == wanted);
        let is_path = |wanted: &str| path.is_none_or(|path| path.starts_with(wanted));
        self.added.iter().find(|added| {
            added.host.matches(&host)
                && added.port.is_none_or(is_port)
                && added.path.as_deref().is_none_or(is_path)
        })
    }
}

impl Known<'_> {
    /// Whether its calls are surely in this form.
    pub(crate) fn speaks(&self, family: &'static Family) -> bool {
        let is_own = |own: &'static Family| {
            std::ptr::eq(own, family) || (self.is_added && own.provider == family.provider)
        };
        family.provider == self.provider || self.family.is_some_and(is_own)
    }
}

/// Names of the families of wire formats that are read.
pub fn families() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = FAMILIES.iter().map(|family| family.provider).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Names of the providers of known hosts, as often as each has hosts.
pub fn names() -> impl Iterator<Item = &'static str> {
    HOSTS.iter().map(|(_, provider)| *provider)
}

/// The provider behind a host name, which may have a port: `api.openai.com` is `openai`.
///
/// This is the list that discovery goes by; a host that is not in it may still serve models.
fn provider_of_host(host: &str) -> Option<&'static str> {
    let (host, _) = split_port(host);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let matches = |pattern: &str| match pattern.strip_prefix('.') {
        Some(domain) => {
            host.strip_suffix(domain).is_some_and(|label| label.len() > 1 && label.ends_with('.'))
        }
        None if pattern.contains('*') => pattern::matches(pattern, &host),
        None => host == pattern,
    };
    HOSTS.iter().find(|(pattern, _)| matches(pattern)).map(|(_, provider)| *provider)
}

/// Host and port of an authority: `h`, `h:1`, `[::1]:1`.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    if let Some((host, port)) = authority.rsplit_once(':')
        && (!host.contains(':') || host.ends_with(']'))
        && let Ok(port) = port.parse()
    {
        return (host, Some(port));
    }
    (authority, None)
}

/// The family and operation that a path belongs to, by its end.
pub(crate) fn route(path: &str) -> Option<(&'static Family, &'static str)> {
    let path = path.trim_end_matches('/');
    let routes =
        FAMILIES.iter().flat_map(|family| family.routes.iter().map(move |route| (family, route)));
    routes
        .filter(|(_, (end, _))| path.ends_with(end))
        .map(|(family, (_, operation))| (family, *operation))
        .next()
}

/// The family that a provider is known for.
pub(crate) fn family_of(provider: &str) -> &'static Family {
    let mut families = FAMILIES.iter();
    let own = families.find(|family| family.provider == provider);
    own.unwrap_or(const { &openai::FAMILY })
}

#[cfg(test)]
mod tests {
    use super::{Provider, Providers, families, provider_of_host, route, split_port};
    use crate::pattern::Pattern;

    fn added(host: &str, port: Option<u16>, path: Option<&str>) -> Providers {
        Providers::new(vec![Provider {
            name: "ours".to_owned(),
            host: Pattern::new(host).unwrap(),
            port,
            path: path.map(str::to_owned),
            family: Some("openai".to_owned()),
        }])
    }

    #[test]
    fn hosts_that_people_added_win_and_their_port_and_path_count() {
        let ours = added("*.corp.example", Some(8443), Some("/llm/"));
        assert_eq!(ours.of_host("gw.corp.example:8443", None), Some("ours"));
        assert_eq!(ours.of_host("GW.corp.example.", Some(8443)), Some("ours"));
        assert_eq!(ours.of_host("gw.corp.example", Some(443)), None);
        assert_eq!(ours.of_host("gw.other.example", Some(8443)), None);
        assert_eq!(ours.of_host("api.openai.com", Some(443)), Some("openai"));
        assert_eq!(ours.of_address("gw.corp.example", 8443), Some("ours"));
        assert_eq!(ours.of_address("api.openai.com", 443), Some("openai"));
        assert_eq!(ours.of_address("api.openai.com", 5432), None);
        let asked = |path| {
            let names = [None, Some("gw.corp.example")];
            ours.asked(&names, Some(8443), Some(path)).map(|known| known.by_path)
        };
        assert_eq!((asked("/llm/generate"), asked("/wiki")), (Some(true), None));
        let all = added("api.openai.com", None, None);
        assert_eq!(all.of_host("api.openai.com", Some(443)), Some("ours"));
    }

    #[test]
    fn families_have_names_and_each_once() {
        assert!(families().contains(&"openai") && families().contains(&"anthropic"));
        assert!(families().windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn hosts_are_recognised_however_they_are_written() {
        for (host, provider) in [
            ("api.openai.com", Some("openai")),
            ("API.OpenAI.com.:443", Some("openai")),
            ("eu.api.openai.com", Some("openai")),
            ("api.anthropic.com", Some("anthropic")),
            ("team.openai.azure.com", Some("azure.ai.openai")),
            (".openai.azure.com", None),
            ("openai.azure.com", None),
            ("bedrock-runtime.eu-west-3.amazonaws.com", Some("aws.bedrock")),
            ("vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", Some("aws.bedrock")),
            ("europe-west4-aiplatform.googleapis.com", Some("gcp.vertex_ai")),
            ("storage.googleapis.com", None),
            ("s3.eu-west-3.amazonaws.com", None),
            ("api.openai.com.evil.example", None),
            ("notapi.openai.com", None),
            ("xapi.openai.com", None),
            ("localhost:8000", None),
            ("", None),
        ] {
            assert_eq!(provider_of_host(host), provider, "{host}");
        }
    }

    #[test]
    fn ports_are_split_off() {
        for (authority, expected) in [
            ("h", ("h", None)),
            ("h:80", ("h", Some(80))),
            ("[::1]:8000", ("[::1]", Some(8000))),
            ("::1", ("::1", None)),
            ("h:x", ("h:x", None)),
            ("h:99999", ("h:99999", None)),
        ] {
            assert_eq!(split_port(authority), expected);
        }
    }

    #[test]
    fn only_paths_of_inference_are_routes() {
        for (path, operation) in [
            ("/v1/chat/completions", Some("chat")),
            ("/proxy/llm/v1/chat/completions/", Some("chat")),
            ("/v1/completions", Some("text_completion")),
            ("/v1/messages", Some("chat")),
            ("/v1/messages/count_tokens", None),
            ("/v1/messages/batches", None),
            ("/v1/models", None),
            ("/v1/responses", Some("chat")),
            ("/v1/responses/resp_1/cancel", None),
            ("/v1/embeddings", Some("embeddings")),
            ("/v1/files", None),
            ("/api/chat.postMessage", None),
            ("/_search", None),
        ] {
            assert_eq!(route(path).map(|(_, operation)| operation), operation, "{path}");
        }
    }
}

//! Speaks to the API server, in values.

use hyper::Request;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to an API server.
pub(crate) struct Api {
    client: kube::Client,
}

/// Why the server did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such object.
    Missing,
    /// It has changed meanwhile, or is there already.
    Conflict,
    /// The role of the service account does not grant it.
    Forbidden(String),
    /// Anything else, as a sentence without an end.
    Other(String),
}

/// How a change is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patch {
    /// The fields that are ours, for the server to lay over those of others.
    Apply,
    /// Operations (RFC 6902).
    Operations,
}

impl Api {
    /// By a file as `kubectl` has it, else as the service account of the pod that we are in.
    pub(crate) async fn open(kubeconfig: Option<&Path>) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
        let mut config = match kubeconfig {
            Some(path) => {
                let file = kube::config::Kubeconfig::read_from(path).map_err(|it| failed(&it))?;
                let options = kube::config::KubeConfigOptions::default();
                kube::Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(|it| failed(&it))?
            }
            None => kube::Config::incluster().map_err(|it| failed(&it))?,
        };
        if kubeconfig.is_none() {
            // The way to a cluster's own API server leads through no proxy.
            config.proxy_url = None;
        }
        let client = kube::Client::try_from(config).map_err(|it| failed(&it))?;
        Ok(Self { client })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.value("GET", path, "", Vec::new()).await
    }

    /// The items of a list.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut list = self.get(path).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    pub(crate) async fn text(&self, path: &str) -> Result<String, Failure> {
        let request = request("GET", path, "", Vec::new())?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request_text(request)).await;
        answer.map_err(|_elapsed| slow())?.map_err(failure)
    }

    /// Changes an object, in our name; with `is_dry` the server only says what would come of it.
    pub(crate) async fn patch(
        &self,
        path: &str,
        (patch, body, is_dry): (Patch, &Value, bool),
    ) -> Result<Value, Failure> {
        let (kind, force) = match patch {
            Patch::Apply => ("application/apply-patch+yaml", "&force=true"),
            Patch::Operations => ("application/json-patch+json", ""),
        };
        let dry = if is_dry { "&dryRun=All" } else { "" };
        let path = format!("{path}?fieldManager={}{force}{dry}", super::MANAGER);
        self.value("PATCH", &path, kind, body.to_string().into_bytes()).await
    }

    /// Makes an object, in our name.
    pub(crate) async fn create(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let path = format!("{path}?fieldManager={}", super::MANAGER);
        self.value("POST", &path, "application/json", body.to_string().into_bytes()).await
    }

    /// The namespace that we are in.
    pub(crate) fn namespace(&self) -> &str {
        self.client.default_namespace()
    }

    pub(crate) async fn delete(&self, path: &str, version: &str) -> Result<(), Failure> {
        let body = json!({"preconditions": {"resourceVersion": version}}).to_string();
        self.value("DELETE", path, "application/json", body.into_bytes()).await.map(drop)
    }

    async fn value(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<Value, Failure> {
        let request = request(method, path, kind, body)?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await;
        answer.map_err(|_elapsed| slow())?.map_err(failure)
    }
}

fn slow() -> Failure {
    Failure::Other("the API server does not answer".to_owned())
}

fn request(
    method: &str,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>, Failure> {
    let mut request = Request::builder().method(method).uri(path);
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    request.body(body).map_err(|error| Failure::Other(error.to_string()))
}

fn failure(error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => match status.code {
            404 => Failure::Missing,
            409 => Failure::Conflict,
            401 | 403 => Failure::Forbidden(status.message.clone()),
            _ => Failure::Other(status.message.clone()),
        },
        other => {
            let mut cause: &dyn std::error::Error = &other;
            while let Some(source) = cause.source() {
                cause = source;
            }
            Failure::Other(cause.to_string())
        }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Api")
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => out.write_str("it is gone"),
            Self::Conflict => out.write_str("somebody changed it at the same moment"),
            Self::Forbidden(why) => {
                write!(out, "{why}; deploy/kubernetes/injection.yaml grants it")
            }
            Self::Other(why) => out.write_str(why),
        }
    }
}

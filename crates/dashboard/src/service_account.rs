//! Controllers of a cluster that join with the token of their service account, instead of a secret
//! that a person makes.
//!
//! The token is one that the kubelet puts into the pod for this audience alone (a projected volume),
//! and only the API server of the cluster can say whose it is: it is asked with a `TokenReview`
//! (`authentication.k8s.io/v1`). The answer is for the moment of joining; from then on the node has a
//! credential of its own.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, ObjectMeta, PostParams};
use std::time::Duration;
use storage::{NewToken, Store, TokenKind};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The audience that a token has to be for; a token for the API server itself is not taken, so that
/// nobody who sees it here could use it there.
pub(crate) const AUDIENCE: &str = "sonde";

/// Questions to the API server at a time; whoever can reach the dashboard can make it ask.
const MAX_ASKING: usize = 2;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What stands before the name of a service account (`serviceaccount.MakeUsername`).
const PREFIX: &str = "system:serviceaccount:";

/// The service accounts whose pods may join.
#[derive(Debug)]
pub(crate) struct ServiceAccounts {
    /// Each as `namespace/name`.
    allowed: Vec<String>,
    asking: Semaphore,
}

/// Why a token does not let a node join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unjoined {
    /// The API server does not know it, or it is for something else.
    Unknown(String),
    /// It is a service account's that may not.
    Forbidden(String),
    /// Nobody can say.
    Unanswered(String),
}

impl ServiceAccounts {
    /// `None` where no service account may join.
    pub(crate) fn of(allowed: Vec<String>) -> Option<Self> {
        (!allowed.is_empty()).then(|| Self { allowed, asking: Semaphore::new(MAX_ASKING) })
    }

    /// Whether a secret may be such a token: three parts of base64url (RFC 7519 section 3).
    pub(crate) fn is_token(secret: &str) -> bool {
        let is_part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        secret.split('.').count() == 3 && secret.split('.').all(is_part)
    }

    /// The service account, as `namespace/name`, whose token it is.
    pub(crate) async fn review(&self, token: &str) -> Result<String, Unjoined> {
        let unanswered = |why: String| Unjoined::Unanswered(why);
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            status: None,
        };
        // Made anew each time: its own token is another one after an hour, and nodes join rarely.
        let asked = async {
            // Held until the answer is there; nobody closes it.
            let _turn = self.asking.acquire().await;
            let client = kube::Client::try_default().await?;
            Api::<TokenReview>::all(client).create(&PostParams::default(), &review).await
        };
        let answer = timeout(PATIENCE, asked)
            .await
            .map_err(|_late| unanswered("it did not answer in time".to_owned()))?
            // What it refuses may quote what was sent.
            .map_err(|error| match error {
                kube::Error::Api(status) => unanswered(format!("it answers {}", status.code)),
                other => unanswered(other.to_string()),
            })?;
        judge(&answer.status.unwrap_or_default(), &self.allowed)
    }
}

/// Whose token it is, from the API server's answer.
fn judge(status: &TokenReviewStatus, allowed: &[String]) -> Result<String, Unjoined> {
    if status.authenticated != Some(true) {
        let why = status.error.clone().unwrap_or_else(|| "it is unknown or expired".to_owned());
        return Err(Unjoined::Unknown(why));
    }
    // A server that does not know audiences names none, and vouches for none.
    let is_ours = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
    if !is_ours {
        return Err(Unjoined::Unknown(format!("it is not for the audience `{AUDIENCE}`")));
    }
    let user = status.user.as_ref().and_then(|user| user.username.as_deref()).unwrap_or_default();
    let account = user.strip_prefix(PREFIX).and_then(|account| account.split_once(':'));
    let Some((namespace, name)) = account else {
        return Err(Unjoined::Forbidden("it is no service account's".to_owned()));
    };
    let account = format!("{namespace}/{name}");
    match allowed.contains(&account) {
        true => Ok(account),
        false => Err(Unjoined::Forbidden(format!("the service account {account} may not join"))),
    }
}

/// The join token that stands for a service account in lists and at its nodes; nobody has its secret.
///
/// # Errors
///
/// When the store cannot be read or written.
pub(crate) fn token_of(
    store: &Store,
    account: &str,
    now: contract::row::Time,
) -> Result<u64, storage::Error> {
    let name = format!("service account {account}");
    let known = || {
        let tokens = store.tokens()?;
        let same = |token: &&storage::Token| token.kind == TokenKind::Join && token.name == name;
        Ok::<_, storage::Error>(tokens.iter().find(same).map(|token| token.id))
    };
    if let Some(id) = known()? {
        return Ok(id);
    }
    store.make_token(&NewToken::new(TokenKind::Join, &name), now)?;
    // Revoked in this moment.
    known()?.ok_or(storage::Error::Spent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;

    fn status(user: &str, audiences: &[&str]) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(audiences.iter().map(|one| (*one).to_owned()).collect()),
            user: Some(UserInfo { username: Some(user.to_owned()), ..UserInfo::default() }),
            error: None,
        }
    }

    fn judged(status: &TokenReviewStatus) -> Result<String, Unjoined> {
        judge(status, &["sonde/sonde-controller".to_owned()])
    }

    #[test]
    fn only_a_named_account_with_a_token_for_this_audience_may_join() {
        let own = "system:serviceaccount:sonde:sonde-controller";
        assert_eq!(judged(&status(own, &["sonde"])), Ok("sonde/sonde-controller".to_owned()));
        let api = judged(&status(own, &["https://kubernetes.default.svc"]));
        assert!(matches!(api, Err(Unjoined::Unknown(_))), "{api:?}");
        assert!(matches!(judged(&status(own, &[])), Err(Unjoined::Unknown(_))));
        let other = judged(&status("system:serviceaccount:shop:sonde-controller", &["sonde"]));
        assert!(matches!(other, Err(Unjoined::Forbidden(_))), "{other:?}");
        let person = judged(&status("sonde/sonde-controller", &["sonde"]));
        assert!(matches!(person, Err(Unjoined::Forbidden(_))), "{person:?}");
        let expired = TokenReviewStatus { authenticated: Some(false), ..status(own, &["sonde"]) };
        assert!(matches!(judged(&expired), Err(Unjoined::Unknown(_))));
        let silent = judged(&TokenReviewStatus::default());
        assert!(matches!(silent, Err(Unjoined::Unknown(_))), "{silent:?}");
    }

    #[test]
    fn our_own_tokens_are_never_sent_to_the_api_server() {
        assert!(ServiceAccounts::is_token("eyJh.eyJi-_.c2ln"));
        for other in ["sonde_join_0123", "a.b", "a..c", "a.b.c.d", "a.b.c\u{e9}", ""] {
            assert!(!ServiceAccounts::is_token(other), "{other}");
        }
    }

    #[test]
    fn an_account_has_one_token_in_the_lists() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let now = contract::row::Time(5);
        let first = token_of(&store, "sonde/sonde-controller", now).unwrap();
        assert_eq!(token_of(&store, "sonde/sonde-controller", now).unwrap(), first);
        assert_ne!(token_of(&store, "sonde/other", now).unwrap(), first);
    }
}

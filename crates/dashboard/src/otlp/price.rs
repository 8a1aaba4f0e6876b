//! The price of a call that only an SDK saw and said no price of.
//!
//! By the table of `genai`, as the controller does it for what the kernel saw, and only where the
//! counts of the sender are of one meaning: otherwise the call has no price.

use contract::row::{Call, Money};
use genai::{PRICE_TABLE, Usage, cost};

/// Attributes with the tier of service that answered. The table has the prices of the standard one.
const TIERS: [&str; 3] =
    ["openai.response.service_tier", "gen_ai.response.service_tier", "openai.request.service_tier"];
const STANDARD: [&str; 3] = ["default", "standard", "auto"];

/// Prices a call, if it has none. Calls of controllers are left as they are: those know more.
pub(super) fn give(call: &mut Call) {
    if call.cost.is_some() || call.recognised_by.is_some() || !is_standard(call) {
        return;
    }
    let model = call.response_model.as_deref().or(call.request_model.as_deref());
    let Some((provider, model)) = call.provider_name.as_deref().zip(model) else { return };
    let cached = [call.cache_read_tokens, call.cache_write_tokens];
    // Senders do not agree whether the input of this provider has what was cached in it, nor do
    // they say for how long it was cached.
    if provider == "anthropic" && cached.into_iter().flatten().any(|tokens| tokens > 0) {
        return;
    }
    let usage = Usage {
        input: call.input_tokens,
        output: call.output_tokens,
        cache_read: call.cache_read_tokens,
        cache_write: call.cache_write_tokens,
        ..Usage::default()
    };
    if let Some(cost) = cost(provider, model, &usage) {
        call.cost = Some(Money { pico_usd: cost.pico_usd.into() });
        call.price_table = Some(PRICE_TABLE.to_owned());
    }
}

fn is_standard(call: &Call) -> bool {
    let mut tiers = TIERS.iter().filter_map(|tier| call.more.get(*tier)?.as_str());
    tiers.all(|tier| STANDARD.contains(&tier))
}

#[cfg(test)]
mod tests {
    use super::give;
    use contract::row::Call;
    use genai::PRICE_TABLE;

    fn call() -> Call {
        Call {
            provider_name: Some("openai".into()),
            request_model: Some("gpt-4o".into()),
            response_model: Some("gpt-4o-2024-08-06".into()),
            input_tokens: Some(1000),
            output_tokens: Some(100),
            ..Call::default()
        }
    }

    fn priced(mut call: Call) -> Option<String> {
        give(&mut call);
        assert_eq!(call.price_table.as_deref(), call.cost.is_some().then_some(PRICE_TABLE));
        call.cost.map(|cost| cost.to_string())
    }

    #[test]
    fn what_an_sdk_saw_is_priced_by_its_tokens() {
        assert_eq!(priced(call()).as_deref(), Some("0.0035"));
        let cached = Call { cache_read_tokens: Some(900), ..call() };
        assert_eq!(priced(cached).as_deref(), Some("0.002375"));
        let claude = Call {
            provider_name: Some("anthropic".into()),
            response_model: Some("claude-sonnet-4-5-20250929".into()),
            ..call()
        };
        assert_eq!(priced(claude.clone()).as_deref(), Some("0.0045"));
        let standard = Call {
            more: [("openai.response.service_tier".into(), "default".into())].into(),
            ..call()
        };
        assert_eq!(priced(standard).as_deref(), Some("0.0035"));
        // Whether 900 of the thousand were read from a cache, or 900 more, nobody says.
        assert_eq!(priced(Call { cache_read_tokens: Some(900), ..claude }), None);
    }

    #[test]
    fn what_is_not_certain_has_no_price() {
        let flex = Call {
            more: [("openai.response.service_tier".into(), "flex".into())].into(),
            ..call()
        };
        for unpriced in [
            flex,
            Call { output_tokens: None, ..call() },
            Call { provider_name: None, ..call() },
            Call { response_model: Some("llama3".into()), ..call() },
            Call { recognised_by: Some("host".into()), ..call() },
        ] {
            assert_eq!(priced(unpriced), None);
        }
    }

    #[test]
    fn a_price_of_the_sender_stays() {
        let mut own = Call { cost: "1.5".parse().ok(), ..call() };
        give(&mut own);
        assert_eq!((own.cost, own.price_table), ("1.5".parse().ok(), None));
    }
}

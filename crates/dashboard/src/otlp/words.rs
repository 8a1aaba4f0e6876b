//! One word for one thing: operations, kinds of steps, providers and finish reasons, in the words
//! of the `GenAI` conventions, whatever a sender calls them.

/// What a span is, as far as counting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A model call, of this operation.
    Call(&'static str),
    /// A step around calls, or beside them, of this kind: an agent, a tool, a chain. What it says
    /// of tokens is the sum of calls below it, and is never counted.
    Around(&'static str),
}

/// What a span is by the operation that it names; `None` for operations that are new to us.
pub(super) fn operation(word: &str) -> Option<Step> {
    let word = word.to_ascii_lowercase();
    Some(match word.as_str() {
        "chat" | "chat_completion" | "chat_completions" | "message" | "messages" | "llm"
        | "generation" | "responses" => Step::Call("chat"),
        "text_completion" | "completion" => Step::Call("text_completion"),
        "generate_content" => Step::Call("generate_content"),
        "embeddings" | "embedding" | "embed" => Step::Call("embeddings"),
        word => return around(word).map(Step::Around),
    })
}

/// What kind of step around calls it is; `None` for a word that says nothing of the kind.
fn around(word: &str) -> Option<&'static str> {
    Some(match word {
        "agent" | "create_agent" | "invoke_agent" | "handoff" => "agent",
        "tool" | "execute_tool" => "tool",
        "chain" | "framework" | "parser" | "prompt" => "chain",
        "workflow" | "invoke_workflow" | "execute_workflow" | "session" => "workflow",
        "task" | "execute_task" | "plan" => "task",
        "reranker" => "reranker",
        "retrieval" | "retrieve" | "retriever" | "vectordb" => "retrieval",
        "guardrail" => "guardrail",
        "evaluation" | "evaluator" => "evaluation",
        // What it fetches was counted when it was made.
        "fetch_response" => "step",
        word if word.starts_with("mcp") => "tool",
        word if word == "memory" || word.ends_with("_memory") => "memory",
        word if word.ends_with("_memory_store") => "memory",
        word if word.starts_with("execute_") || word.starts_with("invoke_") => "step",
        _ => return None,
    })
}

/// What a span is by the kind that its sender gives it; `None` for kinds that say nothing.
pub(super) fn step(word: &str) -> Option<Step> {
    let word = word.to_ascii_lowercase();
    Some(match word.as_str() {
        "llm" | "chat" | "generation" | "chat_model" => Step::Call("chat"),
        "completion" | "text_completion" => Step::Call("text_completion"),
        "embedding" | "embeddings" => Step::Call("embeddings"),
        "" | "unknown" | "client" | "server" | "internal" => return None,
        word => Step::Around(around(word).unwrap_or("step")),
    })
}

/// What a span of the Vercel AI SDK is, and whether it is a stream: `ai.streamText` is the step
/// around, its `.doStream` the call.
pub(super) fn vercel(operation: &str) -> (Step, bool) {
    match operation.rsplit('.').next() {
        Some("doGenerate") => (Step::Call("chat"), false),
        Some("doStream") => (Step::Call("chat"), true),
        Some("doEmbed") => (Step::Call("embeddings"), false),
        Some("toolCall") => (Step::Around("tool"), false),
        _ => (Step::Around("step"), false),
    }
}

/// Names of providers that are not the conventions' own.
const PROVIDERS: &[(&str, &str)] = &[
    ("amazon-bedrock", "aws.bedrock"),
    ("amazon_bedrock", "aws.bedrock"),
    ("aws_bedrock", "aws.bedrock"),
    ("aws", "aws.bedrock"),
    ("az.ai.inference", "azure.ai.inference"),
    ("az.ai.openai", "azure.ai.openai"),
    ("azure", "azure.ai.openai"),
    ("azure-openai", "azure.ai.openai"),
    ("azure_openai", "azure.ai.openai"),
    ("bedrock", "aws.bedrock"),
    ("fireworks", "fireworks_ai"),
    ("gemini", "gcp.gemini"),
    ("google.vertex", "gcp.vertex_ai"),
    ("google", "gcp.gemini"),
    ("google_genai", "gcp.gemini"),
    ("huggingface", "hugging_face"),
    ("mistral", "mistral_ai"),
    ("mistralai", "mistral_ai"),
    ("moonshot", "moonshot_ai"),
    ("togetherai", "together_ai"),
    ("vertex_ai", "gcp.vertex_ai"),
    ("vertexai", "gcp.vertex_ai"),
    ("xai", "x_ai"),
];

/// The conventions' word for a provider. Some senders write more than the provider, with a point
/// between: `openai.chat`, `anthropic.messages`.
pub(super) fn provider(word: &str) -> String {
    let lower = word.trim().to_ascii_lowercase().replace(' ', "_");
    let is = |name: &str| {
        lower.strip_prefix(name).is_some_and(|rest| matches!(rest.as_bytes(), [] | [b'.', ..]))
    };
    let theirs = || PROVIDERS.iter().find(|(theirs, _)| is(theirs)).map(|(_, ours)| *ours);
    let known = genai::provider_names().find(|ours| is(ours)).or_else(theirs);
    known.map_or_else(|| lower.clone(), str::to_owned)
}

/// The conventions' word for the reason why an answer ended; words of one provider alone stay.
pub(super) fn finish_reason(word: &str) -> String {
    let ours = match word.to_ascii_lowercase().as_str() {
        "stop" | "end_turn" | "stop_sequence" | "eos" | "eos_token" | "complete" | "finish" => {
            "stop"
        }
        "length" | "max_tokens" | "max_output_tokens" | "model_length" => "length",
        "tool_call" | "tool_calls" | "tool-calls" | "tool_use" | "function_call" => "tool_call",
        "content_filter" | "content-filter" => "content_filter",
        _ => word,
    };
    ours.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Step, finish_reason, operation, provider, step, vercel};

    #[test]
    fn providers_of_every_sender_have_one_word() {
        for (word, ours) in [
            ("OpenAI", "openai"),
            ("openai.chat", "openai"),
            ("openai.responses", "openai"),
            ("Anthropic", "anthropic"),
            ("anthropic.messages", "anthropic"),
            ("AWS", "aws.bedrock"),
            ("amazon-bedrock", "aws.bedrock"),
            ("aws.bedrock", "aws.bedrock"),
            ("az.ai.openai", "azure.ai.openai"),
            ("azure-openai.chat", "azure.ai.openai"),
            ("azure", "azure.ai.openai"),
            ("azure.ai.inference", "azure.ai.inference"),
            ("azure.ai.inference.chat", "azure.ai.inference"),
            ("deepseek.chat", "deepseek"),
            ("google.generative-ai", "gcp.gemini"),
            ("google.vertex.chat", "gcp.vertex_ai"),
            ("gcp.gemini", "gcp.gemini"),
            ("vertexai", "gcp.vertex_ai"),
            ("xai.chat", "x_ai"),
            ("mistralai", "mistral_ai"),
            ("mistral_ai", "mistral_ai"),
            ("ibm.watsonx.ai", "ibm.watsonx.ai"),
            ("openai_compatible", "openai_compatible"),
            ("somebody.new", "somebody.new"),
        ] {
            assert_eq!(provider(word), ours, "{word}");
        }
    }

    #[test]
    fn what_is_around_calls_is_no_call() {
        for (word, kind) in [
            ("invoke_agent", "agent"),
            ("execute_tool", "tool"),
            ("invoke_workflow", "workflow"),
            ("plan", "task"),
            ("search_memory", "memory"),
            ("fetch_response", "step"),
            ("vectordb", "retrieval"),
            ("Agent", "agent"),
            ("retrieval", "retrieval"),
            ("create_memory_store", "memory"),
            ("execute_something", "step"),
        ] {
            assert_eq!(operation(word), Some(Step::Around(kind)), "{word}");
        }
        assert_eq!(operation("rerank"), None);
        assert_eq!(operation("Chat"), Some(Step::Call("chat")));
        assert_eq!(step("LLM"), Some(Step::Call("chat")));
        assert_eq!(step("CHAIN"), Some(Step::Around("chain")));
        assert_eq!(step("span"), Some(Step::Around("step")));
        assert_eq!(step("unknown"), None);
        assert_eq!(vercel("ai.streamText"), (Step::Around("step"), false));
        assert_eq!(vercel("ai.streamText.doStream"), (Step::Call("chat"), true));
        assert_eq!(vercel("ai.toolCall"), (Step::Around("tool"), false));
    }

    #[test]
    fn reasons_have_one_word() {
        assert_eq!(finish_reason("end_turn"), "stop");
        assert_eq!(finish_reason("tool-calls"), "tool_call");
        assert_eq!(finish_reason("SAFETY"), "SAFETY");
    }
}

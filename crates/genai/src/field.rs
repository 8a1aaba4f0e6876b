//! What the values that are read out of requests and answers mean.
//!
//! One vocabulary for all families; each family says where its values stand.

/// A value of a request or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    // What was asked.
    /// Model, in both directions.
    Model,
    Stream,
    MaxTokens,
    Temperature,
    TopP,
    ChoiceCount,
    /// The list of messages.
    Messages,
    /// The prompt or input of an operation without messages.
    Prompt,

    // What was answered.
    Id,
    /// The kind of object or event.
    Kind,
    /// How far the answer got, where it says so.
    Status,
    /// The list of choices.
    Choices,
    /// One element of it.
    Choice,
    ChoiceIndex,
    FinishReason,
    /// Anything that was generated: text, reasoning, a refusal.
    Token,
    /// One element of a list of tool calls.
    Tool,
    ToolIndex,
    ToolId,
    ToolName,
    /// A content block, and what kind it is.
    Block,
    BlockKind,
    BlockName,
    /// An error, its code, its class.
    Error,
    ErrorCode,
    ErrorType,

    // Usage, as the provider counts.
    Input,
    Output,
    CacheRead,
    CacheWrite,
    CacheWrite1h,
    Reasoning,
    Total,
    /// Tier or speed that the call was served with.
    Tier,
    /// A count of something that is charged beside tokens.
    Charged,
}

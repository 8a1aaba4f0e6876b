//! What was asked and what was answered, gathered value by value.

use crate::field::Field;
use crate::json::Value;

/// Choices of one answer that are told apart; `n` is at most 128 at OpenAI.
const MAX_CHOICES: usize = 128;

/// Tool calls of one answer whose names are kept.
const MAX_TOOLS: usize = 256;

/// What was asked.
#[derive(Debug, Default)]
pub(crate) struct Question {
    pub(crate) model: Option<String>,
    pub(crate) stream: bool,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) choice_count: Option<u64>,
    pub(crate) has_messages: bool,
    pub(crate) has_prompt: bool,
}

impl Question {
    pub(crate) fn take(&mut self, field: Field, value: Value<'_>) {
        match field {
            Field::Model => name(&mut self.model, value),
            Field::Stream => self.stream = value == Value::Scalar("true"),
            Field::MaxTokens => self.max_tokens = count(value).or(self.max_tokens),
            Field::Temperature => self.temperature = number(value),
            Field::TopP => self.top_p = number(value),
            Field::ChoiceCount => self.choice_count = count(value),
            Field::Messages => self.has_messages |= value == Value::Open,
            Field::Prompt => self.has_prompt |= !matches!(value, Value::Scalar(_)),
            _ => {}
        }
    }
}

/// What was answered, so far.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    /// Kind of the answer, as it names itself; of a stream, the kind of the current event.
    pub(crate) kind: Option<String>,
    /// How far the answer got, as it says itself.
    pub(crate) status: Option<String>,
    pub(crate) choices: Vec<Choice>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) counts: Counts,
    pub(crate) error: Failure,
    /// The answer says by its form that it comes from a model of this family.
    pub(crate) confirmed: bool,
    /// The stream said that it is over.
    pub(crate) terminated: bool,
    /// The current event carries something that was generated.
    pub(crate) token: bool,
    /// The call is charged by more than its tokens at their list price.
    pub(crate) extra_charge: bool,
    choice: Option<Choice>,
    /// Position in the current list of choices.
    position: u64,
    tool: Tool,
    block: Block,
}

/// One of the alternatives that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) index: u64,
    pub(crate) finish: Option<String>,
}

/// A call to a tool.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tool {
    choice: u64,
    index: Option<u64>,
    id: Option<String>,
    pub(crate) name: Option<String>,
}

/// A block of content.
#[derive(Debug, Default)]
struct Block {
    kind: Option<String>,
    name: Option<String>,
}

/// An error that a provider reports.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    pub(crate) seen: bool,
    pub(crate) code: Option<String>,
    pub(crate) class: Option<String>,
}

impl Failure {
    /// The class of the failure: the code where it is a word, else the type, else a code that is a number.
    pub(crate) fn code(&self) -> Option<String> {
        let word = |code: &&String| !code.bytes().all(|byte| byte.is_ascii_digit());
        let code = self.code.as_ref();
        code.filter(word).or(self.class.as_ref()).or(code).cloned()
    }
}

/// Token counts as the provider gives them, before any arithmetic.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) cache_read: Option<u64>,
    pub(crate) cache_write: Option<u64>,
    pub(crate) cache_write_1h: Option<u64>,
    pub(crate) reasoning: Option<u64>,
    pub(crate) total: Option<u64>,
}

impl Answer {
    pub(crate) fn take(&mut self, field: Field, value: Value<'_>) {
        match field {
            Field::Id => first_name(&mut self.id, value),
            Field::Model => first_name(&mut self.model, value),
            Field::Kind => name(&mut self.kind, value),
            Field::Status => name(&mut self.status, value),
            // Positions count from the beginning of each list.
            Field::Choices => self.position = 0,
            Field::Choice => self.choice(value),
            Field::ChoiceIndex => {
                if let (Some(choice), Some(index)) = (&mut self.choice, count(value)) {
                    choice.index = index;
                }
            }
            Field::FinishReason => match &mut self.choice {
                Some(choice) => name(&mut choice.finish, value),
                None => self.finish(0, value),
            },
            Field::Token => self.token |= matches!(value, Value::Open) || text(value).is_some(),
            Field::Tool => self.tool(value),
            Field::ToolIndex => self.tool.index = count(value),
            Field::ToolId => name(&mut self.tool.id, value),
            Field::ToolName => name(&mut self.tool.name, value),
            Field::Block => self.block(value),
            Field::BlockKind => name(&mut self.block.kind, value),
            Field::BlockName => name(&mut self.block.name, value),
            Field::Error => self.error.seen |= value == Value::Open || text(value).is_some(),
            Field::ErrorCode => code(&mut self.error.code, value),
            Field::ErrorType => code(&mut self.error.class, value),
            Field::Tier => {
                let standard = ["default", "standard", "auto", "not_available", "global"];
                self.extra_charge |= text(value).is_some_and(|tier| !standard.contains(&tier));
            }
            Field::Charged => self.extra_charge |= count(value).is_some_and(|count| count > 0),
            _ => self.counts.take(field, value),
        }
    }

    /// Forgets what belongs to one event only.
    pub(crate) fn next_event(&mut self) {
        self.commit();
        // Its memory serves the next event.
        if let Some(kind) = &mut self.kind {
            kind.clear();
        }
        self.token = false;
        self.block = Block::default();
    }

    /// Takes what a document that ended early left half-said.
    pub(crate) fn commit(&mut self) {
        if let Some(choice) = self.choice.take() {
            self.merge(choice);
        }
    }

    fn block(&mut self, value: Value<'_>) {
        let block = std::mem::take(&mut self.block);
        let is_tool = block.kind.is_some_and(|kind| {
            kind.ends_with("tool_use") || kind == "function_call" || kind == "custom_tool_call"
        });
        if value == Value::Close && is_tool {
            self.token = true;
            if self.tools.len() < MAX_TOOLS {
                self.tools.push(Tool { name: block.name, ..Tool::default() });
            }
        }
    }

    /// There is one choice, whose finish reason is still to come.
    pub(crate) fn begin_choice(&mut self) {
        self.merge(Choice::default());
    }

    /// The one choice finished for this reason.
    pub(crate) fn finish_first(&mut self, reason: &str) {
        self.merge(Choice { index: 0, finish: Some(reason.to_owned()) });
    }

    fn finish(&mut self, index: u64, value: Value<'_>) {
        let mut finish = None;
        name(&mut finish, value);
        self.merge(Choice { index, finish });
    }

    fn choice(&mut self, value: Value<'_>) {
        match value {
            Value::Open => {
                self.commit();
                self.choice = Some(Choice { index: self.position, finish: None });
                self.position = self.position.saturating_add(1);
            }
            _ => self.commit(),
        }
    }

    fn merge(&mut self, choice: Choice) {
        let has_room = self.choices.len() < MAX_CHOICES;
        match self.choices.iter_mut().find(|known| known.index == choice.index) {
            Some(known) => known.finish = choice.finish.or(known.finish.take()),
            None if has_room => self.choices.push(choice),
            None => {}
        }
    }

    /// A tool call may come in fragments, told apart by index, or by id where there is none.
    fn tool(&mut self, value: Value<'_>) {
        if value == Value::Open {
            self.token = true;
            self.tool = Tool::default();
            return;
        }
        let mut tool = std::mem::take(&mut self.tool);
        tool.choice = self.choice.as_ref().map_or(0, |choice| choice.index);
        let same = |known: &Tool| {
            known.choice == tool.choice
                && match (tool.index, &tool.id) {
                    (Some(index), _) => known.index == Some(index),
                    (None, Some(id)) => known.id.as_ref() == Some(id),
                    (None, None) => tool.name.is_none(),
                }
        };
        let has_room = self.tools.len() < MAX_TOOLS;
        match self.tools.iter_mut().rev().find(|known| same(known)) {
            Some(known) => known.name = known.name.take().or(tool.name),
            None if has_room => self.tools.push(tool),
            None => {}
        }
    }
}

impl Counts {
    fn take(&mut self, field: Field, value: Value<'_>) {
        let slot = match field {
            Field::Input => &mut self.input,
            Field::Output => &mut self.output,
            Field::CacheRead => &mut self.cache_read,
            Field::CacheWrite => &mut self.cache_write,
            Field::CacheWrite1h => &mut self.cache_write_1h,
            Field::Reasoning => &mut self.reasoning,
            Field::Total => &mut self.total,
            _ => return,
        };
        // Counts of a stream are totals so far. Some gateways send 0 where they mean nothing.
        match (count(value), &slot) {
            (Some(0), Some(_)) | (None, _) => {}
            (count, _) => *slot = count,
        }
    }
}

/// A count, however it is written: `12`, `12.0`, `"12"`. Negative and absurd ones are none.
fn count(value: Value<'_>) -> Option<u64> {
    let written = match value {
        Value::Scalar(written) | Value::Text(written) => written,
        Value::Open | Value::Close => return None,
    };
    /// Counts beyond this cannot be exact in JSON, and no model has seen as many tokens.
    const MAX_COUNT: u64 = 1 << 53;
    let count = match written.parse::<u64>() {
        Ok(count) => count,
        Err(_) => whole(written.parse().ok()?)?,
    };
    (count <= MAX_COUNT).then_some(count)
}

fn whole(number: f64) -> Option<u64> {
    // Formatting a whole number keeps it exact; a cast would need an argument about ranges.
    (0.0..1e15).contains(&number).then(|| format!("{:.0}", number.floor()))?.parse().ok()
}

fn number(value: Value<'_>) -> Option<f64> {
    let Value::Scalar(written) = value else { return None };
    written.parse().ok().filter(|number: &f64| number.is_finite())
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Takes a name: printable, not empty. Control characters never get into a call.
fn name(slot: &mut Option<String>, value: Value<'_>) {
    let Some(text) = text(value) else { return };
    let is_clean = !text.bytes().any(|byte| byte.is_ascii_control()) && text.is_ascii();
    let cleaned: String;
    let clean = if is_clean {
        text
    } else {
        cleaned = text.chars().filter(|each| !each.is_control()).collect();
        &cleaned
    };
    let clean = clean.trim();
    if clean.is_empty() {
        return;
    }
    let slot = slot.get_or_insert_default();
    slot.clear();
    slot.push_str(clean);
}

/// Takes a name unless there is one: in a stream the first is as good as the last.
fn first_name(slot: &mut Option<String>, value: Value<'_>) {
    if slot.is_none() {
        name(slot, value);
    }
}

/// Takes an error code or class: a short identifier, so that it is a class and no sentence.
fn code(slot: &mut Option<String>, value: Value<'_>) {
    let (Value::Text(written) | Value::Scalar(written)) = value else { return };
    let fits = (1..=64).contains(&written.len())
        && written
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if fits && written != "null" {
        *slot = Some(written.to_owned());
    }
}

//! What becomes of two sightings of one call. Pure.

use super::ALSO;
use contract::row::Call;

/// The one row of two sightings: the tree of the SDK, the numbers of the kernel, and what only one
/// of them knows. It stays where the first began, under the service that was counted. Long, with a
/// line for each field.
pub(crate) fn merge(old: Call, new: Call) -> Call {
    let (started, service_name) = (old.time, old.service_name.clone());
    // Of two SDKs the first keeps its ids.
    let (exact, tree) = if new.recognised_by.is_some() { (new, old) } else { (old, new) };
    let (gone, ids) = if exact.recognised_by.is_some() {
        ((exact.trace_id.clone(), exact.span_id.clone()), tree.clone())
    } else {
        ((tree.trace_id.clone(), tree.span_id.clone()), exact.clone())
    };
    let mut more = tree.more;
    more.extend(exact.more);
    more.insert(ALSO.into(), format!("{}-{}", gone.0, gone.1).into());
    let list = |exact: Vec<String>, tree: Vec<String>| if exact.is_empty() { tree } else { exact };
    Call {
        time: started,
        id: String::new(),
        trace_id: ids.trace_id,
        span_id: ids.span_id,
        parent_span_id: ids.parent_span_id,
        service_name: service_name.or(exact.service_name).or(tree.service_name),
        workload_key: exact.workload_key.or(tree.workload_key),
        platform: exact.platform.or(tree.platform),
        host_name: exact.host_name.or(tree.host_name),
        process_pid: exact.process_pid.or(tree.process_pid),
        operation_name: exact.operation_name.or(tree.operation_name),
        provider_name: exact.provider_name.or(tree.provider_name),
        request_model: exact.request_model.or(tree.request_model),
        response_model: exact.response_model.or(tree.response_model),
        request_stream: exact.request_stream.or(tree.request_stream),
        request_max_tokens: exact.request_max_tokens.or(tree.request_max_tokens),
        request_temperature: exact.request_temperature.or(tree.request_temperature),
        request_top_p: exact.request_top_p.or(tree.request_top_p),
        request_choice_count: exact.request_choice_count.or(tree.request_choice_count),
        response_id: exact.response_id.or(tree.response_id),
        finish_reasons: list(exact.finish_reasons, tree.finish_reasons),
        time_to_first_chunk: exact.time_to_first_chunk.or(tree.time_to_first_chunk),
        time_to_first_token: exact.time_to_first_token.or(tree.time_to_first_token),
        input_tokens: exact.input_tokens.or(tree.input_tokens),
        output_tokens: exact.output_tokens.or(tree.output_tokens),
        cache_read_tokens: exact.cache_read_tokens.or(tree.cache_read_tokens),
        cache_write_tokens: exact.cache_write_tokens.or(tree.cache_write_tokens),
        reasoning_tokens: exact.reasoning_tokens.or(tree.reasoning_tokens),
        conversation_id: exact.conversation_id.or(tree.conversation_id),
        tool_calls: list(exact.tool_calls, tree.tool_calls),
        server_address: exact.server_address.or(tree.server_address),
        server_port: exact.server_port.or(tree.server_port),
        http_status: exact.http_status.or(tree.http_status),
        error_type: exact.error_type.or(tree.error_type),
        duration: exact.duration.or(tree.duration),
        cost: exact.cost.or(tree.cost),
        price_table: exact.price_table.or(tree.price_table),
        retry_after: exact.retry_after.or(tree.retry_after),
        resend_count: exact.resend_count.or(tree.resend_count),
        chunk_count: exact.chunk_count.or(tree.chunk_count),
        recognised_by: exact.recognised_by.or(tree.recognised_by),
        incomplete: exact.incomplete.or(tree.incomplete),
        request_body_size: exact.request_body_size.or(tree.request_body_size),
        response_body_size: exact.response_body_size.or(tree.response_body_size),
        recorded: exact.recorded.or(tree.recorded),
        more,
    }
}

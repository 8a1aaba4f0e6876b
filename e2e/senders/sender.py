"""Makes three calls to the stand-in through an instrumented client, and sends their spans.

`sender.py KIND PROTOCOL ENDPOINT TOKEN API`: KIND is the instrumentation, PROTOCOL grpc or http,
ENDPOINT where OTLP goes, API the stand-in. The prompt is a word that must never be found again.
"""

import sys

import openai
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

CANARY = "CANARY-of-a-prompt"
MODEL = "gpt-4o-mini"
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def exporter(protocol: str, endpoint: str, token: str):
    """The SDK's own exporter of a protocol, compressing as people have it."""
    if protocol == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        headers = (("authorization", f"Bearer {token}"),)
        return OTLPSpanExporter(endpoint, True, headers=headers, compression=Compression.Gzip)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    headers = {"authorization": f"Bearer {token}"}
    return OTLPSpanExporter(f"{endpoint}/v1/traces", headers=headers, compression=Compression.Gzip)


def instrument(kind: str, provider: TracerProvider) -> None:
    """Switches an instrumentation on."""
    if kind == "openlit":
        import openlit

        openlit.init(disable_metrics=True)
    elif kind == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=provider)
    elif kind == "openllmetry":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=provider)


def by_hand(client: openai.OpenAI, **more) -> None:
    """A call with a span that the program writes itself, as the conventions say."""
    tracer = trace.get_tracer("by hand")
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.input.messages": CANARY,
    }
    with tracer.start_as_current_span(f"chat {MODEL}", attributes=attributes) as span:
        answer = client.chat.completions.create(model=MODEL, **more)
        if more.get("stream"):
            span.set_attribute("gen_ai.request.stream", True)
            chunks = list(answer)
            answer = chunks[-1]
            reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
        else:
            reasons = [answer.choices[0].finish_reason]
        span.set_attribute("gen_ai.response.finish_reasons", [r for r in reasons if r])
        span.set_attribute("gen_ai.response.model", answer.model)
        span.set_attribute("gen_ai.usage.input_tokens", answer.usage.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", answer.usage.completion_tokens)


def main() -> None:
    kind, protocol, endpoint, token, api = sys.argv[1:]
    provider = TracerProvider(resource=Resource({"service.name": f"{kind}-{protocol}"}))
    provider.add_span_processor(BatchSpanProcessor(exporter(protocol, endpoint, token)))
    trace.set_tracer_provider(provider)
    instrument(kind, provider)
    client = openai.OpenAI(api_key="k", base_url=f"{api}/v1", max_retries=0)
    asked = {"messages": [{"role": "user", "content": CANARY}]}
    failing = {"extra_headers": {"x-stand-in": '{"status": 429}'}}
    if kind == "plain":
        # Spans around: an agent with the sums of what is below it, and a tool.
        with trace.get_tracer("by hand").start_as_current_span("invoke_agent") as agent:
            agent.set_attribute("gen_ai.operation.name", "invoke_agent")
            agent.set_attribute("gen_ai.request.model", MODEL)
            agent.set_attribute("gen_ai.usage.input_tokens", 84)
            by_hand(client, **asked)
            by_hand(client, **asked, **STREAM)
            try:
                by_hand(client, **asked, **failing)
            except openai.RateLimitError:
                pass
    else:
        client.chat.completions.create(model=MODEL, **asked)
        list(client.chat.completions.create(model=MODEL, **asked, **STREAM))
        try:
            client.chat.completions.create(model=MODEL, **asked, **failing)
        except openai.RateLimitError:
            pass
    assert provider.force_flush(20_000)
    provider.shutdown()


if __name__ == "__main__":
    main()

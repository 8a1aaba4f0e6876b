"""The little of `opentelemetry-instrumentation` that the SDK uses."""

"""OpenTelemetry's API, in the bundle alone."""

"""Names of OpenTelemetry's SDK; what the agent records with is `sonde_agent.spans`."""

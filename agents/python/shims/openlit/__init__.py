"""The SDK without its start: `sonde_agent.spans` and `sonde_agent.watch` stand for `openlit.init`,
which would set up exporters, threads, prices from the network and every instrumentation at once."""

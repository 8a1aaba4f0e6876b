"""An agent of OpenAI's SDK with one tool."""

import agents


@agents.function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


agents.set_default_openai_api("chat_completions")
agents.set_tracing_disabled(False)
agents.set_tracing_export_api_key("none")
forecaster = agents.Agent(name="forecaster", model="gpt-4o-mini", tools=[weather])
print(agents.Runner.run_sync(forecaster, "CANARY-of-a-prompt: the weather in Berlin?").final_output)

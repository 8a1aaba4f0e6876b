"""A CrewAI crew of one agent with one tool."""

from crewai import Agent, Crew, Task
from crewai.tools import tool


@tool("weather")
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


forecaster = Agent(
    role="forecaster",
    goal="CANARY-of-a-goal",
    backstory="CANARY-of-a-story",
    llm="openai/gpt-4o-mini",
    tools=[weather],
)
task = Task(
    description="CANARY-of-a-prompt: the weather in Berlin",
    expected_output="one sentence",
    agent=forecaster,
)
print(len(str(Crew(agents=[forecaster], tasks=[task]).kickoff())))

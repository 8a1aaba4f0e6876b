"""A LangGraph agent with one tool."""

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


agent = create_agent(ChatOpenAI(model="gpt-4o-mini"), [weather], name="forecaster")
answer = agent.invoke({"messages": [("user", "CANARY-of-a-prompt: the weather in Berlin?")]})
print(len(answer["messages"]))

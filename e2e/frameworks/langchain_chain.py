"""A LangChain chain: a prompt, a model, a parser."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

prompt = ChatPromptTemplate.from_messages([("user", "CANARY-of-a-prompt: sum up {text}")])
chain = prompt | ChatOpenAI(model="gpt-4o-mini") | StrOutputParser()
print(len(chain.invoke({"text": "CANARY-of-a-text"})))

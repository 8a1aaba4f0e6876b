"""Waits for the import of a library that the agent knows, and instruments it then.

The finder stands first and answers nothing itself: it asks the others as Python would, and lets the
loader that they name call back once the module has run. The module, its loader and its
specification are the program's own, unchanged.
"""

import sys

# The module whose import says that a library is about to be used, and the SDK's name for it. Of
# libraries that load their parts when they are asked for, it is the part: a program that only
# imports the library pays nothing.
LIBRARIES = {
    "agents": ("openai-agents",),
    "agno": ("agno",),
    "ai21": ("ai21",),
    "anthropic.resources": ("anthropic",),
    "assemblyai": ("assemblyai",),
    "autogen": ("autogen",),
    "azure.ai.inference": ("azure-ai-inference",),
    "boto3": ("bedrock",),
    "browser_use": ("browser-use",),
    "claude_agent_sdk": ("claude-agent-sdk",),
    "cohere": ("cohere",),
    "controlflow": ("controlflow",),
    "crewai": ("crewai",),
    "dynamiq": ("dynamiq",),
    "google.genai": ("google-ai-studio",),
    "groq.resources": ("groq",),
    "haystack": ("haystack",),
    "langchain_core.callbacks.manager": ("langchain",),
    "langgraph.pregel": ("langgraph",),
    "letta_client": ("letta",),
    "litellm": ("litellm",),
    "llama_index.core": ("llama_index",),
    "mcp": ("mcp",),
    "mistralai": ("mistral",),
    "ollama": ("ollama",),
    "openai.resources": ("openai",),
    "pydantic_ai": ("pydantic_ai",),
    "reka": ("reka-api",),
    "smolagents": ("smolagents",),
    "together": ("together",),
    "vertexai": ("vertexai",),
}


class Watcher:
    """A finder that watches."""

    def __init__(self, warn):
        self.waiting, self.warn = dict(LIBRARIES), warn

    def find_spec(self, name, path=None, target=None):
        """What the others find, with our call at the end of it."""
        if name not in self.waiting:
            return None
        spec = None
        for finder in list(sys.meta_path):
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    break
        if spec is not None and self.waiting.get(name) and hasattr(spec.loader, "exec_module"):
            self.follow(spec.loader, name)
        return spec

    def follow(self, loader, name):
        """Lets a loader call back when it has run the module."""
        run = loader.exec_module

        def exec_module(module):
            try:
                del loader.exec_module
            except AttributeError:
                pass
            run(module)
            if getattr(module, "__name__", None) == name:
                self.imported(name)
            elif name in self.waiting:
                # A loader of many modules, as of a zip file, came by with another one.
                self.follow(loader, name)

        try:
            loader.exec_module = exec_module
        except (AttributeError, TypeError):
            # Built in, or frozen: a library like this is not among those that we know.
            pass

    def imported(self, name):
        """A library is there. Whatever happens here is none of the program's business."""
        names = self.waiting.pop(name, ())
        try:
            from sonde_agent import start

            for library in names:
                start.instrument(library, self.warn)
        except Exception as error:
            self.warn(f"{name} is not instrumented: {error!r}")


def start(warn):
    """Puts the finder first."""
    sys.meta_path.insert(0, Watcher(warn))

"""What the SDK leaves out of a library, or does to one that it should not."""

import contextlib
import importlib
import inspect

_SDK = "sonde_agent.vendor.openlit.instrumentation"


@contextlib.contextmanager
def around(library):
    """Surrounds the instrumentation of a library."""
    before = {"crewai": crew, "langchain": chains, "openai-agents": agents}.get(library)
    with before() if before else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def agents():
    """The SDK would take the place of the trace processors that the program has, and OpenAI's own:
    it is put beside them."""
    module = importlib.import_module("agents")
    replaced = module.set_trace_processors

    def add(processors):
        for one in processors:
            module.add_trace_processor(one)

    module.set_trace_processors = add
    try:
        yield
    finally:
        module.set_trace_processors = replaced


@contextlib.contextmanager
def chains():
    """A chain has a span, of its first link at least; the SDK shows the model calls in it alone."""
    sdk = importlib.import_module(f"{_SDK}.langchain")
    internal = sdk._is_internal_chain

    def is_internal(serialized, name):
        kind = ((serialized or {}).get("id") or [name])[-1]
        return kind != "RunnableSequence" and internal(serialized, name)

    sdk._is_internal_chain = is_internal
    yield


@contextlib.contextmanager
def crew():
    """Tools made by the decorator have a `run` of their own. And the steps of CrewAI's executor,
    which is a flow since 1.10, are none of the program's."""
    sdk = importlib.import_module(f"{_SDK}.crewai")
    made, made_async = sdk.general_wrap, sdk.async_general_wrap

    def quiet(make):
        def general_wrap(key, *more):
            wrapper = make(key, *more)
            if not key.startswith("flow_"):
                return wrapper

            def is_own(instance):
                return type(instance).__module__.startswith("crewai.")

            async def outside_async(wrapped, instance, args, kwargs):
                if is_own(instance):
                    return await wrapped(*args, **kwargs)
                return await wrapper(wrapped, instance, args, kwargs)

            def outside(wrapped, instance, args, kwargs):
                if is_own(instance):
                    return wrapped(*args, **kwargs)
                return wrapper(wrapped, instance, args, kwargs)

            return outside_async if inspect.iscoroutinefunction(wrapper) else outside

        return general_wrap

    sdk.general_wrap, sdk.async_general_wrap = quiet(made), quiet(made_async)
    operations = list(sdk.WORKFLOW_OPERATIONS)
    sdk.WORKFLOW_OPERATIONS.append(("crewai.tools.base_tool", "Tool.run", "tool_run", "sync"))
    try:
        yield
    finally:
        sdk.general_wrap, sdk.async_general_wrap = made, made_async
        sdk.WORKFLOW_OPERATIONS[:] = operations

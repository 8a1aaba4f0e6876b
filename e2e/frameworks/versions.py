"""Makes a call, and prints what the program has: modules with versions and places, its path."""

import json
import os
import sys

import google.protobuf
import openai
import pydantic
import typing_extensions
import wrapt

answer = openai.OpenAI().chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "CANARY-of-a-prompt"}]
)
packages = (google.protobuf, openai, pydantic, typing_extensions, wrapt)
# Of the standard library the agent may have read more.
told = {
    "tokens": answer.usage.total_tokens,
    "class": f"{type(answer).__module__}.{type(answer).__qualname__}",
    "versions": {
        name: getattr(module, "__version__", None)
        for name, module in sorted(sys.modules.items())
        if "site-packages" in (getattr(module, "__file__", None) or "")
    },
    "files": {package.__name__: package.__file__ for package in packages},
    "packages": sorted(
        name
        for name, module in sys.modules.items()
        if "site-packages" in (getattr(module, "__file__", None) or "")
    ),
    "path": sys.path,
    "environment": {name: os.environ[name] for name in sorted(os.environ) if "OPENAI" in name},
}
print(json.dumps(told))

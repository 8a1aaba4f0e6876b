"""Takes of the packages what the agent can reach, under private names.

A module stays when the agent, or a module that stays, imports it. Each import of a package of the
bundle is rewritten to its private name, by the place that Python's own parser gives it; nothing else
in a file is changed, but for a last line that says so, as the licences ask.
"""

import ast
import pathlib

from builder.wheels import Package

# Where the packages are found from inside.
HOME = "sonde_agent.vendor"
# Names that are looked for in the bundle.
PRIVATE = {"openlit", "opentelemetry", "requests", "typing_extensions", "wrapt"}
# Instrumentations that are left out: of databases, of hardware, and of frameworks that write spans
# of their own through the OpenTelemetry of the program, which the agent does not touch.
LEFT_OUT = {"agent_framework", "google_adk", "gpu", "psycopg", "strands", "vllm"}
# What the agent reaches by name.
ROOTS = (
    "openlit/__helpers.py",
    "openlit/_config.py",
    "openlit/_instrumentors.py",
    "wrapt/__init__.py",
)
NOTE = (
    "\n# Changed by Sonde: imports of packages of the bundle have the names that they have in it.\n"
)


def vendored(packages: list[Package], shims: dict[str, bytes]) -> dict[str, bytes]:
    """The files of the bundle that are others', by their path below the private package."""
    # A shim stands for the module, or the whole package, of its path.
    replaced = {path[: -len("__init__.py")] for path in shims if path.endswith("/__init__.py")}
    modules = {
        path: text
        for package in packages
        for path, text in package.modules.items()
        if not any(path == f"{one}__init__.py" for one in replaced)
    }
    modules.update((path, text.decode()) for path, text in shims.items())
    kept: dict[str, bytes] = {"__init__.py": b'"""Packages of others, under private names."""\n'}
    waiting = [path for path in sorted(modules) if path in ROOTS or is_wanted(path)]
    while waiting:
        path = waiting.pop()
        if path in kept:
            continue
        text, imported = renamed(modules[path], module_of(path), path.endswith("__init__.py"))
        if path not in shims and text != modules[path]:
            text += NOTE
        kept[path] = text.encode()
        waiting += [found for name in imported for found in files_of(name, modules)]
    # Namespaces become packages: nobody else adds to them here.
    for path in list(kept):
        for above in pathlib.PurePosixPath(path).parents:
            kept.setdefault((above / "__init__.py").as_posix(), b"")
    return kept


def is_wanted(path: str) -> bool:
    """Whether a module is one of the instrumentations."""
    parts = pathlib.PurePosixPath(path).parts
    return parts[:2] == ("openlit", "instrumentation") and parts[2] not in LEFT_OUT


def module_of(path: str) -> str:
    """The name of the module of a file."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def files_of(name: str, modules: dict[str, str]) -> list[str]:
    """The files that Python reads to import a module: its packages too."""
    parts = name.split(".")
    found = []
    for end in range(1, len(parts) + 1):
        stem = "/".join(parts[:end])
        found += [path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in modules]
    return found


def renamed(text: str, module: str, is_package: bool) -> tuple[str, set[str]]:
    """The text with private names, and the names of all modules that it may import."""
    lines = text.splitlines(keepends=True)
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts if is_package else parts[:-1]
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            imported |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
            if not node.level and base.split(".")[0] in PRIVATE:
                replace(lines, node.lineno, f"from {base} import", f"from {HOME}.{base} import")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                if root not in PRIVATE:
                    continue
                imported.add(alias.name)
                if alias.asname:
                    old, new = f"import {alias.name} as", f"import {HOME}.{alias.name} as"
                elif alias.name == root:
                    old, new = f"import {root}", f"from {HOME} import {root}"
                else:
                    raise SystemExit(f"cannot rename `import {alias.name}` in {module}")
                replace(lines, node.lineno, old, new)
    return "".join(lines), imported


def replace(lines: list[str], number: int, old: str, new: str) -> None:
    """Replaces once, in the line that the parser names."""
    line = lines[number - 1]
    if line.count(old) != 1:
        raise SystemExit(f"cannot find `{old}` in `{line.strip()}`")
    lines[number - 1] = line.replace(old, new)

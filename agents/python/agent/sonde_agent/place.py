"""Says which program, process and container the spans come from."""

import os
import re
import sys
import urllib.parse

_CONTAINER = re.compile(r"\b([0-9a-f]{64})\b")


def resource():
    """The attributes of everything that this process sends."""
    told = {}
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = pair.partition("=")
        if equals and key.strip():
            told[key.strip()] = urllib.parse.unquote(value.strip())
    name = os.environ.get("OTEL_SERVICE_NAME")
    if name:
        told["service.name"] = name
    told.setdefault("service.name", os.path.basename(sys.argv[0] if sys.argv else "") or "python")
    told["process.pid"] = os.getpid()
    told["process.runtime.name"] = "cpython"
    told["process.runtime.version"] = ".".join(map(str, sys.version_info[:3]))
    told["telemetry.sdk.language"] = "python"
    told["telemetry.sdk.name"] = "openlit"
    container = container_id()
    if container:
        told.setdefault("container.id", container)
    return told


def container_id():
    """The container, as the kernel names its groups or its root."""
    for path in ("/proc/self/cgroup", "/proc/self/mountinfo"):
        try:
            with open(path) as file:
                for line in file:
                    if path.endswith("mountinfo") and "/etc/hostname" not in line:
                        continue
                    found = _CONTAINER.search(line)
                    if found:
                        return found.group(1)
        except OSError:
            continue
    return None

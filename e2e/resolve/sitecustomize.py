"""Resolves chosen host names to a stand-in, inside this Python process alone.

Python imports a module of this name at its start when its directory is on PYTHONPATH. The programs
stay as they are, the machine's resolver and hosts file too. `STAND_IN_HOSTS` reads
`name=address:port,…`; without a port the one that the program asked for is kept.
"""

import os
import socket

_HOSTS = {}
for _entry in filter(None, os.environ.get("STAND_IN_HOSTS", "").split(",")):
    _name, _, _place = _entry.partition("=")
    _address, _, _port = _place.partition(":")
    _HOSTS[_name] = (_address, int(_port) if _port else None)

_getaddrinfo = socket.getaddrinfo


def _resolve(host, port, *arguments, **named):
    name = host.decode() if isinstance(host, bytes) else host
    if name in _HOSTS:
        host, other = _HOSTS[name]
        port = other or port
    return _getaddrinfo(host, port, *arguments, **named)


if _HOSTS:
    socket.getaddrinfo = _resolve

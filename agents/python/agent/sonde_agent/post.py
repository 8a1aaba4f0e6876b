"""Sends one HTTP request, over a plain socket: a program may have changed `http.client` or `urllib`
(recorders of tests, other agents), and its proxy is not for what goes to Sonde."""

import socket
import urllib.parse

TIMEOUT_SECONDS = 5.0


class Target:
    """Where spans go."""

    def __init__(self, endpoint, headers):
        self.socket = endpoint[len("unix:") :] if endpoint.startswith("unix:") else None
        base = "http://localhost" if self.socket else endpoint
        parts = urllib.parse.urlsplit(base.rstrip("/") + "/v1/traces")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"SONDE_AGENT_ENDPOINT is no address: {endpoint!r}")
        self.secure = parts.scheme == "https"
        self.host, self.port = parts.hostname, parts.port or (443 if self.secure else 80)
        lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
        for pair in headers.split(","):
            name, equals, value = pair.partition("=")
            value = urllib.parse.unquote(value.strip())
            if equals and not any(letter in "\r\n\0" for letter in name + value):
                lines.append(f"{name.strip()}: {value}")
        self.head = "\r\n".join([*lines, "Content-Type: application/json", "Connection: close"])


def post(target, body):
    """Sends a body, and gives the status that came back."""
    head = f"{target.head}\r\nContent-Length: {len(body)}\r\n\r\n".encode("latin-1", "replace")
    with connection(target) as plain:
        if not target.secure:
            return exchange(plain, head + body)
        import ssl

        context = ssl.create_default_context()
        with context.wrap_socket(plain, server_hostname=target.host) as sealed:
            return exchange(sealed, head + body)


def connection(target):
    """A connection to the target: over the network, or to a socket in the file system."""
    if target.socket is None:
        return socket.create_connection((target.host, target.port), TIMEOUT_SECONDS)
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(TIMEOUT_SECONDS)
    plain.connect(target.socket)
    return plain


def exchange(way, request):
    """Sends, and reads the first line of the answer."""
    way.sendall(request)
    line = b""
    while b"\n" not in line and len(line) < 1024:
        more = way.recv(1024)
        if not more:
            break
        line += more
    parts = line.split(None, 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0

"""ClickHouse's own engine (the library `chdb`) behind as much of ClickHouse's HTTP interface as its
official clients use, so that tests and measurements run on the real thing where no server can be
installed.

    server.py --path DIRECTORY [--listen 127.0.0.1:0] [--user NAME --password SECRET]
              [--cluster NAME]

It prints its URL on one line when it answers. The data is in the directory and outlives the
process. What it does: queries in the URL, in the body, or as form fields; `param_*`; settings in
the URL; `default_format` and `FORMAT`; INSERT with its rows in the body; blocks compressed by LZ4
both ways; basic authentication and ClickHouse's own headers; `session_id`; errors with their code.
What it does not: streamed answers, quotas, users but one.

With --cluster there is a cluster of that name, of one shard with one replica: this. Distributed
tables are ClickHouse's own. The library cannot replicate, as it listens on no port for other
replicas and has no Keeper: what is to be replicated is kept once, and ON CLUSTER is done here.
"""

import argparse
import base64
import email
import email.policy
import hmac
import itertools
import json
import pathlib
import re
import signal
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import blocks
import chdb
import lz4.frame

# Names in the URL that are not settings of the engine.
OURS = {
    "buffer_size",
    "client_protocol_version",
    "compress",
    "database",
    "decompress",
    "default_format",
    "enable_http_compression",
    "http_zlib_compression_level",
    "password",
    "query",
    "query_id",
    "role",
    "send_progress_in_http_headers",
    "session_check",
    "session_id",
    "session_timeout",
    "user",
    "wait_end_of_query",
}
# Where an error's code has an HTTP status of its own (ClickHouse, `HTTPHandler.cpp`).
STATUS = {
    **dict.fromkeys((36, 41, 43, 47, 53, 62, 70, 117, 457), 400),
    **dict.fromkeys((60, 81), 404),
    **dict.fromkeys((192, 193, 194, 516), 401),
    **dict.fromkeys((497, 164), 403),
    159: 408,
    48: 501,
}
CODE = re.compile(r"Code: (\d+)\.")
INSERT = re.compile(r"^\s*INSERT\b", re.IGNORECASE)
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
REPLICATED = re.compile(r"\bReplicated(\w*MergeTree)\('[^']*', '[^']*'\)")
TOKENS = re.compile(r"\breplicated_deduplication_window\b")
CLUSTER = """<clickhouse><tcp_port>9000</tcp_port><remote_servers><{name}><shard><replica>
<host>127.0.0.1</host><port>9000</port></replica></shard></{name}></remote_servers>
<logger><level>none</level></logger></clickhouse>"""
# Bytes of a request that are read; a batch of the tests is far below.
MOST = 1 << 30


class Failed(Exception):
    """An error as ClickHouse tells it."""

    def __init__(self, message: str, code: int | None = None):
        found = CODE.search(message)
        self.code = code or (int(found[1]) if found else 1002)
        if not found:
            message = f"Code: {self.code}. DB::Exception: {message}"
        super().__init__(f"{message.strip()} (version {chdb.engine_version} (official build))")

    @property
    def status(self) -> int:
        return STATUS.get(self.code, 500)


class Engine:
    """The one engine of the process; any number of connections to it."""

    def __init__(self, path: str, cluster: str | None = None):
        self.path = path
        self.on_cluster = None
        if cluster:
            config = pathlib.Path(path).with_suffix(".xml")
            config.parent.mkdir(parents=True, exist_ok=True)
            config.write_text(CLUSTER.format(name=cluster))
            self.path = f"{path}?config-file={config}"
            self.on_cluster = re.compile(rf"\bON CLUSTER `{re.escape(cluster)}`")
        # Keeps the engine open between requests.
        self.first = chdb.connect(self.path)
        self.sessions = {}
        self.lock = threading.Lock()
        self.first.query("SELECT 1")

    def close(self):
        """Ends the engine; what it acknowledged is on disk in any case."""
        for connection, _ in self.sessions.values():
            connection.close()
        self.first.close()

    def alone(self, sql: str) -> str:
        """A statement for a cluster as one for this, which is all of it."""
        if self.on_cluster is None:
            return sql
        sql = REPLICATED.sub(r"\1()", self.on_cluster.sub("", sql))
        return TOKENS.sub("non_replicated_deduplication_window", sql)

    def run(self, sql: str, data: bytes, ask: dict, form: dict) -> tuple[bytes, str, dict]:
        """One query; answers bytes, the name of their format, and what was read and written."""
        sql = self.alone(sql)
        connection, done = self.connection(ask.get("session_id"))
        try:
            self.set_up(connection, ask)
            found = FORMAT.search(sql)
            if INSERT.match(sql) and data:
                if not found:
                    raise Failed("no FORMAT for the data of the INSERT", 62)
                return self.insert(connection, sql[: found.start()], found[1], data)
            output = found[1] if found else ask.get("default_format", "TabSeparated")
            params = {
                name.removeprefix("param_"): value
                for name, value in (ask | form).items()
                if name.startswith("param_")
            }
            answer = connection.query(sql, output, params=params)
            summary = {"read_rows": answer.storage_rows_read(), "written_rows": 0}
            return answer.bytes() or b"", output, summary
        except Failed:
            raise
        except Exception as error:
            raise Failed(str(error)) from error
        finally:
            done()

    def connection(self, session: str | None):
        """A connection, and what to do with it after the query."""
        if session is None:
            connection = chdb.connect(self.path)
            return connection, connection.close
        with self.lock:
            if session not in self.sessions:
                self.sessions[session] = (chdb.connect(self.path), threading.Lock())
            connection, busy = self.sessions[session]
        if not busy.acquire(blocking=False):
            raise Failed(f"Session {session} is locked by a concurrent client", 373)
        return connection, busy.release

    def set_up(self, connection, ask: dict):
        """The database and the settings of a request."""
        if database := ask.get("database"):
            connection.query(f"USE {identifier(database)}")
        settings = [
            f"{identifier(name)} = {literal(value)}"
            for name, value in ask.items()
            if name not in OURS and not name.startswith("param_")
        ]
        if settings:
            connection.query(f"SET {', '.join(settings)}")

    def insert(self, connection, sql: str, input_format: str, data: bytes):
        """An INSERT whose rows are in the body; all of them or none where one block holds them."""
        with connection.send_insert(sql, input_format) as rows:
            rows.append(data)
            result = rows.finish()
        summary = {"written_rows": result.rows_written, "written_bytes": result.bytes_written}
        return b"", input_format, summary


def identifier(name: str) -> str:
    """A name in an SQL text."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(value: str) -> str:
    """A setting's value: numbers as they are, the rest as text."""
    if re.fullmatch(r"-?\d+(\.\d+)?", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def form_fields(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a multipart form: the query and its parameters."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True).decode()
        for part in message.iter_parts()
    }


def split_insert(body: bytes) -> tuple[str, bytes]:
    """A body that holds the query alone, or an INSERT and its rows behind the first line."""
    head, newline, rest = body.partition(b"\n")
    if newline and re.match(rb"^\s*INSERT\b.*\bFORMAT\s+(?!Values\b)\w+\s*$", head, re.IGNORECASE):
        return head.decode(), rest
    return body.decode(), b""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: "Server"
    # Else each answer waits for the client's delayed acknowledgement of its head.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        path, _, text = self.path.partition("?")
        if path == "/ping" or (path == "/" and not text):
            return self.answer(200, b"Ok.\n", {"Content-Type": "text/plain"})
        self.query(text, read_only=True)

    def do_POST(self):
        self.query(self.path.partition("?")[2], read_only=False)

    def query(self, text: str, read_only: bool):
        ask = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
        try:
            body = self.body()
            self.authenticate(ask)
            if read_only:
                ask.setdefault("readonly", "1")
            sql, data, form = self.parts(ask, body)
            answer, output, summary = self.server.engine.run(sql, data, ask, form)
        except blocks.NotABlock as error:
            return self.refuse(Failed(str(error), 40))
        except UnicodeDecodeError:
            return self.refuse(Failed("the query is not UTF-8", 62))
        except Failed as error:
            return self.refuse(error)
        headers = {
            "Content-Type": "application/octet-stream",
            "X-ClickHouse-Format": output,
            "X-ClickHouse-Summary": json.dumps({name: str(n) for name, n in summary.items()}),
            "X-ClickHouse-Query-Id": ask.get("query_id") or f"sonde-{next(self.server.numbers)}",
        }
        accepted = self.headers.get("Accept-Encoding", "")
        if ask.get("compress") == "1":
            answer = blocks.compress(answer)
        elif ask.get("enable_http_compression") == "1" and "lz4" in accepted:
            answer = lz4.frame.compress(answer)
            headers["Content-Encoding"] = "lz4"
        self.answer(200, answer, headers)

    def parts(self, ask: dict, body: bytes) -> tuple[str, bytes, dict]:
        """The query, the rows of an INSERT, and form fields."""
        if ask.get("decompress") == "1":
            body = blocks.decompress(body)
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            form = form_fields(kind, body)
            return form.get("query", "") + ask.get("query", ""), b"", form
        if "query" not in ask:
            return *split_insert(body), {}
        if INSERT.match(ask["query"]):
            return ask["query"], body, {}
        # As ClickHouse does: the query is the URL's part, then the body's.
        return ask["query"] + body.decode(), b"", {}

    def body(self) -> bytes:
        """All of the request's body, with a length or in chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MOST))
        parts, size = [], 0
        while length := self.chunk_size():
            part = self.rfile.read(length)
            size += length
            if len(part) < length or size > MOST:
                self.cut()
            parts.append(part)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def chunk_size(self) -> int:
        line = self.rfile.readline()
        try:
            return int(line.split(b";")[0], 16)
        except ValueError:
            self.cut()

    def cut(self):
        """A request that ended before its end, as a client that dies makes it: nothing is done."""
        self.close_connection = True
        raise Failed("the request was cut short", 33)

    def authenticate(self, ask: dict):
        """The user by header, basic authentication or URL, as ClickHouse takes them."""
        user = self.headers.get("X-ClickHouse-User") or ask.get("user")
        secret = self.headers.get("X-ClickHouse-Key") or ask.get("password")
        basic = self.headers.get("Authorization", "")
        if basic.startswith("Basic "):
            try:
                user, _, secret = base64.b64decode(basic[6:]).decode().partition(":")
            except ValueError:
                user = secret = None
        wanted = self.server.user, self.server.password
        given = user or "default", secret or ""
        pairs = zip(wanted, given, strict=True)
        if not all(hmac.compare_digest(a.encode(), b.encode()) for a, b in pairs):
            raise Failed(
                f"{given[0]}: Authentication failed: password is incorrect, or there is no user "
                "with such name. (AUTHENTICATION_FAILED)",
                516,
            )

    def refuse(self, error: Failed):
        code = {"X-ClickHouse-Exception-Code": str(error.code), "Content-Type": "text/plain"}
        self.answer(error.status, f"{error}\n".encode(), code)

    def answer(self, status: int, body: bytes, headers: dict[str, str]):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        """Says nothing: queries may hold what nobody should log."""


class Server(ThreadingHTTPServer):
    """Answers until it is ended."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listen: tuple[str, int], engine: Engine, user: str, password: str):
        self.engine = engine
        self.user, self.password = user, password
        self.numbers = itertools.count(1)
        super().__init__(listen, Handler)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host}:{port}"

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


def main():
    """Runs until SIGTERM."""
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--path", required=True)
    options.add_argument("--listen", default="127.0.0.1:0")
    options.add_argument("--user", default="default")
    options.add_argument("--password", default="")
    options.add_argument("--cluster")
    given = options.parse_args()
    host, _, port = given.listen.rpartition(":")
    engine = Engine(given.path, given.cluster)
    server = Server((host, int(port)), engine, given.user, given.password)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(server.url, flush=True)
    try:
        server.serve_forever()
    finally:
        server.engine.close()


if __name__ == "__main__":
    main()

"""A stand-in for model APIs: real TLS, HTTP/1.1 and server-sent events on loopback.

It answers the paths of OpenAI chat completions and Anthropic messages in their own shapes, with a
certificate authority of its own that is made at the start. A request says what it wants to be
answered in the header `x-stand-in` (JSON, the fields of `Wanted`); without it the answer is an
ordinary success.

The log has one JSON object a line for each answer, with times of CLOCK_MONOTONIC in nanoseconds,
the clock that the kernel's probes stamp events with. Standard library only.
"""

import argparse
import asyncio
import dataclasses
import gzip
import itertools
import json
import pathlib
import signal
import ssl
import subprocess
import sys
import time

HOSTS = ["api.openai.com", "api.anthropic.com", "localhost", "models.example.com"]
MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
ORDINALS = itertools.count(1)

TEXT = (
    "A probe that is scoped to one process costs every other process nothing, because the "
    "breakpoint is only ever written into the memory of the process that is watched."
)


@dataclasses.dataclass
class Wanted:
    """What a request asks to be answered; the defaults are an ordinary success."""

    status: int = 200
    retry_after: str | None = None
    # Tokens as the provider would bill them.
    input: int = 42
    cached: int = 0
    cache_write: int = 0
    output: int = 17
    reasoning: int = 0
    # Name of a tool that the model asks to call instead of answering in text.
    tool: str | None = None
    finish: str | None = None
    model: str | None = None
    # Stream: events with text, seconds before the first event and between events.
    words: int = 12
    delay: float = 0.0
    pause: float = 0.0
    # Stream: drop the connection, without an end, after so many events.
    cut_after: int | None = None
    # Plain: bytes of filler in the answer's text, and whether to compress.
    filler: int = 0
    compress: bool = False


@dataclasses.dataclass
class Request:
    """One request, and when its first byte was here."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: int

    @property
    def wanted(self) -> Wanted:
        """The fields of the header that are known."""
        asked = json.loads(self.headers.get("x-stand-in", "{}"))
        known = {field.name for field in dataclasses.fields(Wanted)}
        return Wanted(**{key: value for key, value in asked.items() if key in known})


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; `None` when the client has closed it."""
    first = await reader.read(1)
    if not first:
        return None
    at = time.monotonic_ns()
    head = first + await reader.readuntil(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    method, path, _version = start.split(" ", 2)
    headers = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await read_chunked(reader)
    else:
        length = int(headers.get("content-length", "0"))
        if length > MAX_BODY:
            raise ValueError("body too large")
        body = await reader.readexactly(length)
    return Request(method, path, headers, body, at)


async def read_chunked(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks (RFC 9112 section 7.1)."""
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


class OpenAi:
    """Chat completions."""

    DATED = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "gpt-4o": "gpt-4o-2024-08-06"}

    def __init__(self, wanted: Wanted, asked: dict):
        self.wanted = wanted
        self.asked = asked
        model = asked.get("model", "gpt-4o-mini")
        self.model = wanted.model or self.DATED.get(model, model)
        self.id = f"chatcmpl-{next(ORDINALS):08d}"
        self.request_id_header = "x-request-id"
        self.finish = wanted.finish or ("tool_calls" if wanted.tool else "stop")

    def usage(self) -> dict:
        """Prompt tokens include cached ones, completion tokens include reasoning."""
        w = self.wanted
        return {
            "prompt_tokens": w.input,
            "completion_tokens": w.output,
            "total_tokens": w.input + w.output,
            "prompt_tokens_details": {"cached_tokens": w.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": w.reasoning, "audio_tokens": 0},
        }

    def tool_calls(self) -> list[dict]:
        function = {"name": self.wanted.tool, "arguments": '{"city":"Berlin"}'}
        return [{"index": 0, "id": "call_1", "type": "function", "function": function}]

    def plain(self) -> dict:
        message: dict = {"role": "assistant", "content": TEXT + "." * self.wanted.filler}
        message["refusal"] = None
        if self.wanted.tool:
            message |= {"content": None, "tool_calls": self.tool_calls()}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        return self.frame("chat.completion") | {"choices": [choice], "usage": self.usage()}

    def frame(self, kind: str) -> dict:
        return {
            "id": self.id,
            "object": kind,
            "created": int(time.time()),
            "model": self.model,
            "system_fingerprint": "fp_stand_in",
        }

    def events(self):
        """Events of a stream, as text."""
        frame = self.frame("chat.completion.chunk")

        def event(delta: dict, finish: str | None = None, **more) -> str:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return f"data: {json.dumps(frame | {'choices': [choice]} | more)}\n\n"

        yield event({"role": "assistant", "content": None if self.wanted.tool else ""})
        if self.wanted.tool:
            yield event({"tool_calls": self.tool_calls()})
        else:
            for word in itertools.islice(itertools.cycle(TEXT.split()), self.wanted.words):
                yield event({"content": word + " "})
        yield event({}, self.finish)
        if self.asked.get("stream_options", {}).get("include_usage"):
            yield f"data: {json.dumps(frame | {'choices': [], 'usage': self.usage()})}\n\n"
        yield "data: [DONE]\n\n"

    def error(self, status: int) -> dict:
        kind, code = {
            401: ("invalid_request_error", "invalid_api_key"),
            429: ("requests", "rate_limit_exceeded"),
        }.get(status, ("server_error", None))
        message = "The stand-in was asked for this error."
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Anthropic:
    """Messages."""

    def __init__(self, wanted: Wanted, asked: dict):
        self.wanted = wanted
        self.model = wanted.model or asked.get("model", "claude-sonnet-4-5")
        self.id = f"msg_{next(ORDINALS):08d}"
        self.request_id_header = "request-id"
        self.finish = wanted.finish or ("tool_use" if wanted.tool else "end_turn")

    def usage(self) -> dict:
        """Input tokens leave out what was read from or written to the cache."""
        w = self.wanted
        return {
            "input_tokens": w.input - w.cached - w.cache_write,
            "cache_creation_input_tokens": w.cache_write,
            "cache_read_input_tokens": w.cached,
            "output_tokens": w.output,
            "service_tier": "standard",
        }

    def message(self, content: list, finish: str | None, usage: dict) -> dict:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": finish,
            "stop_sequence": None,
            "usage": usage,
        }

    def plain(self) -> dict:
        content = [{"type": "text", "text": TEXT + "." * self.wanted.filler}]
        if self.wanted.tool:
            content.append(self.tool() | {"input": {"city": "Berlin"}})
        return self.message(content, self.finish, self.usage())

    def tool(self) -> dict:
        return {"type": "tool_use", "id": "toolu_1", "name": self.wanted.tool, "input": {}}

    def events(self):
        """Events of a stream, as text."""

        def event(kind: str, **more) -> str:
            return f"event: {kind}\ndata: {json.dumps({'type': kind} | more)}\n\n"

        start = self.usage() | {"output_tokens": 1}
        yield event("message_start", message=self.message([], None, start))
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield event("ping")
        for word in itertools.islice(itertools.cycle(TEXT.split()), self.wanted.words):
            delta = {"type": "text_delta", "text": word + " "}
            yield event("content_block_delta", index=0, delta=delta)
        yield event("content_block_stop", index=0)
        if self.wanted.tool:
            yield event("content_block_start", index=1, content_block=self.tool())
            delta = {"type": "input_json_delta", "partial_json": '{"city":"Berlin"}'}
            yield event("content_block_delta", index=1, delta=delta)
            yield event("content_block_stop", index=1)
        end = {"stop_reason": self.finish, "stop_sequence": None}
        yield event("message_delta", delta=end, usage={"output_tokens": self.wanted.output})
        yield event("message_stop")

    def error(self, status: int) -> dict:
        kind = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        error = {
            "type": kind.get(status, "api_error"),
            "message": "The stand-in was asked for this error.",
        }
        return {"type": "error", "error": error}


APIS = {"/v1/chat/completions": OpenAi, "/v1/messages": Anthropic}


def tool_to_call(asked: dict) -> str | None:
    """The first tool that a request offers, until the talk has the result of one."""
    talk = asked.get("messages", [])
    if not asked.get("tools") or any(one.get("role") == "tool" for one in talk):
        return None
    return asked["tools"][0].get("function", {}).get("name")


class StandIn:
    """The server: connections in, answers out, one line of log for each."""

    def __init__(self, log, every_nth_is_429: int = 0, calls_tools: bool = False):
        self.log = log
        self.calls_tools = calls_tools
        self.every_nth_is_429 = every_nth_is_429
        self.count = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers requests until either side closes."""
        try:
            while request := await read_request(reader):
                if not await self.answer(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, ValueError):
            pass
        except asyncio.CancelledError:
            # The stand-in ends; asyncio would print a trace for a cancelled connection.
            pass
        finally:
            writer.close()

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; false when the connection ends with it."""
        path = request.path.split("?")[0]
        if path not in APIS:
            await self.send(writer, 404, {}, b'{"error":{"message":"no such path"}}')
            return True
        asked = json.loads(request.body)
        wanted = request.wanted
        self.count += 1
        if self.every_nth_is_429 and self.count % self.every_nth_is_429 == 0:
            wanted = Wanted(status=429, retry_after="2")
        if self.calls_tools:
            wanted.tool = tool_to_call(asked)
        api = APIS[path](wanted, asked)
        entry = {"id": api.id, "path": path, "host": request.headers.get("host")}
        entry |= {"status": wanted.status, "request_at": request.at, "stream": False}
        headers = {api.request_id_header: f"req_{api.id}"}
        finished = True
        try:
            if wanted.status != 200:
                if wanted.retry_after is not None:
                    headers["retry-after"] = wanted.retry_after
                body = json.dumps(api.error(wanted.status)).encode()
                await self.send(writer, wanted.status, headers, body)
            elif asked.get("stream"):
                entry["stream"] = True
                finished = await self.stream(writer, api, headers, entry)
            else:
                await asyncio.sleep(wanted.delay)
                body = json.dumps(api.plain()).encode()
                if wanted.compress and "gzip" in request.headers.get("accept-encoding", ""):
                    body = gzip.compress(body)
                    headers["content-encoding"] = "gzip"
                await self.send(writer, 200, headers, body)
        finally:
            entry["last_at"] = time.monotonic_ns()
            self.log.write(json.dumps(entry) + "\n")
            self.log.flush()
        return finished

    async def send(self, writer, status: int, headers: dict, body: bytes) -> None:
        """A whole answer with its length."""
        writer.write(head(status, headers | {"content-length": str(len(body))}) + body)
        await writer.drain()

    async def stream(self, writer, api, headers: dict, entry: dict) -> bool:
        """An answer as server-sent events in chunks; false when it is cut in the middle."""
        more = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
        writer.write(head(200, headers | more))
        await writer.drain()
        await asyncio.sleep(api.wanted.delay)
        for number, event in enumerate(api.events()):
            if number == api.wanted.cut_after:
                writer.transport.abort()
                return False
            if number > 0:
                await asyncio.sleep(api.wanted.pause)
            data = event.encode()
            entry.setdefault("first_chunk_at", time.monotonic_ns())
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def head(status: int, headers: dict[str, str]) -> bytes:
    """Status line and headers."""
    words = {200: "OK", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
    headers = {"content-type": "application/json", "server": "stand-in"} | headers
    lines = [f"HTTP/1.1 {status} {words.get(status, 'Error')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def make_certificates(directory: pathlib.Path, hosts: list[str], address="127.0.0.1") -> None:
    """A certificate authority and a certificate for the hosts, with the openssl command."""

    def request(name: str, subject: str, *more: str) -> None:
        key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        command += ["ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", subject]
        command += ["-keyout", str(key), "-out", str(certificate), *more]
        subprocess.run(command, check=True, capture_output=True)

    usage = "keyUsage=critical,keyCertSign,cRLSign"
    request("ca", "/CN=Stand-in authority", "-addext", usage)
    names = ",".join(f"DNS:{host}" for host in hosts) + f",IP:{address}"
    signed_by = ["-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key")]
    leaf = ["-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"]
    request("server", f"/CN={hosts[0]}", *signed_by, *leaf)


async def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM or SIGINT."""
    make_certificates(options.directory, HOSTS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.directory / "server.pem", options.directory / "server.key")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address, _, port = options.listen.rpartition(":")
    with open(options.directory / "log.jsonl", "w", encoding="utf-8") as log:
        stand_in = StandIn(log, options.every_nth_is_429, options.calls_tools)
        tls = await asyncio.start_server(
            stand_in.connection, address, int(port), ssl=context, limit=MAX_HEAD
        )
        plain = await asyncio.start_server(stand_in.connection, address, 0, limit=MAX_HEAD)
        ready = {
            "address": address,
            "port": tls.sockets[0].getsockname()[1],
            "plain_port": plain.sockets[0].getsockname()[1],
            "ca": str(options.directory / "ca.pem"),
            "log": log.name,
        }
        print(json.dumps(ready), flush=True)
        await stop.wait()


def main() -> None:
    """Reads the flags and serves; the first line of output says where."""
    parser = argparse.ArgumentParser(description="stand-in for model APIs")
    parser.add_argument("directory", type=pathlib.Path, help="for certificates and the log")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT")
    parser.add_argument("--every-nth-is-429", type=int, default=0, metavar="N")
    parser.add_argument("--calls-tools", action="store_true", help="once in each talk")
    asyncio.run(serve(parser.parse_args()))
    sys.exit(0)


if __name__ == "__main__":
    main()

"""The endpoint speaks as ClickHouse does: asked as curl would, and as the official clients do."""

import base64
import contextlib
import http.client
import pathlib
import struct
import subprocess
import sys
import urllib.parse

import blocks
import lz4.frame
import pytest

SERVER = pathlib.Path(__file__).with_name("server.py")


@contextlib.contextmanager
def running(path, *more):
    """A server; ends with the block."""
    process = subprocess.Popen(
        [sys.executable, SERVER, "--path", str(path), *more], stdout=subprocess.PIPE, text=True
    )
    try:
        yield urllib.parse.urlsplit(process.stdout.readline().strip()).netloc, process
    finally:
        process.terminate()
        try:
            # It finishes what it merges, which on a slow machine took more than ten seconds.
            process.wait(60)
        finally:
            process.kill()


class Client:
    """One connection that is kept."""

    def __init__(self, where: str):
        self.http = http.client.HTTPConnection(where, timeout=60)

    def ask(self, body=b"", headers=None, method="POST", chunked=False, **query):
        url = "/?" + urllib.parse.urlencode(query)
        data = iter([body[:7], body[7:]]) if chunked else body
        self.http.request(method, url, data, headers or {}, encode_chunked=chunked)
        answer = self.http.getresponse()
        return answer, answer.read()

    def good(self, *what, **more) -> bytes:
        answer, body = self.ask(*what, **more)
        assert answer.status == 200, body
        return body


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running(tmp_path_factory.mktemp("clickhouse") / "data") as (where, _):
        client = Client(where)
        client.good(b"CREATE DATABASE d")
        yield client


@pytest.fixture
def table(client):
    columns = b"id UInt64, name LowCardinality(String), cost Nullable(UInt64)"
    client.good(b"CREATE OR REPLACE TABLE d.t (" + columns + b") ENGINE = MergeTree ORDER BY id")


def row(number: int, name: bytes) -> bytes:
    return struct.pack("<QB", number, len(name)) + name + b"\x01"


def test_it_says_that_it_lives(client):
    client.http.request("GET", "/ping")
    assert client.http.getresponse().read() == b"Ok.\n"


def test_a_query_may_stand_in_the_body_the_url_or_both(client):
    assert client.good(b"SELECT 1") == b"1\n"
    assert client.good(query="SELECT 2") == b"2\n"
    assert client.good(b" + 1", query="SELECT 2") == b"3\n"
    assert client.ask(method="GET", query="SELECT 4")[1] == b"4\n"
    answer, _ = client.ask(method="GET", query="CREATE DATABASE by_get")
    assert answer.getheader("X-ClickHouse-Exception-Code") == "164", "GET changes nothing"


def test_the_format_is_the_default_one_unless_the_query_names_one(client):
    assert client.good(b"SELECT 1 AS x", default_format="JSONEachRow") == b'{"x":1}\n'
    assert client.good(b"SELECT 1 AS x FORMAT CSV", default_format="JSONEachRow") == b"1\n"
    binary = client.good(b"SELECT 7::UInt16 AS x", default_format="RowBinaryWithNamesAndTypes")
    assert binary == b"\x01\x01x\x06UInt16\x07\x00"


@pytest.mark.parametrize("compressed", [False, True])
def test_rows_come_in_the_body_of_an_insert(client, table, compressed):
    rows = b"".join(row(number, b"x" * (number % 100)) for number in range(5000))
    more = {"decompress": "1"} if compressed else {}
    body = blocks.compress(rows, 4096) if compressed else rows
    sql = "INSERT INTO t(id,name,cost) FORMAT RowBinary"
    answer, _ = client.ask(body, chunked=True, query=sql, database="d", async_insert="0", **more)
    assert answer.status == 200
    assert '"written_rows": "5000"' in answer.getheader("X-ClickHouse-Summary")
    assert client.good(b"SELECT count(), max(id), countIf(cost IS NULL) FROM d.t") == (
        b"5000\t4999\t5000\n"
    )


def test_rows_may_follow_the_query_in_the_body(client, table):
    client.good(b"INSERT INTO d.t FORMAT TSV\n1\ta\t\\N\n2\tb\t5\n")
    client.good(b"INSERT INTO d.t VALUES (3, 'c', 6)")
    assert client.good(b"SELECT sum(id), sum(cost) FROM d.t") == b"6\t11\n"


def test_a_block_that_is_damaged_is_refused_whole(client, table):
    body = bytearray(blocks.compress(row(1, b"a") * 100))
    body[-1] ^= 1
    sql = "INSERT INTO d.t FORMAT RowBinary"
    answer, _ = client.ask(bytes(body), query=sql, decompress="1")
    assert (answer.status, answer.getheader("X-ClickHouse-Exception-Code")) == (500, "40")
    assert client.good(b"SELECT count() FROM d.t") == b"0\n"


def test_rows_that_cannot_be_read_leave_nothing(client, table):
    sql = "INSERT INTO d.t FORMAT RowBinary"
    answer, _ = client.ask(row(1, b"a") + b"\x00\x01", query=sql)
    assert answer.status != 200 and answer.getheader("X-ClickHouse-Exception-Code")
    assert client.good(b"SELECT count() FROM d.t") == b"0\n"


def test_a_client_that_dies_in_the_middle_leaves_nothing(client, table):
    sql = urllib.parse.quote("INSERT INTO d.t FORMAT RowBinary")
    cut = http.client.HTTPConnection(client.http.host, client.http.port)
    cut.putrequest("POST", f"/?query={sql}")
    cut.putheader("Transfer-Encoding", "chunked")
    cut.endheaders()
    whole = row(1, b"a")
    cut.send(b"%x\r\n%s\r\n" % (len(whole), whole))
    cut.close()
    assert client.good(b"SELECT count() FROM d.t") == b"0\n"


def test_answers_are_compressed_where_asked_for(client):
    sql = b"SELECT repeat('x', 10000)"
    assert blocks.decompress(client.good(sql, compress="1")) == b"x" * 10_000 + b"\n"
    body = client.good(sql, {"Accept-Encoding": "lz4"}, enable_http_compression="1")
    assert lz4.frame.decompress(body) == b"x" * 10_000 + b"\n"
    assert client.good(sql, {"Accept-Encoding": "lz4"}) == b"x" * 10_000 + b"\n"


def test_parameters_are_values_and_never_sql(client):
    sql = b"SELECT {who:String}, {many:Array(UInt8)}"
    hostile = "' OR 1 = 1 --"
    found = client.good(sql, param_who=hostile, param_many="[1,2]", default_format="JSONCompact")
    assert hostile.encode() in found
    boundary = "----x"
    fields = {"query": sql.decode(), "param_who": hostile, "param_many": "[3]"}
    form = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    found = client.good(f"{form}--{boundary}--\r\n".encode(), kind, default_format="JSONCompact")
    assert hostile.encode() in found


def test_settings_are_of_one_request(client):
    sql = b"SELECT getSetting('max_threads')"
    before = client.good(sql)
    assert client.good(sql, max_threads="3") == b"3\n"
    assert client.good(sql) == before
    answer, _ = client.ask(b"SELECT 1", no_such_setting="1")
    assert answer.getheader("X-ClickHouse-Exception-Code") == "115"


def test_a_session_keeps_what_was_set(client):
    client.good(b"SET max_threads = 5", session_id="a")
    assert client.good(b"SELECT getSetting('max_threads')", session_id="a") == b"5\n"


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        (b"SELECT FROM WHERE", 400, "62"),
        (b"SELECT * FROM d.none", 404, "60"),
        (b"SELECT * FROM none.none", 404, "81"),
        (b"SELECT throwIf(1)", 500, "395"),
    ],
)
def test_errors_have_their_code_and_text(client, sql, status, code):
    answer, body = client.ask(sql, default_format="RowBinary")
    assert (answer.status, answer.getheader("X-ClickHouse-Exception-Code")) == (status, code)
    assert body.startswith(f"Code: {code}. DB::Exception: ".encode())


def test_what_was_written_outlives_a_kill(tmp_path):
    with running(tmp_path / "data") as (where, process):
        client = Client(where)
        client.good(b"CREATE DATABASE d")
        client.good(
            b"CREATE TABLE d.t (id UInt64) ENGINE = MergeTree ORDER BY id"
            b" SETTINGS fsync_after_insert = 1"
        )
        client.good(b"INSERT INTO d.t VALUES (7)", async_insert="0")
        process.kill()
    with running(tmp_path / "data") as (where, _):
        assert Client(where).good(b"SELECT id FROM d.t") == b"7\n"


def test_only_the_user_comes_in(tmp_path):
    more = ("--user", "sonde", "--password", "secret")
    with running(tmp_path / "data", *more) as (where, _):
        client = Client(where)
        answer, _ = client.ask(b"SELECT 1")
        assert (answer.status, answer.getheader("X-ClickHouse-Exception-Code")) == (401, "516")
        key = {"X-ClickHouse-User": "sonde", "X-ClickHouse-Key": "secret"}
        assert client.good(b"SELECT 1", key) == b"1\n"
        basic = base64.b64encode(b"sonde:secret").decode()
        assert client.good(b"SELECT 1", {"Authorization": f"Basic {basic}"}) == b"1\n"

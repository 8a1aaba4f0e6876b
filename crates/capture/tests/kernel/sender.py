# Opens connections as it is told, line by line, and says when each is done. What it connects to
# takes whatever comes.
import os, socket, ssl, struct, sys, threading, time

port = int(sys.argv[1])


def hello(name, filler=0, alpn=True):
    """A ClientHello that OpenSSL makes, with a padding extension to make it longer."""
    context = ssl.create_default_context()
    if alpn:
        context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    record = outgoing.read()
    return grown(record[5:], filler) if filler else record


def extended(message, extension):
    """A hello with one more extension, as one record."""
    body = message[4:]
    at = 34
    at += 1 + body[at]
    at += 2 + struct.unpack_from("!H", body, at)[0]
    at += 1 + body[at]
    length = struct.unpack_from("!H", body, at)[0]
    body = body[:at] + struct.pack("!H", length + len(extension)) + extension + body[at + 2:]
    message = b"\x01" + struct.pack("!I", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack("!H", len(message)) + message


def grown(message, filler):
    # GREASE: an extension that nobody knows, before the ones that matter.
    return extended(message, struct.pack("!HH", 0x0A0A, filler) + bytes(filler))


def connect(address="127.0.0.1"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.connect((address, port))
    return sock


def send(sock, data, size):
    for at in range(0, len(data), size):
        sock.sendall(data[at:at + size])
        if size < len(data):
            # One segment each.
            time.sleep(0.002)


def records(record, size):
    message = record[5:]
    parts = [message[at:at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack("!H", len(part)) + part for part in parts)


def fast_open(data):
    """Sends in the SYN itself (RFC 7413), to a listener of its own that allows it."""
    listener = socket.socket()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 8)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    sock = socket.socket()
    sock.sendto(data, 0x20000000, listener.getsockname())
    options = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5]
    return "in the SYN" if options & 32 else "after the SYN"


def several_paths(data):
    """Multipath TCP on both sides (RFC 8684), as Go's servers speak it."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    sock.connect(listener.getsockname())
    send(sock, data, 900)


def plain_child(name):
    """A child that never executes anything and is gone at once."""
    data = hello(name)
    pid = os.fork()
    if not pid:
        connect().sendall(data)
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def thread(name):
    work = threading.Thread(target=lambda: connect().sendall(hello(name)), name="worker")
    work.start()
    work.join()


print("ready", flush=True)
for line in sys.stdin:
    word, _, rest = line.rstrip("\n").partition(" ")
    said = ""
    if word == "hello":
        name, _, address = rest.partition(" ")
        connect(address or "127.0.0.1").sendall(hello(name))
    elif word == "segments":
        size, name = rest.split(" ")
        send(connect(), hello(name, filler=1500), int(size))
    elif word == "records":
        size, name = rest.split(" ")
        send(connect(), records(hello(name), int(size)), 1 << 16)
    elif word == "large":
        connect().sendall(hello(rest, filler=9000))
    elif word == "ech":
        ech = bytes([0, 0, 1, 0, 1, 42, 0, 32]) + bytes(32) + bytes([0, 16]) + bytes(16)
        record = hello(rest)
        connect().sendall(extended(record[5:], struct.pack("!HH", 0xFE0D, len(ech)) + ech))
    elif word == "raw":
        connect().sendall(bytes.fromhex(rest))
    elif word == "pieces":
        sock = connect()
        for piece in rest.split(" "):
            sock.sendall(bytes.fromhex(piece))
            time.sleep(0.005)
    elif word == "tunnel":
        opening, name = rest.split(" ")
        sock = connect()
        sock.sendall(bytes.fromhex(opening))
        time.sleep(0.02)
        send(sock, hello(name, filler=1500), 700)
        sock.sendall(b"more that is of no use")
    elif word == "relay":
        # The same bytes again, as a sidecar sends them.
        data = hello(rest)
        connect().sendall(data)
        if not os.fork():
            connect().sendall(data)
            os._exit(0)
    elif word == "fast":
        said = " " + fast_open(hello(rest))
    elif word == "multipath":
        several_paths(hello(rest, filler=1500))
    elif word == "child":
        said = " %d" % plain_child(rest)
    elif word == "thread":
        thread(rest)
    elif word == "extension":
        sock = socket.socket(socket.AF_INET6)
        # Destination options with nothing but padding, before every packet (RFC 8200 4.6).
        sock.setsockopt(socket.IPPROTO_IPV6, 59, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
        sock.connect(("::1", port))
        sock.sendall(hello(rest))
    elif word == "mapped":
        sock = socket.socket(socket.AF_INET6)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.connect(("::ffff:" + rest, port))
    elif word == "connect":
        connect(rest)
    elif word == "ask":
        # name server transport: a question by hand.
        name, server, how = rest.split(" ")
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        question = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        if how == "tcp":
            sock = socket.create_connection((server, 53))
            sock.sendall(struct.pack("!H", len(question)) + question)
        else:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if how == "connected":
                sock.connect((server, 53))
                sock.send(question)
            else:
                sock.sendto(question, (server, 53))
        sock.settimeout(5)
        sock.recv(4096)
    print("done" + said, flush=True)

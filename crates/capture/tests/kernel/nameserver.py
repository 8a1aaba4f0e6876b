# A name server for the tests: every name is an alias of edge.example.net, which has an address of
# each family. UDP and TCP, port 53 of the addresses that are given. It says when it is ready.
import socket, struct, sys, threading


def labels(name):
    return b"".join(bytes([len(part)]) + part for part in name.split(b".")) + b"\0"


def answer(query):
    end = query.index(b"\0", 12) + 5
    def entry(owner, kind, content):
        return owner + struct.pack("!HHIH", kind, 1, 60, len(content)) + content
    edge = labels(b"edge.example.net")
    entries = [
        entry(b"\xc0\x0c", 5, edge),
        entry(edge, 1, bytes([192, 0, 2, 9])),
        entry(edge, 28, bytes([0x20, 1, 0xD, 0xB8] + [0] * 11 + [9])),
    ]
    # Somebody else's address, which belongs to no name that was asked for.
    entries.append(entry(labels(b"other.example"), 1, bytes([192, 0, 2, 66])))
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(entries), 0, 0)
    return head + query[12:end] + b"".join(entries)


def datagrams(sock):
    while True:
        query, peer = sock.recvfrom(4096)
        sock.sendto(answer(query), peer)


def streams(sock):
    while True:
        client, _ = sock.accept()
        query = client.recv(4096)[2:]
        reply = answer(query)
        client.sendall(struct.pack("!H", len(reply)) + reply)
        client.close()


for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    datagram, stream = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for sock in (datagram, stream):
        sock.bind((address, 53))
    stream.listen()
    threading.Thread(target=datagrams, args=(datagram,), daemon=True).start()
    threading.Thread(target=streams, args=(stream,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()

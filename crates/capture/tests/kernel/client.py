# A client that does what it is told, line by line.
import os, socket, sys, threading

port = int(sys.argv[1])
connection = None


def connect(name, address="127.0.0.1"):
    import ssl

    context = ssl.create_default_context(cafile="cert.pem")
    return context.wrap_socket(socket.create_connection((address, port)), server_hostname=name)


def exchange(connection, data):
    connection.sendall(data)
    got = b""
    while len(got) < len(data):
        got += connection.recv(1 << 16)
    return len(got)


def sink(connection, total):
    head = b"sink %d " % total
    data = head + bytes(i * 31 % 251 for i in range(total - len(head)))
    connection.sendall(data)
    assert connection.recv(4) == b"done"
    return total


print("ready")
for line in sys.stdin:
    word, _, rest = line.rstrip("\n").partition(" ")
    if word == "connect":
        name, _, address = rest.partition(" ")
        connection = connect(name, address or "127.0.0.1")
        print("connected")
    elif word == "echo":
        print("echoed", exchange(connection, rest.encode()))
    elif word == "sink":
        print("sank", sink(connection, int(rest)))
    elif word == "import":
        import ssl
        print("imported")
    elif word == "retry":
        # A socket that does not block and a peer that is slow: calls that must be repeated.
        import select, ssl
        total = int(rest)
        data = b"slow %d " % total
        data += bytes(i * 31 % 251 for i in range(total - len(data)))
        connection.setblocking(False)
        sent = retries = 0
        while sent < total:
            try:
                sent += connection.send(data[sent:sent + 40000])
            except ssl.SSLWantWriteError:
                retries += 1
                select.select([], [connection], [])
        connection.setblocking(True)
        assert connection.recv(4) == b"done"
        print("retried" if retries else "never had to retry")
    elif word == "close":
        connection.close()
        connection = None
        print("closed")
    elif word == "threads":
        def work(number):
            own = connect("sonde.test")
            exchange(own, b"thread %04d" % number)
            own.close()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(int(rest))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("joined")
    elif word == "fork":
        pid = os.fork()
        if not pid:
            import time
            print(os.getpid())
            sys.stdin.readline()
            own = connect("sonde.test")
            exchange(own, rest.encode())
            own.close()
            print("child done")
            os._exit(0)
        os.waitpid(pid, 0)
        print("waited")

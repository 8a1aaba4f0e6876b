# A TLS server that sends back all it gets; a thread for each connection. The argument is
# how far away it is: seconds that pass before it answers a hello.
import socket, ssl, sys, threading, time

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)


def tunnel(client):
    # A proxy that is itself reached over TLS: the tunnel ends at this very server.
    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    target = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))

    def back():
        while data := target.recv(1 << 16):
            client.sendall(data)
        client.close()

    threading.Thread(target=back, daemon=True).start()
    while data := client.recv(1 << 16):
        target.sendall(data)


def serve(plain):
    time.sleep(float(sys.argv[1]))
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            while True:
                data = connection.recv(1 << 16)
                if not data:
                    return
                if data.startswith(b"GET "):
                    body = b"seen by the server"
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
                    return
                if data.startswith(b"CONNECT "):
                    return tunnel(connection)
                if not data.startswith((b"sink", b"slow")):
                    connection.sendall(data)
                else:
                    if data.startswith(b"slow"):
                        time.sleep(0.3)
                    left = int(data.split(b" ")[1]) - len(data)
                    while left > 0:
                        left -= len(connection.recv(1 << 16))
                    connection.sendall(b"done")
    except (OSError, ssl.SSLError):
        pass


print(listener.getsockname()[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), listener.close()), daemon=True).start()
while True:
    try:
        plain, _ = listener.accept()
    except OSError:
        break
    threading.Thread(target=serve, args=(plain,), daemon=True).start()

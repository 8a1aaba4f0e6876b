# A TLS server that sends back all it gets; a thread for each connection.
import socket, ssl, sys, threading

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)


def serve(plain):
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
                if not data.startswith(b"sink"):
                    connection.sendall(data)
                else:
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

"""TLS before what speaks none, and the certificates for it."""

import contextlib
import pathlib
import socket
import ssl
import subprocess
import threading

from apart import message


class Server:
    """Serves each connection in a thread of its own."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Ends it."""
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        raise NotImplementedError


class TlsFront(Server):
    """Ends TLS before a dashboard, and wants a certificate where `mutual`."""

    def __init__(self, directory: pathlib.Path, target: int, mutual: bool = False):
        self.target = target
        self.handshakes = 0
        self.shown: list[str] = []
        self.refused = 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "server.pem", directory / "server.key")
        if mutual:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(directory / "ca.pem")
        super().__init__()

    def _serve(self, near: socket.socket) -> None:
        try:
            tls = self.context.wrap_socket(near, server_side=True)
        except OSError:
            self.refused += 1
            near.close()
            return
        self.handshakes += 1
        if certificate := tls.getpeercert():
            self.shown.append(dict(pair[0] for pair in certificate["subject"])["commonName"])
        with contextlib.suppress(OSError, EOFError), tls:
            while request := message(tls):
                with socket.create_connection(("127.0.0.1", self.target)) as far:
                    far.sendall(request)
                    tls.sendall(message(far))


def make_certificates(place: pathlib.Path) -> None:
    """An authority of one's own, a certificate for the dashboard, one for a node, and one that
    another authority signed."""

    def make(name: str, subject: str, *more: str) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        command += ["ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", subject]
        command += ["-keyout", str(place / f"{name}.key"), "-out", str(place / f"{name}.pem")]
        subprocess.run([*command, *more], check=True, capture_output=True)

    for authority in ("ca", "other-ca"):
        make(authority, f"/CN={authority}", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def signed(name: str, authority: str, names: str) -> None:
        by = ["-CA", str(place / f"{authority}.pem"), "-CAkey", str(place / f"{authority}.key")]
        leaf = ["-addext", f"subjectAltName={names}"]
        make(name, f"/CN={name}", *by, *leaf, "-addext", "basicConstraints=critical,CA:FALSE")

    signed("server", "ca", "DNS:dashboard.test,IP:127.0.0.1")
    signed("node-1", "ca", "DNS:node-1")
    signed("stranger", "other-ca", "DNS:stranger")

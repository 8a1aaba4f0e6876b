"""A mutating admission webhook of somebody else, as a cluster has them: a server with an authority
of its own, that may be away."""

import base64
import http.server
import json
import pathlib
import ssl
import threading
from collections.abc import Callable

from one_node import Cluster

from stand_in import make_certificates

# Changes of an object, as operations (RFC 6902).
Answer = Callable[[dict], list[dict]]


def nothing(_object: dict) -> list[dict]:
    """Changes nothing."""
    return []


class Webhook:
    """What the API server has to ask about one kind of object, else it takes none."""

    NAME = "somebody-elses"

    def __init__(self, cluster: Cluster, directory: pathlib.Path, address: str, asked: dict):
        """`asked` is a rule: which objects, and what is done to them."""
        directory.mkdir()
        make_certificates(directory, ["webhook.test"], address)
        self.cluster, self.directory, self.address = cluster, directory, address
        self.server: http.server.ThreadingHTTPServer | None = None
        # The address is kept, so that nothing else takes it while the webhook is away.
        self.port = self.up(nothing)
        self.away()
        authority = base64.b64encode((directory / "ca.pem").read_bytes()).decode()
        one = {
            "name": "hook.webhook.test",
            "clientConfig": {"url": f"https://{address}:{self.port}/", "caBundle": authority},
            "rules": [asked],
            "failurePolicy": "Fail",
            "timeoutSeconds": 2,
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "strict"}},
        }
        kind = "MutatingWebhookConfiguration"
        api = "admissionregistration.k8s.io/v1"
        made = {"apiVersion": api, "kind": kind, "metadata": {"name": self.NAME}}
        cluster.apply(made | {"webhooks": [one]})

    def up(self, answer: Answer, port: int = 0) -> int:
        """Answers from now on, and says on which port."""

        class Handler(http.server.BaseHTTPRequestHandler):
            """Answers reviews."""

            def do_POST(self):
                """Answers one."""
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["request"]
                said = {"uid": asked["uid"], "allowed": True}
                if operations := answer(asked["object"]):
                    patch = base64.b64encode(json.dumps(operations).encode()).decode()
                    said |= {"patchType": "JSONPatch", "patch": patch}
                review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
                body = json.dumps(review | {"response": said}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments):
                """Says nothing."""

        server = http.server.ThreadingHTTPServer((self.address, port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "server.pem", self.directory / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.server = server
        return server.server_port

    def back(self, answer: Answer = nothing) -> None:
        """Is there again, on the port that the cluster knows."""
        self.up(answer, self.port)

    def away(self) -> None:
        """Nothing listens there any more."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def remove(self) -> None:
        """The cluster forgets it."""
        self.cluster.kubectl("delete", "mutatingwebhookconfiguration", self.NAME)
        self.away()

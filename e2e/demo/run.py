"""Runs the demo workload: the stand-in, and two programs that believe it is the real API.

It listens on loopback only, keeps its files in a temporary directory, and takes all of it with it
when it ends.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = ["assistant.py", "digest.py"]


def start(command: list[str], **more) -> subprocess.Popen:
    """Starts a program that is told to end when this one does, however it does."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", *command], **more)


def main() -> None:
    """Starts all, and waits for the signal to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    running = []
    with tempfile.TemporaryDirectory(prefix="sonde-demo-") as directory:
        try:
            stand_in = [sys.executable, str(HERE.parent / "stand_in.py"), directory]
            server = start([*stand_in, "--every-nth-is-429", "11"], stdout=subprocess.PIPE)
            running.append(server)
            place = json.loads(server.stdout.readline() or "{}")
            if not place:
                sys.exit("demo: cannot start the stand-in; its message is above")
            hosts = ["api.openai.com", "api.anthropic.com"]
            at = f"{place['address']}:{place['port']}"
            environment = os.environ | {
                "PYTHONPATH": str(HERE.parent / "resolve"),
                "STAND_IN_HOSTS": ",".join(f"{host}={at}" for host in hosts),
                "SSL_CERT_FILE": place["ca"],
            }
            for program in PROGRAMS:
                # By name and from their directory: the same workloads wherever the checkout is.
                running.append(start(["python3", program], env=environment, cwd=HERE))
            server.wait()
            sys.exit("demo: the stand-in has ended")
        finally:
            for program in reversed(running):
                program.terminate()
            for program in running:
                program.wait()


if __name__ == "__main__":
    main()

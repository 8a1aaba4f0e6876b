"""Units of a machine of its own: programs that call the stand-in, and a Sonde among them."""

import pathlib
import shutil

from callers import CALLER, caller_environment
from harness import SONDE, Sonde, until
from systemd_machine import SystemdMachine


class Machine(SystemdMachine):
    """A machine whose units call the stand-in."""

    def __init__(self, state: pathlib.Path, stand_in):
        super().__init__(state)
        self.stand_in = stand_in

    def up(self) -> "Machine":
        """Starts it; the stand-in's authority is in the shared directory."""
        super().up()
        shutil.copy(self.stand_in.ca, self.shared / "ca.pem")
        return self

    @property
    def environment(self) -> dict[str, str]:
        """What its callers are told."""
        at = self.stand_in.address
        return caller_environment(self.stand_in, at, CALL_CA=str(self.shared / "ca.pem"))

    def service(self, *lines: str, **more: str) -> str:
        """The text of a unit that calls."""
        pairs = [f"Environment='{key}={value}'" for key, value in self.environment.items()]
        pairs += [f"{key}={value}" for key, value in more.items()]
        return "\n".join(["[Service]", f"ExecStart=/usr/bin/python3 {CALLER}", *pairs, *lines, ""])

    def start(self, unit: str) -> int:
        """Starts a unit, and gives the machine's pid of its main process."""
        self.call("systemctl", "start", unit)
        return self.outer(self.main_pid(unit))


class SondeUnit(Sonde):
    """`sonde up` as a unit of the machine: in its namespace of pids and below its root."""

    def __init__(self, machine: Machine):
        super().__init__(machine.shared, prefix=machine.enter)
        self.machine = machine

    def start(self, *flags: str) -> "SondeUnit":
        command = [SONDE, "up", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}"]
        line = " ".join(str(part) for part in [*command, *flags])
        output = [f"StandardOutput=append:{self.out}", f"StandardError=append:{self.err}"]
        again = ["Restart=always", "RestartSec=100ms"]
        text = "\n".join(["[Service]", f"ExecStart={line}", *output, *again, ""])
        self.machine.unit("sonde.service", text)
        self.machine.call("systemctl", "start", "sonde.service")
        until("sonde answers inside", self.answers, 30, 0.3)
        return self

    def answers(self) -> bool:
        active = self.machine.run("systemctl", "is-active", "sonde.service").stdout.strip()
        assert active == "active", self.err.read_text()
        return self.cli("services", "--output", "json", check=False).returncode == 0

    def stop(self) -> int:
        self.machine.call("systemctl", "stop", "sonde.service")
        code = ["systemctl", "show", "--property=ExecMainStatus", "--value", "sonde.service"]
        return int(self.machine.call(*code))

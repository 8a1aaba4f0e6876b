"""Reads wheels, and holds them to the lock."""

import dataclasses
import email
import hashlib
import pathlib
import re
import zipfile

PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) \\\n\s+--hash=sha256:([0-9a-f]{64})$", re.MULTILINE)


@dataclasses.dataclass
class Package:
    """One package as it was published."""

    name: str
    version: str
    sha256: str
    licence: str
    modules: dict[str, str]
    licences: dict[str, bytes]


def read(directory: pathlib.Path, lock: pathlib.Path) -> list[Package]:
    """The packages of a lock; a wheel that is missing or other than locked ends the build."""
    by_digest = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path for path in directory.glob("*.whl")
    }
    pins = PIN.findall(lock.read_text())
    missing = [name for name, _, digest in pins if digest not in by_digest]
    if not pins or missing:
        raise SystemExit(f"cannot find the locked wheels of {missing or lock} in {directory}")
    return [package(name, by_digest[digest], digest) for name, _, digest in sorted(pins)]


def package(name: str, path: pathlib.Path, digest: str) -> Package:
    """Unpacks one wheel."""
    modules, licences, metadata = {}, {}, None
    with zipfile.ZipFile(path) as wheel:
        for entry in sorted(wheel.namelist()):
            inside = pathlib.PurePosixPath(entry)
            if inside.parts[0].endswith(".dist-info"):
                if inside.name == "METADATA":
                    metadata = email.message_from_bytes(wheel.read(entry))
                elif re.match(r"(?i)licen[cs]e|notice|copying", inside.name):
                    licences[inside.name] = wheel.read(entry)
            elif inside.suffix == ".py":
                modules[entry] = wheel.read(entry).decode()
    if metadata is None or not licences:
        raise SystemExit(f"{path} says no licence, or is no wheel")
    licence = metadata["License-Expression"] or metadata["License"]
    return Package(name, metadata["Version"], digest, licence, modules, licences)

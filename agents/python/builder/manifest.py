"""Says what is in a bundle: for `sonde agents verify`, and as CycloneDX for tools."""

import hashlib
import json

from builder.wheels import Package

# The Pythons that the bundle is made for, and tested with.
PYTHONS = ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]


def encoded(value: object) -> bytes:
    """JSON that is the same for the same value."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def manifest(packages: list[Package], files: dict[str, bytes]) -> bytes:
    """Packages, and each file with its size and digest."""
    return encoded(
        {
            "format": 1,
            "runtime": "cpython",
            "pythons": PYTHONS,
            "packages": [
                {
                    "name": package.name,
                    "version": package.version,
                    "licence": package.licence,
                    "sha256": package.sha256,
                }
                for package in packages
            ],
            "files": {
                path: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for path, content in sorted(files.items())
            },
        }
    )


def bill(packages: list[Package]) -> bytes:
    """The bill of materials, CycloneDX 1.5."""
    return encoded(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": {"type": "library", "name": "sonde-python-agent"}},
            "components": [
                {
                    "type": "library",
                    "name": package.name,
                    "version": package.version,
                    "purl": f"pkg:pypi/{package.name}@{package.version}",
                    "licenses": [{"expression": package.licence}],
                    "hashes": [{"alg": "SHA-256", "content": package.sha256}],
                    "modified": True,
                }
                for package in packages
            ],
        }
    )

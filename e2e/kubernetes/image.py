"""Makes a container image of one layer from a root filesystem, without a registry or an engine.

The archive has the form that `docker save` writes, which every runtime imports.
Equal input gives an equal archive. Standard library only.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import shutil
import tarfile
import tempfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def pack(root: pathlib.Path, layer: pathlib.Path) -> None:
    """Writes a directory as a tar without times; anything else is taken to be a tar already."""
    if not root.is_dir():
        shutil.copyfile(root, layer)
        return

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, arcname=path.name, filter=plain)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Adds a file from memory."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def main() -> None:
    """Reads the arguments and writes the archive."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("name", help="full name with tag, such as sonde.test/python:1")
    arguments.add_argument("root", type=pathlib.Path, help="directory or tar")
    arguments.add_argument("out", type=pathlib.Path, help="archive to write")
    arguments.add_argument("command", nargs="*", help="what the image runs")
    given = arguments.parse_args()

    with tempfile.TemporaryDirectory(dir=given.out.parent) as directory:
        layer = pathlib.Path(directory) / "layer.tar"
        pack(given.root, layer)
        with layer.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        config = json.dumps(
            {
                "architecture": ARCHITECTURES[os.uname().machine],
                "os": "linux",
                "config": {
                    "Cmd": given.command or None,
                    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                },
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
        ).encode()
        config_name = hashlib.sha256(config).hexdigest() + ".json"
        manifest = [{"Config": config_name, "RepoTags": [given.name], "Layers": ["layer.tar"]}]
        partial = given.out.with_name(given.out.name + ".part")
        with tarfile.open(partial, "w") as archive:
            archive.add(layer, arcname="layer.tar")
            add(archive, config_name, config)
            add(archive, "manifest.json", json.dumps(manifest).encode())
        partial.rename(given.out)


if __name__ == "__main__":
    main()

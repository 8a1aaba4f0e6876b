"""Packs a bundle: tar, gzip; no times, owners or order of a directory in it."""

import io
import pathlib
import struct
import tarfile
import zlib

# The head of a gzip file (RFC 1952): deflate, no time, best compression, no system. Python's own
# writers differ between its versions.
HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"


def write(files: dict[str, bytes], target: pathlib.Path) -> None:
    """Writes the archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o444
            tar.addfile(entry, io.BytesIO(content))
    target.parent.mkdir(parents=True, exist_ok=True)
    content = packed.getvalue()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(content) + deflate.flush()
    target.write_bytes(HEAD + body + struct.pack("<II", zlib.crc32(content), len(content)))

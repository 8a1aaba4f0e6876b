"""ClickHouse's compressed blocks, as its HTTP interface takes them with `decompress=1` and gives
them with `compress=1`: a checksum of 16 bytes (CityHash128 of version 1.0.2) over the rest, a byte
that names the method, the size of method, sizes and data, the size before, and the data."""

import struct

import lz4.block
from clickhouse_cityhash.cityhash import CityHash128

CHECKSUM = 16
HEAD = 9
LZ4 = 0x82
NONE = 0x02
# ClickHouse's own limit of a block before compression (`DBMS_MAX_COMPRESSED_SIZE`).
MOST = 1 << 30


class NotABlock(ValueError):
    """What is no compressed block."""


def checksum(data: bytes) -> bytes:
    """The hash as ClickHouse writes it: two numbers, the low one first."""
    hashed = CityHash128(data)
    low, high = hashed if isinstance(hashed, tuple) else (hashed >> 64, hashed & (1 << 64) - 1)
    return struct.pack("<QQ", low, high)


def decompress(data: bytes) -> bytes:
    """All blocks, one after the other."""
    parts, at = [], 0
    while at < len(data):
        if len(data) < at + CHECKSUM + HEAD:
            raise NotABlock("the last block is cut")
        method, size, whole = struct.unpack_from("<BII", data, at + CHECKSUM)
        end = at + CHECKSUM + size
        if size < HEAD or end > len(data) or whole > MOST:
            raise NotABlock("the size of a block cannot be")
        if checksum(data[at + CHECKSUM : end]) != data[at : at + CHECKSUM]:
            raise NotABlock("checksum doesn't match: corrupted data")
        body = data[at + CHECKSUM + HEAD : end]
        if method == LZ4:
            body = lz4.block.decompress(body, uncompressed_size=whole)
        elif method != NONE:
            raise NotABlock(f"unknown method of compression {method:#x}")
        if len(body) != whole:
            raise NotABlock("a block is not as long as it says")
        parts.append(body)
        at = end
    return b"".join(parts)


def compress(data: bytes, most: int = 1 << 20) -> bytes:
    """As blocks of at most this many bytes."""
    parts = []
    for at in range(0, len(data), most):
        part = data[at : at + most]
        body = lz4.block.compress(part, store_size=False)
        block = struct.pack("<BII", LZ4, HEAD + len(body), len(part)) + body
        parts.append(checksum(block) + block)
    return b"".join(parts)

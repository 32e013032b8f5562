"""Compression of ClickHouse's HTTP interface: standard `Content-Encoding` in both directions."""

import gzip
import sys
import zlib
from collections.abc import Callable

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Codec = Callable[[bytes], bytes]

SMALLEST_BYTES = 1024
"""Answers below this are sent as they are: compressing them costs more than it saves."""


def decompress_lz4(body: bytes) -> bytes:
    """Undo one or several frames: clickhouse-connect sends one per block of rows."""
    # `lz4.frame.decompress` would return the first frame and drop the others without a word.
    parts = []
    while body:
        frame = lz4.frame.LZ4FrameDecompressor()
        parts.append(frame.decompress(body))
        if not frame.eof:
            raise EOFError("the frame is cut short")
        body = frame.unused_data or b""
    return b"".join(parts)


def inflate(body: bytes) -> bytes:
    """Undo deflate, refusing what follows its end."""
    stream = zlib.decompressobj()
    plain = stream.decompress(body)
    if not stream.eof or stream.unused_data:
        raise EOFError("the stream is cut short or something follows it")
    return plain


COMPRESS: dict[str, Codec] = {
    "lz4": lz4.frame.compress,
    "zstd": lambda body: zstd.compress(body, 1),
    "gzip": lambda body: gzip.compress(body, 1),
    "deflate": lambda body: zlib.compress(body, 1),
}
DECOMPRESS: dict[str, Codec] = {
    "lz4": decompress_lz4,
    "zstd": zstd.decompress,
    "gzip": gzip.decompress,
    "deflate": inflate,
    "identity": bytes,
    "": bytes,
}
FAILURES = (zstd.ZstdError, zlib.error, gzip.BadGzipFile, RuntimeError, EOFError, OSError)
"""What the decoders raise on bytes that are not theirs (lz4: RuntimeError)."""


def decompress(body: bytes, encoding: str) -> bytes:
    """Undo a request's encoding; raises ValueError for an unknown encoding or broken bytes."""
    decode = DECOMPRESS.get(encoding.strip().lower())
    if decode is None:
        raise ValueError(f"unknown Content-Encoding {encoding!r}: use {', '.join(COMPRESS)}")
    try:
        return decode(body)
    except FAILURES as error:
        raise ValueError(f"the body is not valid {encoding}: {error}") from None


def choose_encoding(accepted: str) -> str | None:
    """First encoding of `Accept-Encoding` that is offered here, by our order of cost."""
    offered = {part.split(";")[0].strip().lower() for part in accepted.split(",")}
    return next((name for name in COMPRESS if name in offered), None)


def compress(body: bytes, encoding: str | None) -> tuple[bytes, str | None]:
    """Encode an answer unless it is too small to gain; returns the encoding really used."""
    if encoding is None or len(body) < SMALLEST_BYTES:
        return body, None
    return COMPRESS[encoding](body), encoding

"""A PNG without what says nothing about its pixels: texts, colour profile, and what else stands beside them.

Pillow ends the decoding where such a part is damaged, or unpacks to more than 1 MiB (its guard against bombs). These
parts are never asked for here, so a file that failed is tried once more without them. No setting of Pillow's is
touched, which other code of the process may rely on.
"""

from __future__ import annotations

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What the pixels of the first frame, and how they are turned, are made from.
_KEPT = frozenset([b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"eXIf"])
# Texts that may hold an orientation; kept where they unpack to no more than Pillow takes.
_TURNING = (b"Raw profile type exif\0", b"Raw profile type APP1\0", b"XML:com.adobe.xmp\0")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MOST = 1 << 20


def drop_metadata(content: bytes) -> bytes | None:
    """Make a copy of a PNG's bytes without the chunks that its pixels do not need, or None where it has none such.

    A chunk whose checksum is wrong is kept: the file is damaged, and the decoder shall say so.
    """
    if not content.startswith(_SIGNATURE):
        return None
    view, place, parts = memoryview(content), len(_SIGNATURE), [memoryview(_SIGNATURE)]
    dropped = False
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        chunk = view[place : place + 12 + length]
        if len(chunk) == 12 + length and _is_beside_pixels(kind, chunk):
            dropped = True
        else:
            parts.append(chunk)
        place += 12 + length
    return b"".join(parts) if dropped else None


def _is_beside_pixels(kind: bytes, chunk: memoryview) -> bool:
    if kind in _KEPT or not kind[:1].islower():  # a critical chunk that is not known is the decoder's to refuse
        return False
    (checksum,) = struct.unpack(">I", chunk[-4:])
    if zlib.crc32(chunk[4:-4]) != checksum:
        return False
    body = bytes(chunk[8:128]) if kind in _TEXTS else b""
    return not (body.startswith(_TURNING) and _fits(kind, bytes(chunk[8:-4])))


def _fits(kind: bytes, body: bytes) -> bool:
    packed = body.partition(b"\0")[2]
    if kind == b"iTXt" and packed[:1] == b"\1":  # flag and method, then language and translated keyword
        packed = packed[2:].split(b"\0", 2)[-1]
    elif kind == b"zTXt":
        packed = packed[1:]
    else:
        return len(body) <= _MOST
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, _MOST)
    except zlib.error:
        return False
    return not unpacker.unconsumed_tail

"""What a file is by its first bytes, so that a message can say what was passed instead of an image or weights."""

from __future__ import annotations

# Both orders of bytes, then BigTIFF.
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a damaged PNG file"),
    (b"\xff\xd8", "a damaged JPEG file"),
    (b"GIF8", "a damaged GIF file"),
    *((start, "a TIFF file, damaged or of a kind that Pillow does not decode") for start in _TIFF_STARTS),
    (b"RIFF", "a RIFF file (audio, video or a damaged WebP)"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstandard data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x93NUMPY", "a NumPy array file"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"version https://git-lfs", "a Git LFS pointer (run 'git lfs pull')"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
# The containers that HEIC and AVIF share: their first brand does not tell which; those behind it do.
_SHARED_BRANDS = (b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def is_heif(content: bytes) -> bool:
    """Whether the bytes begin a HEIC or HEIF image, which Pillow reads with a plugin only; AVIF is none."""
    if content[4:8] != b"ftyp" or content[8:12] not in _HEIF_BRANDS:
        return False
    end = min(int.from_bytes(content[:4], "big"), 512)
    others = {content[place : place + 4] for place in range(16, end - 3, 4)}
    return content[8:12] not in _SHARED_BRANDS or others.isdisjoint(_AVIF_BRANDS)


def is_tiff(content: bytes) -> bool:
    """Whether the bytes begin a TIFF file."""
    return content.startswith(_TIFF_STARTS)


def describe_content(content: bytes) -> str:
    """Name what the bytes of a file are, as the end of a sentence: ``a PDF document``."""
    head = content[:512]
    for signature, kind in _SIGNATURES:
        # Two or three letters may begin a text as well; binary data has zeros.
        if head.startswith(signature) and (len(signature) > 3 or b"\x00" in head):
            return kind
    if head[4:8] == b"ftyp":
        return f"an MP4-family file ({head[8:12].decode('latin-1').strip()})"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if b"<svg" in text:
        return "an SVG drawing (vector graphics: export it as PNG)"
    try:
        content[:4096].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < min(len(content), 4096) - 4:
            return f"unknown data that starts with {head[:8].hex(' ')}"
    if b"\x00" in head:
        return f"unknown data that starts with {head[:8].hex(' ')}"
    return "text"

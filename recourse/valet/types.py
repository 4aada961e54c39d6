"""The types that a document may be of: their names, their files' suffixes, and how each begins.

One table for all who ask: the API, which refuses a type that no content can prove; the check of an
upload; and the command line, which guesses a type from a file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.message import Message
from pathlib import PurePath

OCTETS = "application/octet-stream"
Proof = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class ContentType:
    """A type that content can prove.

    Attributes:
        name: Its canonical name, without parameters.
        suffixes: The suffixes of its files' names.
        aliases: Other names that mean the same.
        proves: Whether the beginning of a document is that of the type; None for text.
    """

    name: str
    suffixes: tuple[str, ...]
    aliases: tuple[str, ...]
    proves: Proof | None


def _at(offset: int, *magics: bytes) -> Proof:
    return lambda head: head.startswith(magics, offset)


def _riff(form: bytes) -> Proof:
    return lambda head: head.startswith(b"RIFF") and head.startswith(form, 8)


def _has(magic: bytes, *parts: bytes) -> Proof:
    """What begins so and names one of these parts near its beginning, as archives do."""
    return lambda head: head.startswith(magic) and any(part in head for part in parts)


def _stored_first(mimetype: str) -> Proof:
    """A zip whose first member, stored, is `mimetype`: OpenDocument and EPUB."""
    magic = b"mimetype" + mimetype.encode()
    return lambda head: head.startswith(b"PK\x03\x04") and head.startswith(magic, 30)


def _brands(*wanted: bytes) -> Proof:
    """A file of the ISO base media format that names one of these brands."""

    def proves(head: bytes) -> bool:
        if not head.startswith(b"ftyp", 4):
            return False
        box = head[: int.from_bytes(head[:4])]
        named = [box[8:12], *(box[at : at + 4] for at in range(16, len(box), 4))]
        return any(brand.startswith(wanted) for brand in named)

    return proves


def _bitmap(head: bytes) -> bool:
    sizes = (12, 16, 40, 52, 56, 64, 108, 124)  # of the header that follows
    return head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in sizes


def _mpeg_audio(head: bytes) -> bool:
    frame = head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6)
    return frame or head.startswith(b"ID3")


def _quicktime(head: bytes) -> bool:
    return _brands(b"qt  ")(head) or head.startswith((b"moov", b"mdat", b"wide", b"free"), 4)


def _portable_document(head: bytes) -> bool:
    return b"%PDF-" in head[:1024]  # readers take what stands before it


_ZIP = b"PK\x03\x04"
_OLE = _at(0, bytes.fromhex("d0cf11e0a1b11ae1"))
_EBML = b"\x1a\x45\xdf\xa3"
_OOXML = "application/vnd.openxmlformats-officedocument."
_MACROS = "application/vnd.ms-"
_ODF = "application/vnd.oasis.opendocument."


def _table() -> Iterable[ContentType]:
    def row(name: str, suffixes: str, proves: Proof | None, aliases: str = "") -> ContentType:
        return ContentType(name, tuple(suffixes.split()), tuple(aliases.split()), proves)

    word, excel, slides = (_has(_ZIP, part) for part in (b"word/", b"xl/", b"ppt/"))
    ogg, mp3 = _at(0, b"OggS"), "audio/mp3 audio/mpeg3 audio/x-mp3 audio/x-mpeg audio/x-mpeg-3"
    yield from (
        # Pictures.
        row("image/png", ".png", _at(0, b"\x89PNG\r\n\x1a\n"), "image/x-png"),
        row(
            "image/jpeg", ".jpg .jpeg .jpe .jfif", _at(0, b"\xff\xd8\xff"), "image/jpg image/pjpeg"
        ),
        row("image/gif", ".gif", _at(0, b"GIF87a", b"GIF89a")),
        row("image/webp", ".webp", _riff(b"WEBP")),
        row(
            "image/tiff", ".tif .tiff", _at(0, b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "image/tif"
        ),
        row(
            "image/bmp",
            ".bmp .dib",
            _bitmap,
            "image/x-bmp image/x-ms-bmp image/x-windows-bmp image/x-dib",
        ),
        row("image/heic", ".heic .heics", _brands(b"hei", b"hevc", b"hevx"), "image/heic-sequence"),
        row("image/heif", ".heif .heifs", _brands(b"mif", b"msf", b"hei"), "image/heif-sequence"),
        row("image/avif", ".avif", _brands(b"avif", b"avis")),
        row("image/jxl", ".jxl", _at(0, b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
        row("image/jp2", ".jp2", _at(0, b"\0\0\0\x0cjP  \r\n\x87\n")),
        row("image/vnd.microsoft.icon", ".ico", _at(0, b"\0\0\1\0"), "image/x-icon image/ico"),
        row("image/vnd.adobe.photoshop", ".psd", _at(0, b"8BPS"), "image/x-photoshop"),
        row("image/vnd.djvu", ".djvu .djv", _at(0, b"AT&TFORM"), "image/x-djvu"),
        # Documents.
        row("application/pdf", ".pdf", _portable_document, "application/x-pdf"),
        row(
            "application/postscript",
            ".ps .eps",
            _at(0, b"%!PS", b"\xc5\xd0\xd3\xc6"),
            "image/x-eps application/eps",
        ),
        row("application/rtf", ".rtf", _at(0, b"{\\rtf"), "text/rtf application/x-rtf"),
        row("application/epub+zip", ".epub", _stored_first("application/epub+zip")),
        row("application/dicom", ".dcm", _at(128, b"DICM")),
        row(
            "application/vnd.sqlite3",
            ".sqlite .sqlite3",
            _at(0, b"SQLite format 3\0"),
            "application/x-sqlite3",
        ),
        row("application/vnd.apache.parquet", ".parquet", _at(0, b"PAR1")),
        # Office: the old formats share a container, and no beginning tells them apart.
        row("application/msword", ".doc .dot", _OLE, "application/vnd.ms-word"),
        row(
            "application/vnd.ms-excel",
            ".xls .xlt",
            _OLE,
            "application/excel application/msexcel application/x-excel application/x-msexcel",
        ),
        row(
            "application/vnd.ms-powerpoint",
            ".ppt .pps .pot",
            _OLE,
            "application/mspowerpoint application/powerpoint application/x-mspowerpoint",
        ),
        row("application/vnd.ms-outlook", ".msg", _OLE),
        row("application/vnd.visio", ".vsd", _OLE, "application/x-visio"),
        row(f"{_OOXML}wordprocessingml.document", ".docx", word),
        row(f"{_OOXML}wordprocessingml.template", ".dotx", word),
        row(f"{_OOXML}spreadsheetml.sheet", ".xlsx", excel),
        row(f"{_OOXML}spreadsheetml.template", ".xltx", excel),
        row(f"{_OOXML}presentationml.presentation", ".pptx", slides),
        row(f"{_OOXML}presentationml.slideshow", ".ppsx", slides),
        row(f"{_OOXML}presentationml.template", ".potx", slides),
        row(f"{_MACROS}word.document.macroenabled.12", ".docm", word),
        row(f"{_MACROS}excel.sheet.macroenabled.12", ".xlsm", excel),
        row(f"{_MACROS}excel.sheet.binary.macroenabled.12", ".xlsb", excel),
        row(f"{_MACROS}powerpoint.presentation.macroenabled.12", ".pptm", slides),
        *(
            row(_ODF + kind, suffix, _stored_first(_ODF + kind))
            for kind, suffix in (
                *(("text", ".odt"), ("spreadsheet", ".ods"), ("presentation", ".odp")),
                *(("graphics", ".odg"), ("text-template", ".ott")),
                *(("spreadsheet-template", ".ots"), ("presentation-template", ".otp")),
            )
        ),
        # Archives, and what is compressed.
        row(
            "application/zip",
            ".zip",
            _at(0, _ZIP, b"PK\5\6"),
            "application/x-zip-compressed application/x-zip application/zip-compressed",
        ),
        row(
            "application/gzip",
            ".gz .tgz",
            _at(0, b"\x1f\x8b\x08"),
            "application/x-gzip application/x-compressed-tar application/x-tgz "
            "application/gzip-compressed application/gzipped",
        ),
        row(
            "application/x-bzip2",
            ".bz2 .tbz .tbz2",
            _at(0, b"BZh"),
            "application/bzip2 application/x-bzip application/x-bzip-compressed-tar "
            "application/x-bzip2-compressed-tar",
        ),
        row(
            "application/x-xz",
            ".xz .txz",
            _at(0, b"\xfd7zXZ\0"),
            "application/xz application/x-xz-compressed-tar",
        ),
        row(
            "application/zstd",
            ".zst .tzst",
            _at(0, b"\x28\xb5\x2f\xfd"),
            "application/x-zstd application/x-zstd-compressed-tar",
        ),
        row(
            "application/x-lz4",
            ".lz4",
            _at(0, b"\x04\x22\x4d\x18"),
            "application/lz4 application/x-lz4-compressed-tar",
        ),
        row("application/x-lzip", ".lz", _at(0, b"LZIP"), "application/lzip"),
        row("application/x-compress", ".z", _at(0, b"\x1f\x9d")),
        row("application/x-7z-compressed", ".7z", _at(0, b"7z\xbc\xaf\x27\x1c")),
        row(
            "application/vnd.rar",
            ".rar",
            _at(0, b"Rar!\x1a\x07"),
            "application/x-rar-compressed application/x-rar application/rar",
        ),
        row(
            "application/x-tar",
            ".tar",
            _at(257, b"ustar"),
            "application/tar application/x-gtar application/x-ustar",
        ),
        row(
            "application/java-archive",
            ".jar .war .ear",
            _has(_ZIP, b"META-INF/"),
            "application/x-java-archive",
        ),
        row("application/x-iso9660-image", ".iso", _at(32769, b"CD001")),
        # Sound and film.
        row("audio/mpeg", ".mp3", _mpeg_audio, mp3),
        row("audio/wav", ".wav", _riff(b"WAVE"), "audio/x-wav audio/wave audio/vnd.wave"),
        row("audio/ogg", ".ogg .oga .opus", ogg, "audio/opus application/ogg"),
        row("audio/flac", ".flac", _at(0, b"fLaC"), "audio/x-flac"),
        row(
            "audio/aac",
            ".aac",
            _at(0, b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9", b"ADIF"),
            "audio/x-aac audio/aacp",
        ),
        row(
            "audio/mp4",
            ".m4a .m4b",
            _brands(b"M4A", b"M4B", b"mp4", b"iso", b"dash"),
            "audio/m4a audio/x-m4a audio/x-m4b",
        ),
        row("audio/aiff", ".aif .aiff", _has(b"FORM", b"AIFF", b"AIFC"), "audio/x-aiff"),
        row("audio/midi", ".mid .midi", _at(0, b"MThd"), "audio/mid audio/x-midi"),
        row("audio/amr", ".amr", _at(0, b"#!AMR")),
        row("audio/webm", ".weba", _has(_EBML, b"webm")),
        row(
            "video/mp4",
            ".mp4 .m4v",
            _brands(b"mp4", b"iso", b"avc1", b"M4V", b"MSNV", b"dash"),
            "video/x-m4v application/mp4",
        ),
        row("video/quicktime", ".mov .qt", _quicktime),
        row("video/3gpp", ".3gp", _brands(b"3gp"), "audio/3gpp"),
        row("video/3gpp2", ".3g2", _brands(b"3g2"), "audio/3gpp2"),
        row("video/webm", ".webm", _has(_EBML, b"webm")),
        row(
            "video/matroska",
            ".mkv",
            _has(_EBML, b"matroska"),
            "video/x-matroska application/x-matroska audio/x-matroska",
        ),
        row("video/ogg", ".ogv", ogg),
        row("video/x-msvideo", ".avi", _riff(b"AVI "), "video/avi video/msvideo video/vnd.avi"),
        row("video/mpeg", ".mpg .mpeg", _at(0, b"\0\0\1\xba", b"\0\0\1\xb3")),
        row("video/mp2t", ".m2ts .mts", lambda head: head[:377:188] == b"GGG"),
        row(
            "video/x-ms-wmv",
            ".wmv .asf",
            _at(0, bytes.fromhex("3026b2758e66cf11")),
            "video/x-ms-asf audio/x-ms-wma application/vnd.ms-asf",
        ),
        row("video/x-flv", ".flv", _at(0, b"FLV\1")),
        # Fonts and programs.
        row("font/ttf", ".ttf", _at(0, b"\0\1\0\0", b"true"), "application/x-font-ttf"),
        row("font/otf", ".otf", _at(0, b"OTTO"), "application/x-font-otf"),
        row("font/woff", ".woff", _at(0, b"wOFF"), "application/font-woff"),
        row("font/woff2", ".woff2", _at(0, b"wOF2")),
        row("application/wasm", ".wasm", _at(0, b"\0asm")),
        row(
            "application/vnd.microsoft.portable-executable",
            ".exe .dll",
            _at(0, b"MZ"),
            "application/x-msdownload application/x-dosexec application/x-msdos-program",
        ),
        row("application/x-executable", ".elf", _at(0, b"\x7fELF"), "application/x-elf"),
        # Text, besides all that begins with `text/` or ends with `+json`, `+xml` or `+yaml`.
        row("text/plain", ".txt .text .log .conf .ini .srt", None),
        row("text/csv", ".csv", None, "application/csv text/x-csv"),
        row("text/tab-separated-values", ".tsv", None),
        row("text/markdown", ".md .markdown", None),
        row("text/html", ".html .htm", None),
        row("text/css", ".css", None),
        row(
            "text/javascript",
            ".js .mjs",
            None,
            "application/javascript application/x-javascript application/ecmascript",
        ),
        row("text/calendar", ".ics", None),
        row("text/vcard", ".vcf", None, "text/x-vcard"),
        row("text/vtt", ".vtt", None),
        row("application/json", ".json", None, "text/json text/x-json"),
        row(
            "application/x-ndjson",
            ".ndjson .jsonl",
            None,
            "application/jsonl application/x-jsonlines application/ndjson",
        ),
        row("application/xml", ".xml .xsd .xsl", None, "text/xml application/x-xml"),
        row("application/yaml", ".yaml .yml", None, "application/x-yaml text/yaml text/x-yaml"),
        row("application/toml", ".toml", None, "text/x-toml"),
        row("application/sql", ".sql", None, "text/x-sql"),
        row("application/x-sh", ".sh", None, "application/x-shellscript text/x-sh"),
        row("application/x-subrip", "", None),
        row("application/x-pem-file", ".pem", None),
        row("application/mbox", ".mbox", None),
        row("message/rfc822", ".eml", None),
        row("image/svg+xml", ".svg", None),
    )


TYPES = {one.name: one for one in _table()}
"""Every type by its canonical name."""
_NAMES = {alias: one.name for one in TYPES.values() for alias in (one.name, *one.aliases)}
_SUFFIXES = {suffix: one.name for one in TYPES.values() for suffix in one.suffixes}


def bare(content_type: str) -> str:
    """A content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def canonical(content_type: str) -> str:
    """The one name of a type, whichever of its names is given.

    ::

        canonical("image/JPG")  # "image/jpeg"
        canonical("text/xml; charset=utf-8")  # "application/xml"
    """
    name = bare(content_type)
    return _NAMES.get(name, name)


def charset_of(content_type: str) -> str | None:
    """The charset that a content type names, in lower case."""
    message = Message()
    message["content-type"] = content_type
    return message.get_content_charset()


def is_text(name: str) -> bool:
    """Whether a type, by its canonical name, is text."""
    if name in TYPES:
        return TYPES[name].proves is None
    return name.startswith("text/") or name.endswith(("+json", "+xml", "+yaml"))


def guess(filename: str) -> str:
    """The type of a file by its last suffix; octets where that says nothing.

    `notes.tar.gz` is what its last suffix says: the document is compressed, whatever is within.
    """
    return _SUFFIXES.get(PurePath(filename).suffix.lower(), OCTETS)

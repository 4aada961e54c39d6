"""What a key may be issued for can be proven when it is completed, by whichever name it goes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mimetypes
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.valet import content
from recourse.valet.errors import UnknownTypeError, WrongTypeError
from recourse.valet.types import OCTETS, TYPES, canonical, guess, is_text
from tests.recorded import VALET_KEYS
from tests.valet.conftest import BUCKET, PDF, TABLE, Ground, problem

TEXT = "name,größe\nkettle,5\n"


def archive(*names: str, first: str = "") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as written:
        if first:
            written.writestr("mimetype", first)
        for name in names:
            written.writestr(name, "<x/>")
    return made.getvalue()


def tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as written:
        written.addfile(tarfile.TarInfo("a"))
    return made.getvalue()


def media(major: bytes, *compatible: bytes) -> bytes:
    brands = major + bytes(4) + b"".join(compatible)
    return (len(brands) + 8).to_bytes(4) + b"ftyp" + brands + bytes(40)


OLE = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504)
BMP = b"BM" + (70).to_bytes(4, "little") + bytes(4) + b"\x36\0\0\0\x28\0\0\0" + bytes(52)
SAMPLES = {
    "image/png": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(60),
    "image/gif": b"GIF89a" + bytes(60),
    "image/webp": b"RIFF\x10\0\0\0WEBPVP8 " + bytes(60),
    "image/tiff": b"II*\0" + bytes(60),
    "image/bmp": BMP,
    "image/heic": media(b"heic", b"mif1", b"heic"),
    "image/heif": media(b"mif1", b"mif1"),
    "image/avif": media(b"avif", b"mif1", b"miaf"),
    "image/jxl": b"\xff\x0a" + bytes(60),
    "image/jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
    "image/vnd.microsoft.icon": b"\0\0\1\0\1\0" + bytes(60),
    "image/vnd.adobe.photoshop": b"8BPS\0\1" + bytes(60),
    "image/vnd.djvu": b"AT&TFORM\0\0\0\0DJVU" + bytes(60),
    "application/pdf": PDF,
    "application/postscript": b"%!PS-Adobe-3.0\n",
    "application/rtf": b"{\\rtf1\\ansi hello}",
    "application/epub+zip": archive("OEBPS/a", first="application/epub+zip"),
    "application/dicom": bytes(128) + b"DICM" + bytes(60),
    "application/vnd.sqlite3": b"SQLite format 3\0" + bytes(84),
    "application/vnd.apache.parquet": b"PAR1" + bytes(60),
    **dict.fromkeys(
        [
            *("application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"),
            *("application/vnd.ms-outlook", "application/vnd.visio"),
        ],
        OLE,
    ),
    "application/zip": archive("a.txt"),
    "application/gzip": gzip.compress(b"a", mtime=0),
    "application/x-bzip2": bz2.compress(b"a"),
    "application/x-xz": lzma.compress(b"a"),
    "application/zstd": b"\x28\xb5\x2f\xfd" + bytes(60),
    "application/x-lz4": b"\x04\x22\x4d\x18" + bytes(60),
    "application/x-lzip": b"LZIP\1" + bytes(60),
    "application/x-compress": b"\x1f\x9d\x90" + bytes(60),
    "application/x-7z-compressed": b"7z\xbc\xaf\x27\x1c" + bytes(60),
    "application/vnd.rar": b"Rar!\x1a\x07\1\0" + bytes(60),
    "application/x-tar": tar(),
    "application/java-archive": archive("META-INF/MANIFEST.MF"),
    "application/x-iso9660-image": bytes(32769) + b"CD001" + bytes(60),
    "audio/mpeg": b"\xff\xfb\x90\x00" + bytes(60),
    "audio/wav": b"RIFF\x10\0\0\0WAVEfmt " + bytes(60),
    "audio/ogg": b"OggS\0\2" + bytes(60),
    "audio/flac": b"fLaC\0" + bytes(60),
    "audio/aac": b"\xff\xf1\x50\x80" + bytes(60),
    "audio/mp4": media(b"M4A ", b"isom", b"mp42"),
    "audio/aiff": b"FORM\0\0\0\0AIFFCOMM" + bytes(60),
    "audio/midi": b"MThd\0\0\0\6" + bytes(60),
    "audio/amr": b"#!AMR\n" + bytes(60),
    "audio/webm": b"\x1a\x45\xdf\xa3\x01\x42\x82\x84webm" + bytes(60),
    "video/mp4": media(b"isom", b"isom", b"avc1"),
    "video/quicktime": media(b"qt  ", b"qt  "),
    "video/3gpp": media(b"3gp5", b"isom"),
    "video/3gpp2": media(b"3g2a"),
    "video/webm": b"\x1a\x45\xdf\xa3\x01\x42\x82\x84webm" + bytes(60),
    "video/matroska": b"\x1a\x45\xdf\xa3\x01\x42\x82\x88matroska" + bytes(60),
    "video/ogg": b"OggS\0\2" + bytes(60),
    "video/x-msvideo": b"RIFF\x10\0\0\0AVI LIST" + bytes(60),
    "video/mpeg": b"\0\0\1\xba" + bytes(60),
    "video/mp2t": (b"G" + bytes(187)) * 3,
    "video/x-ms-wmv": bytes.fromhex("3026b2758e66cf11") + bytes(60),
    "video/x-flv": b"FLV\1\5" + bytes(60),
    "font/ttf": b"\0\1\0\0\0\x12" + bytes(60),
    "font/otf": b"OTTO\0\x12" + bytes(60),
    "font/woff": b"wOFF" + bytes(60),
    "font/woff2": b"wOF2" + bytes(60),
    "application/wasm": b"\0asm\1\0\0\0",
    "application/vnd.microsoft.portable-executable": b"MZ\x90\x00" + bytes(200),
    "application/x-executable": b"\x7fELF\2\1\1" + bytes(60),
}
for name in TYPES:
    for part, folder in (
        ("wordprocessing", "word"),
        ("spreadsheet", "xl"),
        ("presentation", "ppt"),
    ):
        if f"openxmlformats-officedocument.{part}" in name:
            SAMPLES[name] = archive("[Content_Types].xml", "_rels/.rels", f"{folder}/a.xml")
    for part, folder in (("word", "word"), ("excel", "xl"), ("powerpoint", "ppt")):
        if name.startswith(f"application/vnd.ms-{part}.") and name.endswith(".12"):
            SAMPLES[name] = archive("[Content_Types].xml", "_rels/.rels", f"{folder}/a.bin")
    if "oasis.opendocument" in name:
        SAMPLES[name] = archive("content.xml", first=name)
    if is_text(name):
        SAMPLES[name] = TEXT.encode()
NAMES = [(alias, one.name) for one in TYPES.values() for alias in (one.name, *one.aliases)]
ALIKE = [
    {name for name in TYPES if SAMPLES[name][:8] == OLE[:8]},
    {name for name in TYPES if SAMPLES[name].startswith(b"PK")},
    {name for name in TYPES if SAMPLES[name].startswith(b"OggS")},
    {name for name in TYPES if SAMPLES[name][4:8] == b"ftyp"},
    {name for name in TYPES if SAMPLES[name].startswith(b"\x1a\x45\xdf\xa3")},
    {
        name
        for name in TYPES
        if is_text(name) or name in ("application/rtf", "application/postscript")
    },
    {"application/dicom", "application/x-iso9660-image"},
]
"""Sets of types whose samples may pass for each other: a container, or text."""


def refused(content_type: str, head: bytes) -> bool:
    try:
        content.check(content_type, head)
    except WrongTypeError:
        return True
    return False


@pytest.mark.parametrize(("name", "meant"), NAMES)
def test_what_may_be_issued_is_accepted_by_any_of_its_names(name: str, meant: str) -> None:
    assert canonical(name) == canonical(name.upper()) == meant
    content.checkable(name)
    content.check(name, SAMPLES[meant])


@given(st.sampled_from(NAMES), st.sampled_from(sorted(SAMPLES)))
def test_what_is_of_another_type_is_refused(name: tuple[str, str], of: str) -> None:
    alike = name[1] == of or any({name[1], of} <= those for those in ALIKE)
    assert refused(name[0], SAMPLES[of]) or alike


@given(st.sampled_from(sorted(set(TYPES) - set().union(*ALIKE))), st.binary(max_size=200))
def test_noise_is_no_type(name: str, noise: bytes) -> None:
    assert refused(name, b"\x01\x02" + noise)


def test_office_documents_do_not_pass_for_each_other() -> None:
    word, sheet = (SAMPLES[canonical(guess(name))] for name in ("a.docx", "a.xlsx"))
    assert refused(guess("a.docx"), sheet) and refused(guess("a.xlsx"), word)
    assert refused(guess("a.odt"), SAMPLES[guess("a.ods")])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("a.tar.gz", "application/gzip"), ("a.tgz", "application/gzip")),
        *(("a.csv.gz", "application/gzip"), ("a.tar.xz", "application/x-xz")),
        *(("a.tar.bz2", "application/x-bzip2"), ("a.tar", "application/x-tar")),
        *(("IMG_0001.HEIC", "image/heic"), ("a.bmp", "image/bmp"), ("a.JPG", "image/jpeg")),
        *(("a.xls", "application/vnd.ms-excel"), ("a.xml", "application/xml")),
        *(("a.md", "text/markdown"), ("a.html.br", OCTETS), ("a", OCTETS), (".csv", OCTETS)),
    ],
)
def test_a_type_is_guessed_by_the_last_suffix(name: str, kind: str) -> None:
    assert guess(name) == kind


def test_each_suffix_and_each_name_means_one_type() -> None:
    for of in ("suffixes", "aliases"):
        named = [name for one in TYPES.values() for name in getattr(one, of)]
        assert len(named) == len(set(named))
    assert not TYPES.keys() & {alias for one in TYPES.values() for alias in one.aliases}


def test_what_the_standard_library_guesses_is_a_name_that_is_known() -> None:
    known = {name for name, _ in NAMES}
    # Its own: what guesses for a whole process also reads the machine's files, once somebody asks.
    _, standard = mimetypes.MimeTypes().types_map
    differ = {
        suffix: (guessed, guess(f"a{suffix}"))
        for one in TYPES.values()
        for suffix in one.suffixes
        if (guessed := standard.get(suffix))
        and guessed in known
        and canonical(guessed) != guess(f"a{suffix}")
    }
    assert differ == {}


# Text.


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv; charset=windows-1252", TEXT.encode("cp1252")),
        ('text/csv; header=present; CHARSET="ISO-8859-1"', TEXT.encode("latin-1")),
        ("text/plain; charset=utf-16", TEXT.encode("utf-16")),
        ("text/plain; charset=UTF-16LE", TEXT.encode("utf-16-le")),
        ("text/plain", TEXT.encode("utf-16")),
        ("text/plain", TEXT.encode("utf-8-sig")),
        ("text/plain; charset=Shift_JIS", "日本語".encode("shift_jis")),
        (
            "application/xml",
            '<?xml version="1.0" encoding="ISO-8859-1"?><a>ö</a>'.encode("latin-1"),
        ),
        ("text/xml", "<?xml version='1.0' encoding='windows-1251'?><a>ж</a>".encode("cp1251")),
        ("image/svg+xml", '<?xml version="1.0" encoding="utf-16"?><a>ö</a>'.encode("utf-16")),
        ("application/xml", '<?xml version="1.0" encoding="utf-16"?><a>ö</a>'.encode()),
        ("text/html", '<meta charset="windows-1252"><p>ö'.encode("cp1252")),
        ("text/css", '@charset "iso-8859-1"; a::after{content:"ö"}'.encode("latin-1")),
        ("application/ld+json", b'{"a": 1}'),
    ],
)
def test_text_is_judged_by_its_own_charset(valet: Ground, content_type: str, body: bytes) -> None:
    assert valet.uploaded("a", body, content_type=content_type)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", "größe".encode("latin-1")),
        ("text/plain; charset=us-ascii", "größe".encode()),
        ("text/plain; charset=windows-1252", gzip.compress(b"a" * 100, mtime=0)),
        ("text/plain; charset=iso-8859-1", b"MZ\x90\x00" + bytes(200)),
        ("text/plain; charset=utf-16", b"\xff\xfea"),
        ("application/xml", b'<?xml version="1.0" encoding="x-none"?><a/>'),
        ("text/xml; charset=shift_jis", b"\xff\xff\xff"),
    ],
)
def test_what_is_no_text_of_its_charset_is_quarantined(
    valet: Ground, content_type: str, body: bytes
) -> None:
    key = valet.issue(body=body, content_type=content_type)["key_id"]
    valet.land(key, body)
    problem(valet.complete(key), 422, "wrong-content")


@given(
    st.sampled_from(sorted(content.CHARSETS)),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
)
def test_text_in_any_charset_that_is_taken_is_text(charset: str, text: str) -> None:
    kind = f"text/plain; charset={charset}"
    content.checkable(kind)
    content.check(kind, text.encode(charset))


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        ("application/x-nobody", ["application/octet-stream", "image/heic", "text/*"]),
        ("application/vnd.google-earth.kmz", ["application/zip"]),
        ("text/plain; charset=klingon", ["'klingon'", "utf-16", "windows-125x"]),
        ("text/plain; charset=base64", ["'base64'"]),
    ],
)
def test_what_cannot_be_proven_is_refused_when_the_key_is_issued(
    valet: Ground, content_type: str, says: Iterable[str]
) -> None:
    wanted = {"content_type": content_type, "content_length": 3, "sha256": "0" * 64}
    body = {"operation": "upload", "object": "a", "upload": wanted}
    answer = valet.call("POST", "/valet-keys", body)
    problem(answer, 422, "unknown-content-type")
    assert "upload.content_type" in answer.text
    assert all(what in answer.json["detail"] for what in says)
    with pytest.raises(UnknownTypeError):
        content.checkable(content_type)


@pytest.mark.parametrize(
    ("content_type", "body", "served"),
    [
        ("text/csv; charset=Windows-1252", "ö".encode("cp1252"), "text/csv; charset=windows-1252"),
        ("image/jpg", SAMPLES["image/jpeg"], "image/jpeg"),
        ("text/html; charset=utf-8", b"<p>", OCTETS),
    ],
)
def test_a_download_is_served_by_its_one_name_and_its_charset(
    valet: Ground, content_type: str, body: bytes, served: str
) -> None:
    valet.uploaded("a", body, content_type=content_type)
    url = valet.redeem(valet.issue("download", "a")["token"]).json["url"]
    assert parse_qs(urlsplit(url).query)["response-content-type"] == [served]


RECORDED = {one["row"]["object"]["S"]: one for one in VALET_KEYS}


def recorded(valet: Ground, name: str) -> tuple[str, bytes]:
    """The id of a key that an earlier release has issued, and what it is for."""
    row = RECORDED[name]["row"]
    valet.dynamodb.put_item(TableName=TABLE, Item=row)
    return row["pk"]["S"].removeprefix("key#"), bytes.fromhex(RECORDED[name]["body"])


@pytest.mark.parametrize(
    ("name", "proven"), [("plans/house.dwg", OCTETS), ("stock.csv", "text/csv")], ids=RECORDED
)
@pytest.mark.parametrize("by_event", [False, True])
def test_the_upload_of_a_key_from_before_is_visible_as_what_is_proven_of_it(
    valet: Ground, name: str, proven: str, by_event: bool
) -> None:
    key, body = recorded(valet, name)
    with pytest.raises(UnknownTypeError):
        content.checkable(valet.show(key).json["upload"]["content_type"])
    valet.land(key, body)
    if by_event:
        valet.tell(key)
    done = valet.complete(key)
    assert (done.status, done.json["content_type"]) == (200, proven)
    assert valet.stored("quarantine/") == []
    down = valet.redeem(valet.issue("download", name)["token"])
    assert parse_qs(urlsplit(down.json["url"]).query)["response-content-type"] == [proven]
    (at,) = valet.stored("objects/")
    assert valet.s3.head_object(Bucket=BUCKET, Key=at)["ContentType"] == proven


@pytest.mark.parametrize(
    ("name", "landed", "kind"),
    [
        ("plans/house.dwg", b"AC1015" + bytes(58), "wrong-hash"),
        ("plans/house.dwg", b"AC1032", "wrong-length"),
        ("stock.csv", b"name,price\nkettle,480\n", "wrong-hash"),
    ],
)
def test_the_upload_of_a_key_from_before_is_still_exactly_what_it_says(
    valet: Ground, name: str, landed: bytes, kind: str
) -> None:
    key, body = recorded(valet, name)
    assert kind == "wrong-length" or len(landed) == len(body)
    valet.land(key, landed)
    problem(valet.complete(key), 422, kind)
    assert valet.stored("objects/") == []


@pytest.mark.parametrize("body", [b"\xff\xfe\xfd", b"a,b\0"])
def test_text_of_a_key_from_before_in_a_charset_that_nobody_knows_is_utf_8(body: bytes) -> None:
    with pytest.raises(WrongTypeError):
        content.check("text/csv; charset=x-user-defined", body)


@given(st.sampled_from(NAMES), st.sampled_from(sorted(SAMPLES)))
def test_what_is_proven_is_what_the_key_says(name: tuple[str, str], of: str) -> None:
    if not refused(name[0], SAMPLES[of]):
        assert content.check(name[0], SAMPLES[of]) == name[0]


def test_every_type_is_in_the_documentation() -> None:
    page = Path("docs/valet-keys.md").read_text()
    missing = [
        name for name in TYPES if not name.startswith("text/") and name.split("/")[1] not in page
    ]
    assert missing == []

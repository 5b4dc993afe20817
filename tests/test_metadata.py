"""What is told about a picture survives in every format, is true of the result, and never stands in the way of it.

Pillow and, where it is installed, ExifTool are the independent readers and writers.
"""

import io
import json
import logging
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, IptcImagePlugin, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from classsr.errors import UsageError
from classsr.image import (
    Color,
    Metadata,
    Picture,
    Policy,
    containers,
    create_picture,
    exif,
    open_picture,
    read,
    write,
    writing,
)
from classsr.image.iptc import wrapped
from classsr.image.xmp import MAX_BYTES
from pictures import noise

Array = npt.NDArray[Any]

SUFFIXES = [".png", ".jpg", ".webp", ".tif", ".avif"]
HEIGHT, WIDTH, SCALE = 24, 40, 4
PHOTO, GPS, ORIENTATION = 0x8769, 0x8825, 0x0112

IMAGE_TOLD = {
    0x010E: "Cranes at dawn",
    0x010F: "Kamera & Co",
    0x0110: "Model 7",
    0x0131: "Firmware 1.2",
    0x0132: "2020:01:03 08:00:00",
    0x013B: "A. Photographer",
    0x8298: "(c) 2020",
}
PHOTO_TOLD = {
    0x829A: IFDRational(1, 250),
    0x829D: IFDRational(28, 10),
    0x8827: 400,
    0x9003: "2020:01:02 03:04:05",
    0x9010: "+01:00",
    0x920A: IFDRational(355, 10),
    0xA432: (IFDRational(24), IFDRational(70), IFDRational(28, 10), IFDRational(4)),
    0xA434: "Lens 24-70",
}
PRIVATE = {0x9286: b"ASCII\0\0\0SECRET", 0xA420: "SECRET", 0xA431: "SECRET", 0xA435: "SECRET"}
DEGREES = (IFDRational(59), IFDRational(26), IFDRational(145, 10))
GPS_TOLD = {1: "N", 2: DEGREES, 3: "E", 4: DEGREES, 29: "2020:01:02"}
IPTC_TOLD = b"\x1c\x02\x78\0\x06cranes" + b"\x1c\x02\x5a\0\x07Tallinn"

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="uuid:SECRET" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:aux="http://ns.adobe.com/exif/1.0/aux/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:odd="http://example.org/odd/"
    tiff:Orientation="6" tiff:ImageWidth="40" exif:PixelXDimension="40" exif:GPSLatitude="59,26.2N"
    aux:SerialNumber="SECRET" aux:Lens="Lens 24-70" photoshop:City="SECRET" odd:told="SECRET"/>
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Žürich &lt;1&gt;</rdf:li></rdf:Alt></dc:title>
   <exif:PixelYDimension>24</exif:PixelYDimension>
   <xmp:Thumbnails><rdf:Alt><rdf:li>SMALL</rdf:li></rdf:Alt></xmp:Thumbnails>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""

P3: bytes = pyvips.Operation.call("profile_load", "p3")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs ExifTool")


def smooth() -> Array:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    unit = np.stack([x / WIDTH, y / HEIGHT, (x + y) / (HEIGHT + WIDTH)], axis=2)
    return np.asarray((255 * unit).round(), np.uint8)


def exif_told(orientation: int = 1) -> Image.Exif:
    told = Image.Exif()
    told.update(IMAGE_TOLD)
    told[ORIENTATION] = orientation
    sizes = {0xA002: WIDTH, 0xA003: HEIGHT}
    told[PHOTO] = PHOTO_TOLD | PRIVATE | sizes | {0x927C: b"MAKER" * 9}
    told[GPS] = GPS_TOLD
    return told


def make_source(path: Path, *, orientation: int = 1, packet: str | None = PACKET) -> Path:
    """Write a picture that tells everything, with Pillow."""
    told = exif_told(orientation)
    options: dict[str, Any] = {"quality": 95} if path.suffix != ".png" else {}
    if packet is not None and path.suffix == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", packet)
    elif packet is not None and path.suffix == ".tif":
        told[700] = packet.encode()
    elif packet is not None:
        options["xmp"] = packet.encode()
    Image.fromarray(smooth()).save(path, exif=told.tobytes(), **options)
    return path


def enlarge(source: Path, output: Path, *, metadata: Policy = "all", color: Color = "keep") -> Path:
    """Write a picture, each pixel repeated, with all that it carries."""
    picture = read(source, metadata=metadata, color=color)
    rgb = picture.rgb.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    write(replace(picture, rgb=rgb), output)
    return output


def exif_of(path: Path) -> dict[str, dict[int, Any]]:
    """What Pillow finds: without pointers to other directories, and of TIFF without how it is stored."""
    with Image.open(path) as opened:
        told = opened.getexif()
        stored = {*range(0xFE, 0x10A), *range(0x111, 0x11E), 0x128, 0x13D, 0x153, 700, 33723}
        left_out = {PHOTO, GPS} | (stored - {ORIENTATION} if path.suffix == ".tif" else set())
        image = {tag: value for tag, value in told.items() if tag not in left_out}
        return {"image": image, "photo": dict(told.get_ifd(PHOTO)), "gps": dict(told.get_ifd(GPS))}


def xmp_of(path: Path) -> str | None:
    with Image.open(path) as opened:
        packet = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp")
        return packet.decode() if isinstance(packet, bytes) else packet


def iptc_of(path: Path) -> dict[tuple[int, int], Any]:
    with Image.open(path) as opened:
        return IptcImagePlugin.getiptcinfo(opened) or {}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("classsr.image") and record.levelno >= logging.WARNING
    ]


every_source = pytest.mark.parametrize("source", SUFFIXES, ids=lambda suffix: f"from{suffix}")
every_output = pytest.mark.parametrize("output", SUFFIXES, ids=lambda suffix: f"to{suffix}")


# --- Kept ---


@every_source
@every_output
def test_exif_and_xmp_go_from_every_format_to_every_format(
    tmp_path: Path, source: str, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    enlarged = enlarge(make_source(tmp_path / f"a{source}"), tmp_path / f"b{output}")

    told = exif_of(enlarged)
    sizes = {0xA002: SCALE * WIDTH, 0xA003: SCALE * HEIGHT}
    assert told["image"].pop(ORIENTATION, 1) == 1
    assert told["image"] == IMAGE_TOLD
    assert told["photo"] == PHOTO_TOLD | PRIVATE | sizes
    assert told["gps"] == GPS_TOLD
    packet = xmp_of(enlarged)
    assert packet is not None
    assert packet.startswith('<?xpacket begin="\ufeff"')
    assert packet.endswith('<?xpacket end="w"?>')
    assert "Žürich &lt;1&gt;" in packet
    assert 'odd:told="SECRET"' in packet
    assert not warnings_in(caplog)


@every_output
def test_nothing_is_made_up_for_a_source_that_tells_nothing(tmp_path: Path, output: str) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.png")

    enlarged = enlarge(tmp_path / "a.png", tmp_path / f"b{output}")

    told = exif_of(enlarged)
    told["image"].pop(ORIENTATION, None)  # which libvips writes into every TIFF file
    assert told == {"image": {}, "photo": {}, "gps": {}}
    assert xmp_of(enlarged) is None
    assert not iptc_of(enlarged)


@needs_exiftool
@every_output
def test_exiftool_reads_what_it_read_in_the_source(tmp_path: Path, output: str) -> None:
    source = make_source(tmp_path / "a.jpg")

    before = by_exiftool(source)
    after = by_exiftool(enlarge(source, tmp_path / f"b{output}"))

    changed = {"ExifIFD:ExifImageWidth", "ExifIFD:ExifImageHeight", "IFD0:Orientation"}
    gone = {"XMP-tiff:Orientation", "XMP-tiff:ImageWidth", "XMP-exif:ExifImageWidth"}
    gone |= {"XMP-exif:ExifImageHeight", "XMP-xmp:Thumbnails"}
    expected = {name: value for name, value in before.items() if name not in changed | gone}
    assert {name: after.get(name) for name in expected} == expected
    assert not {name for name in after if name in gone or "Maker" in name or "IFD1" in name}


def by_exiftool(path: Path) -> dict[str, Any]:
    """What ExifTool finds of EXIF and XMP, by group and name; it must have nothing to complain about."""
    command = ["exiftool", "-json", "-G1", "-n", "-a", "-warning", "-all", str(path)]
    [found] = json.loads(subprocess.check_output(command))
    assert "ExifTool:Warning" not in found
    groups = ("IFD0", "ExifIFD", "GPS", "XMP")
    stored = re.compile(
        "IFD0:(Image|Bits|Compr|Photom|Strip|Samples|Rows|[XY]Res|Resol|Planar|Pred|Sample|YCbCr)"
    )
    return {
        name: value
        for name, value in found.items()
        if name.startswith(groups) and not stored.match(name) and "MakerNote" not in name
    }


@needs_exiftool
def test_a_thumbnail_of_the_small_picture_is_dropped(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    told = Image.Exif()
    told.update(IMAGE_TOLD)
    Image.fromarray(smooth()).save(source, exif=told)
    Image.fromarray(smooth()[::4, ::4]).save(tmp_path / "small.jpg")
    command = ["exiftool", "-q", f"-ThumbnailImage<={tmp_path / 'small.jpg'}", str(source)]
    subprocess.run(command, check=True)
    with Image.open(source) as opened:
        assert opened.getexif().get_ifd(ExifTags.IFD.IFD1)

    enlarged = enlarge(source, tmp_path / "b.jpg")

    with Image.open(enlarged) as opened:
        assert not opened.getexif().get_ifd(ExifTags.IFD.IFD1)
        assert opened.getexif()[0x010F] == "Kamera & Co"


@every_source
@pytest.mark.parametrize("output", [".jpg", ".tif"])
def test_the_iptc_record_goes_where_there_is_a_place_for_it(
    tmp_path: Path, source: str, output: str
) -> None:
    path = tmp_path / f"a{source}"
    has_place = source in (".jpg", ".tif")
    write(Picture(smooth(), metadata=Metadata(iptc=IPTC_TOLD if has_place else None)), path)

    enlarged = enlarge(path, tmp_path / f"b{output}")

    expected = {(2, 120): b"cranes", (2, 90): b"Tallinn"} if has_place else {}
    assert iptc_of(enlarged) == expected


def test_an_iptc_record_of_photoshop_is_found_among_its_resources(tmp_path: Path) -> None:
    other = b"8BIM" + struct.pack(">H", 0x0425) + b"\3odd" + struct.pack(">I", 3) + b"abc\0"
    segment = wrapped(IPTC_TOLD).replace(b"8BIM", other + b"8BIM")
    plain = io.BytesIO()
    Image.fromarray(smooth()).save(plain, "JPEG")
    marker = b"\xff\xed" + struct.pack(">H", 2 + len(segment))
    content = plain.getvalue()
    (tmp_path / "a.jpg").write_bytes(content[:2] + marker + segment + content[2:])

    assert read(tmp_path / "a.jpg").metadata.iptc == IPTC_TOLD


@pytest.mark.parametrize("output", [".png", ".webp", ".avif"])
def test_an_iptc_record_without_a_place_is_named_in_the_log(
    tmp_path: Path, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(Picture(smooth(), metadata=Metadata(iptc=IPTC_TOLD)), tmp_path / f"a{output}")

    [warning] = warnings_in(caplog)
    assert "IPTC record" in warning
    assert "no place" in warning


def test_previews_in_the_iptc_record_are_dropped(tmp_path: Path) -> None:
    large = b"\x1c\x02\xca\x80\x04" + struct.pack(">I", 40_000) + bytes(40_000)
    write(Picture(smooth(), metadata=Metadata(iptc=large + IPTC_TOLD)), tmp_path / "a.tif")

    assert read(tmp_path / "a.tif").metadata.iptc == IPTC_TOLD


def test_a_record_of_swapped_numbers_is_turned_back(tmp_path: Path) -> None:
    record = IPTC_TOLD + bytes(-len(IPTC_TOLD) % 4)
    numbers = np.frombuffer(record, ">u4").astype("<u4")
    tags = [(33723, 4, numbers.size, numbers.tolist(), True)]
    tifffile.imwrite(tmp_path / "a.tif", smooth(), photometric="rgb", extratags=tags)

    assert read(tmp_path / "a.tif").metadata.iptc == IPTC_TOLD


# --- True of the result ---


@every_source
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(tmp_path: Path, source: str, orientation: int) -> None:
    path = make_source(tmp_path / f"a{source}", orientation=orientation)

    enlarged = enlarge(path, tmp_path / "b.jpg")

    told = exif_of(enlarged)
    height, width = read(path).rgb.shape[:2]
    assert (width > height) == (orientation <= 4)
    assert told["image"].get(ORIENTATION, 1) == 1
    assert (told["photo"][0xA002], told["photo"][0xA003]) == (SCALE * width, SCALE * height)
    assert "tiff:Orientation" not in (xmp_of(enlarged) or "")
    np.testing.assert_array_equal(read(enlarged).rgb.shape[:2], (SCALE * height, SCALE * width))


def test_sizes_and_thumbnails_are_gone_from_xmp(tmp_path: Path) -> None:
    packet = xmp_of(enlarge(make_source(tmp_path / "a.jpg"), tmp_path / "b.png"))

    assert packet is not None
    for gone in ("Orientation", "ImageWidth", "PixelXDimension", "PixelYDimension", "SMALL"):
        assert gone not in packet


def test_a_packet_of_nothing_else_is_left_out(tmp_path: Path) -> None:
    only = re.sub(r"<rdf:Description.*</rdf:Description>", "", PACKET, flags=re.DOTALL)
    kept = (
        '<rdf:Description rdf:about="" xmlns:t="http://ns.adobe.com/tiff/1.0/" t:Orientation="6"/>'
    )
    packet = only.replace("</rdf:RDF>", f"{kept}</rdf:RDF>")

    assert read(make_source(tmp_path / "a.jpg", packet=packet)).metadata.xmp is None


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32-be", "utf-8-sig"])
def test_a_packet_may_be_in_any_unicode_encoding(tmp_path: Path, encoding: str) -> None:
    told = Image.Exif()
    told[700] = PACKET.encode(encoding)
    Image.fromarray(smooth()).save(tmp_path / "a.tif", exif=told)

    packet = read(tmp_path / "a.tif").metadata.xmp

    assert packet is not None
    assert "Žürich" in packet.decode()


# --- safe and none ---


@every_source
@every_output
def test_safe_keeps_the_rest(tmp_path: Path, source: str, output: str) -> None:
    path = make_source(tmp_path / f"a{source}")

    enlarged = enlarge(path, tmp_path / f"b{output}", metadata="safe")

    told, packet = exif_of(enlarged), xmp_of(enlarged)
    sizes = {0xA002: SCALE * WIDTH, 0xA003: SCALE * HEIGHT}
    assert told["image"] | {ORIENTATION: 1} == IMAGE_TOLD | {ORIENTATION: 1}
    assert told["photo"] == PHOTO_TOLD | sizes
    assert told["gps"] == {}
    assert packet is not None
    assert "Žürich" in packet
    assert 'aux:Lens="Lens 24-70"' in packet
    assert "GPSLatitude" not in packet
    assert "SECRET" not in packet
    assert b"SECRET" not in enlarged.read_bytes()


def test_safe_drops_the_iptc_record(tmp_path: Path) -> None:
    write(Picture(smooth(), metadata=Metadata(iptc=IPTC_TOLD)), tmp_path / "a.jpg")

    assert not iptc_of(enlarge(tmp_path / "a.jpg", tmp_path / "b.jpg", metadata="safe"))


@every_output
def test_none_keeps_the_colour_profile_alone(tmp_path: Path, output: str) -> None:
    source = make_source(tmp_path / "a.png")
    with Image.open(source) as opened:
        opened.save(tmp_path / "tagged.jpg", exif=exif_told(), icc_profile=P3, quality=95)

    enlarged = enlarge(tmp_path / "tagged.jpg", tmp_path / f"b{output}", metadata="none")

    with Image.open(enlarged) as opened:
        assert opened.info["icc_profile"] == P3
    assert exif_of(enlarged)["photo"] == exif_of(enlarged)["gps"] == {}
    assert b"Kamera" not in enlarged.read_bytes()


@pytest.mark.parametrize("option", ["metadata", "color"])
def test_an_unknown_choice_is_refused_with_the_list(tmp_path: Path, option: str) -> None:
    options: dict[str, Any] = {option: "some"}
    with pytest.raises(UsageError, match=r"(safe|srgb).*'some'"):
        read(make_source(tmp_path / "a.jpg"), **options)


# --- Damage ---


def damage(content: bytes, places: list[tuple[float, int]], length: float) -> bytes:
    damaged = bytearray(content)
    for place, value in places:
        damaged[int(place * (len(content) - 1))] = value
    return bytes(damaged[: int(length * len(content))])


PLACES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=20)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@settings(max_examples=15)
@given(places=PLACES, length=st.floats(0.1, 1))
def test_damaged_exif_never_stands_in_the_way_of_the_picture(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    places: list[tuple[float, int]],
    length: float,
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"a{suffix}"
    whole = exif_told().tobytes()
    damaged = whole[:16] + damage(whole[16:], places, length)
    Image.fromarray(smooth()).save(path, exif=damaged)

    assert read(path, metadata="safe").rgb.size == smooth().size
    enlarge(path, path.with_name(f"b{suffix}"))


@settings(max_examples=15)
@given(places=PLACES, length=st.floats(0.1, 1))
def test_damage_behind_the_pixels_of_a_tiff_file_never_stands_in_the_way_of_them(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[float, int]], length: float
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    write(read(make_source(folder / "a.jpg")), folder / "a.tif")
    content = (folder / "a.tif").read_bytes()
    (first,) = struct.unpack("<I", content[4:8])
    behind = first + 2 + 12 * struct.unpack("<H", content[first : first + 2])[0] + 4
    rest = damage(content[behind:], places, length)
    (folder / "a.tif").write_bytes(content[:behind] + rest)

    assert read(folder / "a.tif").rgb.shape == (HEIGHT, WIDTH, 3)
    enlarge(folder / "a.tif", folder / "b.tif")


@pytest.mark.parametrize(
    "packet",
    [
        "nothing of the kind",
        PACKET.replace("</rdf:RDF>", ""),
        PACKET.replace("<x:xmpmeta", "<!DOCTYPE a [<!ENTITY b 'c'>]><x:xmpmeta"),
        PACKET.replace("xmlns:odd=", "xmlns:other="),
        PACKET.replace("rdf:RDF", "rdf:Bag"),
        PACKET.replace("<dc:title>", "<dc:title>" + "<dc:a>" * 3000).replace(
            "</dc:title>", "</dc:a>" * 3000 + "</dc:title>"
        ),
    ],
    ids=["text", "open", "doctype", "prefix", "no-rdf", "deep"],
)
def test_a_damaged_packet_is_left_out_with_a_warning(
    tmp_path: Path, packet: str, caplog: pytest.LogCaptureFixture
) -> None:
    picture = read(make_source(tmp_path / "a.jpg", packet=packet))

    assert picture.metadata.xmp is None
    assert picture.metadata.exif is not None
    [warning] = warnings_in(caplog)
    assert "a.jpg: its XMP is damaged" in warning


def test_a_packet_of_many_megabytes_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    packet = PACKET.replace("Žürich", "Z" * MAX_BYTES)

    assert read(make_source(tmp_path / "a.webp", packet=packet)).metadata.xmp is None
    assert "larger than" in caplog.text


@pytest.mark.parametrize(
    "iptc", [b"what is this", b"\x1c\x02\x78\0\x99x", b"\x1c\x02\x78\x80\x99x"]
)
def test_a_damaged_record_is_left_out_with_a_warning(
    tmp_path: Path, iptc: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write(Picture(smooth(), metadata=Metadata(iptc=iptc)), tmp_path / "a.jpg")

    assert read(tmp_path / "a.jpg").metadata.iptc is None
    assert "IPTC record is damaged" in caplog.text


def test_exif_of_ones_own_that_is_none_is_left_out_of_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(Picture(smooth(), metadata=Metadata(exif=b"what is this")), tmp_path / "a.png")

    assert read(tmp_path / "a.png").metadata.exif is None
    assert "EXIF is damaged" in caplog.text


# --- Files ---


@pytest.mark.parametrize(("output", "is_kept"), [(".jpg", False), (".png", True), (".tif", True)])
def test_what_is_too_large_for_a_segment_is_left_out_of_jpeg(
    tmp_path: Path, output: str, is_kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_source(tmp_path / "a.webp", packet=PACKET.replace("Žürich", "Žürich" * 10_000))

    enlarged = enlarge(source, tmp_path / f"b{output}")

    assert (xmp_of(enlarged) is not None) == is_kept
    assert exif_of(enlarged)["image"][0x010F] == "Kamera & Co"
    assert [message for message in warnings_in(caplog) if "XMP" in message] == (
        []
        if is_kept
        else [message for message in warnings_in(caplog) if "holds at most" in message]
    )
    assert bool(warnings_in(caplog)) != is_kept


@every_output
@pytest.mark.parametrize("size", [30, 999, 1000, 63_000])
def test_exif_of_any_size_fits(tmp_path: Path, output: str, size: int) -> None:
    told = exif.Exif(image={0x013B: exif.Entry(2, size, b"A" * (size - 1) + b"\0")})
    blob = exif.to_blob(told)

    write(Picture(smooth(), metadata=Metadata(exif=blob)), tmp_path / f"a{output}")

    assert read(tmp_path / f"a{output}").metadata.exif == blob
    assert exif_of(tmp_path / f"a{output}")["image"][0x013B] == "A" * (size - 1)


@every_output
def test_a_file_written_in_strips_is_that_of_write(tmp_path: Path, output: str) -> None:
    picture = read(make_source(tmp_path / "a.jpg"))
    write(picture, tmp_path / f"whole{output}")

    with create_picture(tmp_path / f"strips{output}", picture.header) as writer:
        for top in range(0, HEIGHT, 7):
            strip = picture.rows(slice(top, top + 7))
            writer.append(replace(strip, metadata=Metadata(xmp=b"counts nowhere")))

    strips = (tmp_path / f"strips{output}").read_bytes()
    assert strips == (tmp_path / f"whole{output}").read_bytes()


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_of_every_dialect_is_read(tmp_path: Path, byteorder: str, is_big: bool) -> None:
    record = IPTC_TOLD + bytes(-len(IPTC_TOLD) % 4)
    tags: list[Any] = [
        (0x010F, 2, 0, "Kamera & Co", True),
        (0x0112, 3, 1, 6, True),
        (700, 1, len(PACKET.encode()), PACKET.encode(), True),
        (33723, 7, len(record), record, True),
    ]
    options: dict[str, Any] = {"byteorder": byteorder, "bigtiff": is_big, "extratags": tags}
    tifffile.imwrite(tmp_path / "a.tif", smooth(), photometric="rgb", **options)

    told = read(tmp_path / "a.tif").metadata

    assert told.exif is not None
    assert exif.from_blob(told.exif).image[0x010F].data == b"Kamera & Co\0"
    assert told.iptc == IPTC_TOLD
    assert told.xmp is not None


@pytest.mark.parametrize("limit", [10, writing.CLASSIC_TIFF_BYTES], ids=["big", "classic"])
def test_tifffile_reads_pixels_and_metadata_of_what_is_written(
    tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CLASSIC_TIFF_BYTES", limit)
    picture = read(make_source(tmp_path / "a.jpg"))
    write(replace(picture, metadata=replace(picture.metadata, iptc=IPTC_TOLD)), tmp_path / "b.tif")

    with tifffile.TiffFile(tmp_path / "b.tif") as opened:
        page = opened.pages[0].aspage()
        assert opened.is_bigtiff == (limit == 10)
        assert len(opened.pages) == 1
        np.testing.assert_array_equal(page.asarray(), picture.rgb)
        told = page.tags[PHOTO].value
        assert (told["LensModel"], told["PixelXDimension"]) == ("Lens 24-70", WIDTH)
        assert page.tags["GPSTag"].value["GPSLatitudeRef"] == "N"
        assert page.tags["XMP"].value.decode().count("Žürich") == 1
    assert exif_of(tmp_path / "b.tif")["image"][0x010F] == "Kamera & Co"


def test_a_classic_tiff_file_without_room_left_goes_without_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(containers, "CLASSIC_TIFF_END", 70_000)

    enlarged = enlarge(make_source(tmp_path / "a.jpg"), tmp_path / "b.tif")

    assert read(enlarged).metadata == Metadata()
    assert "too large for it" in caplog.text


# --- Colours ---


def to_srgb_by_pillow(picture: Image.Image, profile: bytes) -> Array:
    """Relative colorimetric, with black point compensation."""
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        SRGB,
        picture.mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    converted = ImageCms.applyTransform(picture, transform)
    assert converted is not None
    return np.asarray(converted)


@pytest.mark.parametrize("depth", [8, 16])
def test_srgb_is_what_littlecms_makes_of_it(tmp_path: Path, depth: int) -> None:
    step = (
        257 if depth == 16 else 1
    )  # so that the reference, of 8 bits, starts from the same colours
    pixels = noise(90, 70, 4).astype(f"uint{depth}") * step
    write(Picture(pixels[..., :3], pixels[..., 3], profile=P3), tmp_path / "a.tif")

    kept, converted = read(tmp_path / "a.tif"), read(tmp_path / "a.tif", color="srgb")

    expected = to_srgb_by_pillow(Image.fromarray((pixels[..., :3] // step).astype(np.uint8)), P3)
    np.testing.assert_allclose(converted.rgb / step, expected, atol=1 if depth == 8 else 1.5)
    assert np.abs(kept.rgb.astype(int) - converted.rgb).max() > 20 * step
    assert converted.depth == depth
    assert converted.alpha is not None
    np.testing.assert_array_equal(converted.alpha, pixels[..., 3])
    name = ImageCms.getProfileDescription(
        ImageCms.ImageCmsProfile(io.BytesIO(converted.profile or b""))
    )
    assert "sRGB" in name


@pytest.mark.parametrize("profile", [None, P3], ids=["untagged", "p3"])
def test_srgb_says_so_in_the_file(tmp_path: Path, profile: bytes | None) -> None:
    told = exif_told()
    told[PHOTO] = PHOTO_TOLD | {0xA001: 0xFFFF}
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=told, icc_profile=profile)

    enlarged = enlarge(tmp_path / "a.jpg", tmp_path / "b.jpg", color="srgb")

    with Image.open(enlarged) as opened:
        tagged = ImageCms.ImageCmsProfile(io.BytesIO(opened.info["icc_profile"]))
    assert "sRGB" in ImageCms.getProfileDescription(tagged)
    assert exif_of(enlarged)["photo"][0xA001] == 1


def test_values_without_a_profile_are_srgb_already(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", color="srgb").rgb, smooth())


def test_srgb_is_read_strip_by_strip(tmp_path: Path) -> None:
    Image.fromarray(noise(400, 9, 3)).save(tmp_path / "a.png", icc_profile=P3)

    with open_picture(tmp_path / "a.png", color="srgb") as reader:
        strips = [reader.rows(50) for _ in range(8)]

    whole = read(tmp_path / "a.png", color="srgb")
    np.testing.assert_array_equal(Picture.stacked(strips).rgb, whole.rgb)
    assert strips[0].profile == whole.profile


def test_grey_stays_grey(tmp_path: Path) -> None:
    grey = noise(20, 30)
    write(Picture(np.repeat(grey[..., None], 3, axis=2), is_grey=True), tmp_path / "a.png")
    Image.fromarray(grey).save(tmp_path / "tagged.png", icc_profile=P3)

    plain, tagged = (read(tmp_path / name, color="srgb") for name in ("a.png", "tagged.png"))

    assert plain.is_grey
    assert tagged.is_grey
    np.testing.assert_array_equal(plain.rgb[..., 0], grey)
    expected = to_srgb_by_pillow(Image.fromarray(np.repeat(grey[..., None], 3, axis=2)), P3)
    np.testing.assert_allclose(tagged.rgb.astype(int), expected, atol=1)
    write(tagged, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as opened:
        assert opened.mode == "L"


@pytest.mark.parametrize(
    "profile", [b"what is this", P3[:300] + bytes(100) + P3[400:], P3[:16] + b"CMYK" + P3[20:]]
)
def test_a_profile_that_cannot_be_used_is_told_and_taken_for_srgb(
    tmp_path: Path, profile: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.webp", icc_profile=profile, lossless=True)

    picture = read(tmp_path / "a.webp", color="srgb")

    np.testing.assert_array_equal(picture.rgb, smooth())
    [warning] = warnings_in(caplog)
    assert "profile" in warning


def test_twelve_bits_are_stretched_before_they_are_converted(tmp_path: Path) -> None:
    white = pyvips.Image.new_from_memory(
        np.full((16, 16, 3), 65535, np.uint16), 16, 16, 3, "ushort"
    )
    white = white.copy(interpretation="rgb16")
    white.set_type(pyvips.GValue.blob_type, "icc-profile-data", P3)
    white.heifsave(str(tmp_path / "a.avif"), compression="av1", bitdepth=12, lossless=True)

    rgb = read(tmp_path / "a.avif", color="srgb").rgb

    assert rgb.min() > 65_400

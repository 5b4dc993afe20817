"""XMP: the packet of properties in RDF, without those that are not true of the enlarged picture or shall not travel.

A packet comes from strangers: one that is too large, has a DOCTYPE or does not parse is refused. Prefixes, order and
the wrapper stay as they are; white space around the packet, which is there for editing in place, goes.
"""

import codecs
from collections.abc import Callable, Sequence
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError

MAX_BYTES = 8 * 2**20  # parsed, a packet takes some twenty times its size


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMLNS = "http://www.w3.org/2000/xmlns/"
XML = "http://www.w3.org/XML/1998/namespace"
DC = "http://purl.org/dc/elements/1.1/"
XMP = "http://ns.adobe.com/xap/1.0/"
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
EXIF_EX = "http://cipa.jp/exif/1.0/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
GPANO = "http://ns.google.com/photos/1.0/panorama/"
REGIONS = {  # of faces, counted on the picture before it was turned
    ("http://www.metadataworkinggroup.com/schemas/regions/", "Regions"),
    ("http://ns.microsoft.com/photo/1.2/", "RegionInfo"),
}
# About other pictures in the same file, or data after it, which are not taken along.
OTHER_PARTS = frozenset(
    {f"http://ns.google.com/photos/1.0/{part}/" for part in ("container", "camera", "depthmap")}
    | {"http://ns.google.com/photos/1.0/image/", "http://ns.adobe.com/hdr-gain-map/1.0/"}
    | {"http://ns.apple.com/pixeldatainfo/1.0/", "http://ns.apple.com/HDRGainMap/1.0/"}
    | {"http://ns.adobe.com/xmp/note/"}
)

# What a property says of the pixels as they were stored, or of the file.
STORED = {
    TIFF: _names(
        "Orientation ImageWidth ImageLength BitsPerSample Compression PhotometricInterpretation "
        "SamplesPerPixel PlanarConfiguration YCbCrSubSampling YCbCrPositioning XResolution YResolution ResolutionUnit "
        "NativeDigest"
    ),
    EXIF: _names(
        "PixelXDimension PixelYDimension CompressedBitsPerPixel ComponentsConfiguration SubjectArea "
        "SubjectLocation FocalPlaneXResolution FocalPlaneYResolution FocalPlaneResolutionUnit MakerNote NativeDigest"
    ),
    XMP: frozenset(["Thumbnails"]),
    DC: frozenset(["format"]),
}
OF_A_SPACE = {(EXIF, "ColorSpace"), (EXIF, "Gamma"), (EXIF_EX, "Gamma"), (PHOTOSHOP, "ICCProfile")}

# Known to say neither where a picture was taken nor with which copy of a camera.
SAFE = {
    DC: _names("title description creator rights subject date type language publisher contributor"),
    XMP: _names("CreateDate ModifyDate MetadataDate CreatorTool Rating Label"),
    TIFF: _names("Make Model Software DateTime Artist Copyright ImageDescription"),
    EXIF: _names(
        "ExifVersion FlashpixVersion ColorSpace ExposureTime FNumber ExposureProgram ISOSpeedRatings "
        "DateTimeOriginal DateTimeDigitized ShutterSpeedValue ApertureValue BrightnessValue "
        "ExposureBiasValue MaxApertureValue SubjectDistance MeteringMode LightSource Flash FocalLength "
        "SensingMethod FileSource SceneType CustomRendered ExposureMode WhiteBalance DigitalZoomRatio "
        "FocalLengthIn35mmFilm SceneCaptureType GainControl Contrast Saturation Sharpness "
        "SubjectDistanceRange"
    ),
    EXIF_EX: _names(
        "LensMake LensModel LensSpecification PhotographicSensitivity SensitivityType "
        "StandardOutputSensitivity RecommendedExposureIndex ISOSpeed OffsetTime OffsetTimeOriginal "
        "OffsetTimeDigitized Gamma"
    ),
    PHOTOSHOP: _names("Headline Credit Source DateCreated AuthorsPosition ICCProfile"),
    "http://ns.adobe.com/exif/1.0/aux/": _names(
        "Lens LensInfo LensID FlashCompensation ApproximateFocusDistance"
    ),
    "http://ns.adobe.com/xap/1.0/rights/": _names(
        "Marked Owner UsageTerms WebStatement Certificate"
    ),
    # Whether a picture was made by a machine.
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": frozenset(["DigitalSourceType"]),
}


def cleaned(packet: bytes, *, is_safe: bool, is_turned: bool, is_srgb: bool) -> bytes | None:
    """Return the packet without what is not kept, in UTF-8; None where no property is left.

    Args:
        packet: in any Unicode encoding.
        is_safe: whether only what is known to be harmless is kept.
        is_turned: whether the pixels have been turned, so that regions lie elsewhere.
        is_srgb: whether the values have become sRGB.

    Raises:
        ValueError: it is too large or damaged, or no XMP.

    """

    def keeps(space: str, name: str) -> bool:
        if name in STORED.get(space, ()) or space in OTHER_PARTS:
            return False
        if space == GPANO and ("Pixels" in name or name.startswith("LargestValid")):
            return False
        if (is_turned and (space, name) in REGIONS) or (is_srgb and (space, name) in OF_A_SPACE):
            return False
        return not is_safe or name in SAFE.get(space, ())

    document = _parse(packet)
    try:
        described = _descriptions(document, only=is_safe)
        left = [_thin_out(description, keeps) for description in described]
        if not any(left):
            return None
        for size in document.getElementsByTagNameNS("*", "AppliedToDimensions"):
            if size.parentNode is not None:  # the size of the small picture, beside regions
                size.parentNode.removeChild(size)
        return "\n".join(node.toxml() for node in document.childNodes).encode()
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def _parse(packet: bytes) -> minidom.Document:
    if len(packet) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 2**20} MiB")
    text = packet.decode(_encoding(packet)).strip("\0 \t\r\n\ufeff")  # UnicodeError is a ValueError
    if "<!DOCTYPE" in text:
        raise ValueError("it declares a document type")
    try:
        return minidom.parseString(text)
    except ExpatError as exc:
        raise ValueError(f"it does not parse: {exc}") from exc


def _encoding(packet: bytes) -> str:
    """Return the encoding that the first bytes show; a packet begins with `<`, perhaps after a byte order mark."""
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
    marks |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    marks |= {b"<\0\0\0": "utf-32-le", b"\0\0\0<": "utf-32-be"}
    marks |= {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
    return next((name for mark, name in marks.items() if packet.startswith(mark)), "utf-8")


def _descriptions(document: minidom.Document, *, only: bool) -> list[minidom.Element]:
    """Return the elements that have the properties; with `only`, take out everything beside them."""
    root = document.documentElement
    assert root is not None  # or it would not have parsed
    is_wrapped = (root.namespaceURI, root.localName) != (RDF, "RDF")
    within = _rdf_children(root, "RDF") if is_wrapped else [root]
    if len(within) != 1:
        raise ValueError("it is no XMP")
    rdf = within[0]
    found = _rdf_children(rdf, "Description")
    if only:
        wrapper = [node for node in document.childNodes if node.nodeName == "xpacket"]
        _keep_only(document, [root, *wrapper])
        _keep_only(rdf, found)
        if is_wrapped:
            _keep_only(root, within)
        for description in found:
            if description.hasAttributeNS(RDF, "about"):
                description.setAttributeNS(RDF, "rdf:about", "")  # may be an identifier
    return found


def _rdf_children(parent: minidom.Element, name: str) -> list[minidom.Element]:
    return [
        node
        for node in parent.childNodes
        if isinstance(node, minidom.Element) and (node.namespaceURI, node.localName) == (RDF, name)
    ]


def _keep_only(
    parent: Any,  # noqa: ANN401 - a document or an element, which type stubs cannot say of `removeChild`
    kept: Sequence[minidom.Node],
) -> None:
    for node in list(parent.childNodes):
        if not any(node is other for other in kept):
            parent.removeChild(node)


def _thin_out(description: minidom.Element, keeps: Callable[[str, str], bool]) -> bool:
    """Take properties out of an element, whether attributes or elements; return whether any are left."""
    is_any_left = False
    for attribute in list(description.attributes.values()):
        space = attribute.namespaceURI or ""
        if space in (XMLNS, RDF, XML):
            continue
        if keeps(space, attribute.localName):
            is_any_left = True
        else:
            description.removeAttributeNode(attribute)
    for node in list(description.childNodes):
        if not isinstance(node, minidom.Element):
            continue
        if keeps(node.namespaceURI or "", node.localName or ""):
            is_any_left = True
        else:
            description.removeChild(node)
    return is_any_left

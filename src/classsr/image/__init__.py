"""Pictures in and out: file format, bit depth, alpha, colour profile, orientation, metadata.

The only importer of pyvips. A file becomes a `Picture`, and a `Picture` becomes a file that is complete or not there
at all; both also strip by strip, for pictures that are larger than the memory. Knows nothing of tiles, networks or
enlarging, and never multiplies alpha into the colours.
"""

from classsr.image.colour import Color
from classsr.image.formats import FORMAT_BY_SUFFIX, FORMATS, PNG, Format, find_pictures
from classsr.image.metadata import Metadata, Policy
from classsr.image.picture import Header, Picture, Samples
from classsr.image.reading import MAX_PIXELS, PictureReader, open_picture, read, read_header
from classsr.image.writing import PictureWriter, check_output, create_picture, likely_bytes, write

__all__ = [
    "FORMATS",
    "FORMAT_BY_SUFFIX",
    "MAX_PIXELS",
    "PNG",
    "Color",
    "Format",
    "Header",
    "Metadata",
    "Picture",
    "PictureReader",
    "PictureWriter",
    "Policy",
    "Samples",
    "check_output",
    "create_picture",
    "find_pictures",
    "likely_bytes",
    "open_picture",
    "read",
    "read_header",
    "write",
]

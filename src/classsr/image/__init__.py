"""Pictures in and out: file format, bit depth, alpha, colour profile, orientation.

The only importer of pyvips. A file becomes a `Picture`, and a `Picture` becomes a file that is complete or not there
at all; both also strip by strip, for pictures that are larger than the memory. Knows nothing of tiles, networks or
enlarging, and never multiplies alpha into the colours.
"""

from classsr.image.formats import FORMATS, PNG, find_pictures
from classsr.image.picture import Header, Picture, Samples
from classsr.image.reading import PictureReader, open_picture, read
from classsr.image.writing import PictureWriter, check_output, create_picture, write

__all__ = [
    "FORMATS",
    "PNG",
    "Header",
    "Picture",
    "PictureReader",
    "PictureWriter",
    "Samples",
    "check_output",
    "create_picture",
    "find_pictures",
    "open_picture",
    "read",
    "write",
]

"""Files that are seen whole or not at all, also after a power cut or on a full disk."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name, down to the disk, then give it its own: what was there before stays until then.

    Raises:
        OSError: it cannot be written; nothing is left behind.

    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise

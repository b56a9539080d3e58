"""Messages in the formats v0 and v1, from before Kafka 0.11: told apart from damage, and not read.

Their layout is: offset (8 bytes), size (4), CRC-32 (4) of all that follows, magic, attributes, ... Source: Kafka's
`LegacyRecord`.
"""

from __future__ import annotations

import zlib
from pathlib import Path

SIZE_AT, CRC_AT, MAGIC_AT = 8, 12, 16
SIZE_MIN = 14
OLD_MAGICS = (0, 1)


def is_old_message(path: Path, position: int) -> bool:
    """Whether a sound message of an old format begins here. Raises OSError."""
    with path.open("rb") as file:
        file.seek(position)
        header = file.read(MAGIC_AT + 1)
        if len(header) <= MAGIC_AT or header[MAGIC_AT] not in OLD_MAGICS:
            return False
        size = int.from_bytes(header[SIZE_AT:CRC_AT], "big", signed=True)
        if size < SIZE_MIN:
            return False
        file.seek(position + MAGIC_AT)
        content = file.read(size - (MAGIC_AT - CRC_AT))
    is_whole = len(content) == size - (MAGIC_AT - CRC_AT)
    return is_whole and zlib.crc32(content) == int.from_bytes(header[CRC_AT:MAGIC_AT], "big")

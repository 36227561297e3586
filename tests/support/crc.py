"""CRCs that stores use, computed bit by bit from their definitions."""


def crc32c(data: bytes) -> bytes:
    return _crc(data, 32, 0x82F63B78)


def crc64ecma(data: bytes) -> bytes:
    return _crc(data, 64, 0xC96C5795D7870F42)


def crc64nvme(data: bytes) -> bytes:
    return _crc(data, 64, 0x9A6C9329AC4BC9B5)


def _crc(data: bytes, width: int, polynomial: int) -> bytes:
    """Compute a reflected CRC that starts and ends with all bits inverted."""
    mask = (1 << width) - 1
    crc = mask
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
    return (crc ^ mask).to_bytes(width // 8)

"""Figures as a person reads them."""


def size(count: int) -> str:
    """Return bytes as a person reads them: ``1.2 MB``, powers of 1,000."""
    from rich.filesize import decimal

    return f"{count} B" if count < 1000 else decimal(count)  # noqa: PLR2004


def duration(seconds: float) -> str:
    """Return seconds as a person reads them: ``40 ms``, ``1.4 s``, ``3 min 20 s``."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"

"""What a form may have, however it is sent."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What a form may have. The whole body is limited by ``max_body_size`` of the application or the route.

    Args:
        max_fields: Fields that are no files. Default 1000.
        max_files: Files. Default 100.
        max_field_size: Bytes of the value of a field, and of its name. Default 1 MiB.
        max_file_size: Bytes of a file; None, the default, for no limit but that of the body.
        max_header_bytes: Bytes of a header line of a part, of which there may be 16. Default 4096.

    Raises:
        ValueError: One of them is no whole number from 0.
    """

    max_fields: int = 1000
    max_files: int = 100
    max_field_size: int = 1024 * 1024
    max_file_size: int | None = None
    max_header_bytes: int = 4096

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None and item.default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{item.name} must be a whole number from 0, not {value!r}")

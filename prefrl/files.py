"""Files written so that they are the old or the new one, never half of it."""

import json
import math
from pathlib import Path
from typing import Any


def replace_text(path: Path, text: str) -> None:
    """Write text, as UTF-8."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> None:
    """Write bytes."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)  # on a full disk, its room is needed
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON, which `value` must have words for (see `finite`)."""
    replace_text(path, json.dumps(value, indent=1, allow_nan=False))


def finite(value: Any) -> Any:
    """`value` with None for every float that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""The settings of the service, as docs/configuration.md lists them. It is generated from the code."""

import functools
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/configuration.md"
NAME = re.compile(r"FIREFLOW_[A-Z_]+")
# Only secrets can also come from a file.
FROM_FILE = "; or from a file: `"


@functools.cache
def settings() -> set[str]:
    """The names of all settings, and of the files that secrets can come from."""
    return set(NAME.findall(PAGE.read_text(encoding="utf-8")))


@functools.cache
def secrets() -> set[str]:
    """The names of settings whose values must never be shown. Other names for them are included."""
    found = set[str]()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        row, is_secret, names = line.partition(FROM_FILE)
        if is_secret:
            # The row begins with the name; other names follow the name of the file.
            found |= {*NAME.findall(row)[:1], *NAME.findall(names)[1:]}
    if not found:
        raise SystemExit(f"{PAGE}: lists no secret")
    return found

"""Refuse tracked files that name one machine's folders, or the address of a package index."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = Path(__file__).name

# A user's home or a checkout; the placeholder names of documentation are nobody's.
NOBODY = "user|you|me|alice|ann|someone"
HOME = re.compile(rf"(?<![\w.])/(?:home|Users)/(?!(?:{NOBODY})/)[\w.-]+/|(?<![\w.])/root/\w|[A-Z]:\\Users\\\w")
INDEX = re.compile(r"https?://[^\s\"'<>]+/simple\b|file://[^\s\"'<>]+/simple\b|--(?:extra-)?index-url[ =]\S")
MOST_BYTES = 4 << 20


def findings(text: str, own_paths: list[str]) -> list[tuple[int, str]]:
    """Line number and text of each line that names a machine's folder or a package index."""
    return [
        (number, line.strip()[:160])
        for number, line in enumerate(text.splitlines(), 1)
        if HOME.search(line) or INDEX.search(line) or any(path in line for path in own_paths)
    ]


def tracked() -> list[Path]:
    """The files that git keeps."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def main() -> int:
    """Print each finding; 1 if there is any."""
    own_paths = [path for path in {str(ROOT), os.path.realpath(ROOT)} if path.count("/") > 1]
    bad = 0
    for path in tracked():
        if path.name == OWN or not path.is_file() or path.stat().st_size > MOST_BYTES:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        for number, line in findings(text, own_paths):
            sys.stdout.write(f"{path.relative_to(ROOT)}:{number}: {line}\n")
            bad += 1
    if bad:
        sys.stderr.write(f"{bad} lines name a machine's folder or a package index; take them out\n")
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())

"""How long a folder of many small files takes to keep, to keep again, and to bring back; `cp -r` is the floor.

python bench/objects.py [FILES] [BYTES_EACH]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from loopwright.store.objects import FolderStore, checkout, put_tree, read_tree, tree_content

T = TypeVar("T")


def main() -> None:
    """Print a table of seconds."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 4096
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = make_folder(root / "source", files, size)
        measure(root, source, files)


def measure(root: Path, source: Path, files: int) -> None:
    """Time each act on one folder, and check that what comes back is what went in."""
    objects = FolderStore(root / "objects")
    first = timed("keep", lambda: put_tree(objects, source))
    again = timed("keep again, unchanged", lambda: put_tree(objects, source, previous=first))
    change(source, files)
    second = timed("keep again, 1 % changed", lambda: put_tree(objects, source, previous=first))
    timed("bring back, verified", lambda: checkout(objects, second, root / "out"))
    timed("cp -r (floor)", lambda: subprocess.run(["cp", "-r", source, root / "copy"], check=True))
    same = tree_content(read_tree(objects, first)) == tree_content(read_tree(objects, again))
    back = tree_content(read_tree(objects, put_tree(objects, root / "out")))
    kept = list(objects.iterate())
    print(f"{len(kept)} objects, {sum(stat.size_bytes for stat in kept) >> 20} MiB")
    if not same or back != tree_content(read_tree(objects, second)):
        raise SystemExit("what came back is not what went in")


def make_folder(folder: Path, files: int, size: int) -> Path:
    """A folder of files with random bytes, a thousand in each sub-folder."""
    for number in range(files):
        path = folder / f"{number // 1000:04}" / f"{number:06}.bin"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(size))
    return folder


def change(folder: Path, files: int) -> None:
    """Write every hundredth file anew."""
    for number in range(0, files, 100):
        path = folder / f"{number // 1000:04}" / f"{number:06}.bin"
        path.write_bytes(os.urandom(path.stat().st_size))


def timed(what: str, act: Callable[[], T]) -> T:
    """Do it, and print how long it took."""
    os.sync()
    start = time.perf_counter()
    result = act()
    print(f"{what:<28} {time.perf_counter() - start:7.2f} s", flush=True)
    return result


if __name__ == "__main__":
    shutil.which("cp") or sys.exit("this benchmark compares with cp, which is not here")
    main()

# SPDX-License-Identifier: Apache-2.0
"""Compiled simulations, kept by content: a bounded folder that many processes may use at once."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

LIMIT_BYTES = 1 << 30
"""Least recently used entries go when all together exceed this."""

STALE_SECONDS = 24 * 3600
"""Age at which a scratch folder is taken to be left over from a process that was killed."""


def cache_folder() -> Path:
    """$BITBLOCKS_CACHE, or bitblocks in the user's cache folder."""
    chosen = os.environ.get("BITBLOCKS_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("bitblocks")


def digest(*parts: str) -> str:
    """Name for what ``parts`` together decide; a longer part never looks like two."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(b"%d:" % len(data))
        state.update(data)
    return state.hexdigest()[:32]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder on the cache's file system, gone afterwards."""
    parent = cache_folder() / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def materialise(key: str, build: Callable[[Path], None], destination: Path) -> bool:
    """Bring the files of entry ``key`` into ``destination``; whether they had to be built.

    ``build`` writes them into an empty folder, which becomes an entry in one step, so another
    process sees all of it or nothing. The files arrive as hard links: an entry that is removed
    meanwhile stays usable. One process builds, others that want the same entry wait for it.
    """
    root = cache_folder()
    entry = root / "entries" / key
    if _link(entry, destination):
        return False
    locks = root / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / key).open("w") as lock, scratch() as work:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _link(entry, destination):
            return False
        new = work / key
        new.mkdir()
        build(new)
        for file in new.iterdir():
            os.link(file, destination / file.name)
        entry.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # where it has appeared meanwhile, ours is not needed
            new.rename(entry)
    prune(keep=key)
    return True


def prune(limit: int | None = None, keep: str = "") -> None:
    """Remove least recently used entries until the rest fits into ``limit`` bytes."""
    root = cache_folder()
    limit = LIMIT_BYTES if limit is None else limit
    entries = []
    for entry in _listing(root / "entries"):
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            size = sum(file.stat().st_size for file in entry.iterdir())
            entries.append((entry.stat().st_mtime, size, entry))
    total = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries):
        if total <= limit:
            break
        if entry.name == keep:
            continue
        with scratch() as grave, contextlib.suppress(FileNotFoundError):
            entry.rename(grave / entry.name)
        total -= size
    for left_over in _listing(root / "scratch") + _listing(root / "locks"):
        with contextlib.suppress(FileNotFoundError):
            if left_over.stat().st_mtime > time.time() - STALE_SECONDS:
                continue
            if left_over.is_dir():
                shutil.rmtree(left_over, ignore_errors=True)
            else:
                left_over.unlink()


def _listing(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _link(entry: Path, destination: Path) -> bool:
    """Hard links to all files of ``entry``; False, and nothing left behind, if it is not there.

    Who removes an entry first moves it away, then empties it. So the listing was of a whole entry
    if the folder that was opened is still the one in its place after the last link.
    """
    try:
        folder = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    linked = []
    try:
        os.utime(folder)
        for name in [file.name for file in os.scandir(folder)]:
            os.link(name, destination / name, src_dir_fd=folder)
            linked.append(destination / name)
        if os.path.samestat(os.fstat(folder), entry.stat()):
            return True
    except FileNotFoundError:
        pass  # removed meanwhile
    finally:
        os.close(folder)
    for path in linked:
        path.unlink()
    return False

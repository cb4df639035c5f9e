# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all, and arrays read without trust."""

import ctypes
import errno
import io
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitblocks.errors import InputError

BYTES_LIMIT = 4 * 2**30
"""Largest sum of the arrays of one file."""
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_HERE = -100  # AT_FDCWD


def write_file(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``, replacing a file; raises InputError where that cannot be."""
    path = Path(path)
    with _written(path, path):
        _refuse_folder(path)
        partial = path.parent / _partial_name()
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def check_file(path: Path) -> None:
    """Raise InputError unless a file may be written there."""
    with _written(path, path):
        _refuse_folder(path)
        probe = path.parent / _partial_name()
        probe.touch()
        probe.unlink()


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"output {str(path)!r} must be a file, not a folder")


def make_folder(path: Path) -> None:
    """Make a folder unless it is there; raises InputError where that cannot be."""
    with _written(path, path):
        path.mkdir(parents=True, exist_ok=True)


def check_folder(output: Path, force: bool, replaceable: Callable[[Path], str | None]) -> None:
    """Raise InputError unless ``write_folder`` may write to ``output``.

    ``replaceable`` says what is in a folder that must not be replaced, None if nothing is.
    """
    with _written(output, output):
        if not os.path.lexists(output):
            return
        if not output.is_dir():
            raise InputError(f"output {str(output)!r} must be a folder, not a file")
        if not force:
            raise InputError(
                f"output {str(output)!r} must not exist already (--force replaces a build)"
            )
        foreign = replaceable(output)
    if foreign:
        raise InputError(
            f"output {str(output)!r} must be empty or a build to be replaced, not hold {foreign}"
        )


def write_folder(
    output: Path,
    contents: Mapping[str, bytes],
    force: bool,
    replaceable: Callable[[Path], str | None],
) -> None:
    """Write a folder of files, by relative path, whole or not at all.

    It appears under its name in one step, and takes the place of a former one in one step.
    Raises InputError where that cannot be.
    """
    output = output.resolve()
    check_folder(output, force, replaceable)
    with _written(output, output):
        partial = output.parent / _partial_name()
        missing = _missing(output.parent)
        try:
            for folder in missing:
                folder.mkdir(exist_ok=True)
            partial.mkdir()
            for name, content in contents.items():
                path = partial / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            _put(partial, output, force)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            for folder in reversed(missing):
                with suppress(OSError):  # not made yet, or not empty any more
                    folder.rmdir()
            raise


def _put(partial: Path, output: Path, force: bool) -> None:
    """Give ``partial`` the name ``output``; with ``force`` a folder of that name goes."""
    if force and output.exists():
        if not _exchange(partial, output):
            former = partial.with_name(_partial_name())
            output.rename(former)
            partial.rename(output)
            partial = former
        shutil.rmtree(partial)
        return
    try:
        partial.rename(output)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise InputError(f"output {str(output)!r} must not come to be meanwhile") from error


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system cannot do that."""
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is None:
        return False
    return swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def _missing(folder: Path) -> list[Path]:
    """The folders to be made for ``folder`` to be there, outermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing[::-1]


def _partial_name() -> str:
    return f".bitblocks-{secrets.token_hex(6)}.partial"


@contextmanager
def _written(path: Path, shown: Path) -> Iterator[None]:
    """Turn what the system says about writing ``path`` into a sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"output {str(shown)!r} cannot be written: {reason}") from error
    except ValueError as error:  # a null byte in the name
        if isinstance(error, InputError):
            raise
        raise InputError(f"output {str(shown)!r} cannot be written: {error}") from error


# -- arrays -------------------------------------------------------------------------------------


def npy(array: NDArray[Any]) -> bytes:
    """The bytes of a .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array, order="C"), allow_pickle=False)
    return stream.getvalue()


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a .npz file: the same for equal arrays, whatever the time and the machine."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, npy(array))
    return stream.getvalue()


def read_arrays(path: str | Path, what: str) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """The array of a .npy file, or the arrays of a .npz file by name; nothing is unpickled.

    Raises InputError, calling the file ``what``, for anything else.
    """
    path = Path(path)
    shown = f"{what} {str(path)!r}"
    try:
        if not path.exists():
            raise InputError(f"{shown} does not exist")
        if not path.is_file():
            raise InputError(f"{shown} must be a file, not a folder or a device")
        with path.open("rb") as stream:
            start = stream.read(6)
        if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):  # the latter without any array
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            _check_size(size, shown)
            with np.load(path, allow_pickle=False) as members:
                return {name: members[name] for name in members.files}
        if start != b"\x93NUMPY":
            raise InputError(f"{shown} must be a .npy file of numbers")
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        _check_size(mapped.nbytes, shown)
        return np.array(mapped)
    except OSError as error:
        raise InputError(f"{shown} cannot be read: {error.strerror or error}") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever the libraries make of a file without sense
        raise InputError(f"{shown} must be a .npy file of numbers, whole and unpickled") from error


def _check_size(size: int, shown: str) -> None:
    if size > BYTES_LIMIT:
        raise InputError(f"{shown} must hold at most {BYTES_LIMIT >> 30} GiB, not {size >> 30} GiB")

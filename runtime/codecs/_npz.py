"""A strict subset of npz: one-dimensional arrays, stored uncompressed, with the same bytes on every machine.

numpy's own writer stamps the time into the archive, and its reader allocates what a header asks for before it
looks whether the bytes are there. Here the time is fixed, and nothing larger than the file itself is ever
allocated.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return an npz archive of one-dimensional `arrays`, in their order."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(name + ".npy", date_time=_EPOCH)
            member.create_system = 3  # else the archive names the operating system it was written on
            content = io.BytesIO()
            npy.write_array(content, array, version=(1, 0), allow_pickle=False)
            file.writestr(member, content.getvalue())
    return archive.getvalue()


def read_arrays(data: bytes, dtypes: Mapping[str, str], meta: list[int]) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of an archive that `write_arrays` wrote with exactly these names and `dtypes`.

    The first of them, `meta`, says what the others are and is looked at before them.

    Raises:
        ValueError: If the archive is damaged, or holds anything else. Nothing is ever unpickled.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = file.infolist()
            if members and members[0].filename == "meta.npy" and members[0].file_size <= len(data):
                found = _read_array(file.read(members[0]), "meta", dtypes["meta"]).tolist()
                if found != meta:
                    raise ValueError(f"schema and precision {found}, this Isthmus reads {meta}")
            if [member.filename for member in members] != [name + ".npy" for name in dtypes]:
                raise ValueError(f"the archive does not hold exactly {', '.join(dtypes)}")
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(data):
                    raise ValueError(f"{member.filename} is compressed or larger than the file")
            return {
                name: _read_array(file.read(member), name, dtype)
                for member, (name, dtype) in zip(members, dtypes.items(), strict=True)
            }
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"damaged archive ({error})") from None


def _read_array(content: bytes, name: str, dtype: str) -> NDArray[np.generic]:
    stream = io.BytesIO(content)
    if npy.read_magic(stream) != (1, 0):
        raise ValueError(f"{name} is not an npy 1.0 array")
    shape, _fortran, found = npy.read_array_header_1_0(stream)
    body = memoryview(content)[stream.tell() :]
    if found.str != dtype or len(shape) != 1 or shape[0] * found.itemsize != len(body):
        raise ValueError(f"{name} is {found.str} {shape} in {len(body)} bytes, not one-dimensional {dtype}")
    return np.frombuffer(body, dtype=np.dtype(dtype))

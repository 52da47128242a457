"""Put files into a .tar.gz whose bytes depend on nothing but these files."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping

SUMS = "SHA256SUMS"
_TIME = 315532800
"""1980, as inside the model file: tar warns of anything at the very beginning of time."""


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Pack files, by their paths, together with a list of their hashes; the same files give the same bytes."""
    whole = {**files, SUMS: list_sums(files).encode("ascii")}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(whole):
            archive.addfile(_describe(name, len(whole[name])), io.BytesIO(whole[name]))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        stream.write(plain.getbuffer())
    return packed.getvalue()


def list_sums(files: Mapping[str, bytes]) -> str:
    """List hashes as `sha256sum --check` reads them."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))


def _describe(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = size, _TIME
    entry.mode = 0o755 if name.endswith(".sh") else 0o644
    return entry

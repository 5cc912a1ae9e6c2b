"""File names and disks: extensions, spellings, what is safe to print, and kinds of filesystems."""

from __future__ import annotations

import binascii
import os

TYPE_CHECKING = False  # importing typing takes longer than this module
if TYPE_CHECKING:
    from collections.abc import Iterator

RAW_EXTENSIONS = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 "
    ".rwl .sr2 .srf .srw .x3f".split()
)
PICTURE_EXTENSIONS = RAW_EXTENSIONS | frozenset(
    ".apng .avif .avifs .blp .bmp .cur .dcx .dds .dib .eps .fli .flc .gif .hdr .heic .heics .heif .heifs .hif .icb "
    ".icns .ico .im .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .jxl .mpo .msp .pbm .pcd .pcx .pfm .pgm .png "
    ".pnm .ppm .psb .psd .pxr .qoi .ras .sgi .svg .svgz .tga .tif .tiff .vda .vst .webp .xbm .xcf .xpm".split()
)
"""Extensions of picture files, whether or not this installation can read them."""
VIDEO_EXTENSIONS = frozenset(".3gp .avi .m4v .mkv .mov .mp4 .webm".split())


def extension(path: str) -> str:
    """The lower-case extension with its dot, or an empty string."""
    return os.path.splitext(path)[1].lower()


def has_picture_extension(path: str) -> bool:
    return extension(path) in PICTURE_EXTENSIONS


def has_video_extension(path: str) -> bool:
    return extension(path) in VIDEO_EXTENSIONS


def is_raw(path: str) -> bool:
    return extension(path) in RAW_EXTENSIONS


def on_disk(path: str) -> str:
    """The path as it is spelled on disk, where an accented character may be one code point or two.

    A path that exists as given, or in no spelling, is returned unchanged.
    """
    if os.path.lexists(path) or path.isascii():
        return path
    import unicodedata

    found = ""
    for part in path.split("/"):
        spellings = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        there = next((each for each in spellings if os.path.lexists(f"{found}{each}" or "/")), None)
        if there is None:
            return path
        found = f"{found}{there}/"
    return found.rstrip("/")


def free_name(path: str) -> str:
    """The path, or the first of `path.1`, `path.2` ... that does not exist."""
    names = (path if number == 0 else f"{path}.{number}" for number in range(1_000_000))
    return next(name for name in names if not os.path.lexists(name))


MIN_INTEGER, MAX_INTEGER = -(1 << 63), (1 << 63) - 1


def mtime_ns(info: os.stat_result) -> int:
    """When a file was modified, in nanoseconds, limited to 64 bits: the years 1677 to 2262."""
    return min(max(info.st_mtime_ns, MIN_INTEGER), MAX_INTEGER)


def inode(info: os.stat_result) -> int:
    """The inode number, cut to 63 bits; some filesystems use 64."""
    return info.st_ino & MAX_INTEGER


def is_utf8(path: str) -> bool:
    """Whether the name's bytes are valid UTF-8 (no surrogate escapes)."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def path_fields(path: str, key: str = "path") -> dict[str, str]:
    """The JSON keys of a path: `path`, and `path_b64` with its exact bytes when they are not UTF-8."""
    if is_utf8(path):
        return {key: path}
    raw = os.fsencode(path)
    return {
        key: raw.decode("utf-8", errors="replace"),
        f"{key}_b64": binascii.b2a_base64(raw, newline=False).decode("ascii"),
    }


# Bidirectional overrides and isolates, zero-width characters, line and paragraph separators: they can make one
# name look like another.
_INVISIBLE = frozenset([0x061C, 0x180E, 0xFEFF, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070)])


def printable(text: str) -> str:
    """The text with control, invisible and undecodable characters escaped, so that a terminal can show it."""
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode's stand-in for a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, f"\\x{code:02x}")
    if 0x80 <= code < 0xA0 or code in _INVISIBLE:
        return f"\\u{code:04x}"
    if 0xD800 <= code <= 0xDFFF:
        return f"\\u{code:04x}"
    return character


_NETWORK_FILESYSTEMS = frozenset(
    "9p afs ceph cifs davfs fuse.davfs2 fuse.rclone fuse.sshfs glusterfs ncpfs nfs nfs4 smb2 smb3 smbfs vboxsf".split()
)


# They keep no permissions, or the same for all files.
_FILESYSTEMS_WITHOUT_MODES = frozenset("exfat fuseblk msdos ntfs ntfs3 vfat".split()) | _NETWORK_FILESYSTEMS


def is_network_filesystem(path: str) -> bool:
    """Whether the path is on a network filesystem. Only known on Linux."""
    return filesystem(path) in _NETWORK_FILESYSTEMS


def keeps_permissions(path: str) -> bool:
    """Whether files there can be private to their owner. Only known on Linux."""
    return filesystem(path) not in _FILESYSTEMS_WITHOUT_MODES


def filesystem(path: str) -> str | None:
    """The filesystem of a path, which need not exist: `ext4`, `nfs4` ... None if unknown."""
    folder = os.fsencode(os.path.realpath(path))
    kinds = {}
    for point, fields in _mounts():
        if folder == point or folder.startswith(point.rstrip(b"/") + b"/"):
            kinds[point] = fields[fields.index(b"-") + 1].decode("ascii", "replace")
    return kinds[max(kinds, key=len)] if kinds else None


def mounts_below(path: str) -> frozenset[tuple[bytes, bytes]]:
    """Mounts inside a folder, as (id, mount point). Only known on Linux."""
    below = os.fsencode(os.path.realpath(path)).rstrip(b"/") + b"/"
    return frozenset((fields[0], point) for point, fields in _mounts() if point.startswith(below))


def _mounts() -> Iterator[tuple[bytes, list[bytes]]]:
    """Mount point and fields of each line of mountinfo."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = [line.split() for line in file]
    except OSError:
        return
    for fields in lines:
        yield fields[4].decode("unicode_escape").encode("latin-1"), fields


def processor_cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def size(number: int) -> str:
    """Bytes as a person reads them: `3.4 MB`."""
    amount = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def clock(seconds: float) -> str:
    """A time in a video as players show it: `1:05`, `1:02:05`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"

"""One file over HTTP: resumed where it broke, tried again, never longer than expected."""

import errno
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from plasticity.files import FULL

CHUNK = 1 << 18
TIMEOUT = 60  # seconds without a byte, or for fewer bytes than SLOWEST
SLOWEST = 1 << 12  # bytes in TIMEOUT seconds
WAITS = (1, 5, 15)  # seconds before a further try; counted anew when bytes have arrived
PASSING = {408, 425, 429}  # client errors that may pass; so may any server error

Report = Callable[[str, int, int], None]


class RefusedError(OSError):
    """An answer that another try would not change."""


def download(url: str, part: Path, most: int, report: Report) -> None:
    """Append to `part` the bytes that it lacks of the file at `url`.

    Args:
        most: bytes that the file can have at most.
        report: called with the present activity, bytes done and bytes in all (0: unknown).

    Raises:
        OSError: no connection, a broken or wrong answer, a full disk. The bytes that have arrived
            stay in `part`, unless they are more than the file can have.
    """
    waits, have = iter(WAITS), _size(part)
    while True:
        try:
            return _once(url, part, most, report)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if _is_local(error):
                raise
            failure = OSError(_plain(error))
            wait = next(waits, None) if _may_pass(error) else None
            if wait is None:
                raise failure from error
        report(f"trying again: {failure}", 0, 0)
        time.sleep(wait)
        if _size(part) > have:
            waits, have = iter(WAITS), _size(part)


def _is_local(error: Exception) -> bool:
    """Whether a file failed, not the connection."""
    if isinstance(error, urllib.error.HTTPError):
        return False
    full = getattr(error, "errno", None) in (*FULL, errno.EFBIG, errno.EIO)
    return full or getattr(error, "filename", None) is not None


def _may_pass(error: Exception) -> bool:
    """Whether another try may do better."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in PASSING
    return not isinstance(error, (RefusedError, ValueError, http.client.InvalidURL))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _plain(error: BaseException) -> str:
    """An error in one line: servers choose some of its text."""
    reason = getattr(error, "reason", None)
    text = error if isinstance(error, urllib.error.HTTPError) or not reason else reason
    line = "".join(c if c.isprintable() else " " for c in str(text)).strip()[:200]
    return line or type(error).__name__


def _once(url: str, part: Path, most: int, report: Report) -> None:
    """One request for the bytes that are missing."""
    have = _size(part)
    try:
        answer = _open(url, have)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if _total(error.headers) in (None, have):  # nothing is left: the whole file is here
            return
        have, answer = 0, _open(url, 0)  # `part` is longer than the file
    if answer.status == 206 and not _starts_at(answer.headers, have):
        answer.close()
        have, answer = 0, _open(url, 0)
    if answer.status not in (200, 206, None) or (
        answer.status == 206 and not _starts_at(answer.headers, have)
    ):
        answer.close()
        raise OSError(f"the server answered with status {answer.status} to a plain request")
    with answer:
        have = have if answer.status == 206 else 0
        total = _length(answer.headers)
        total = have + total if total else 0
        if total > most:
            raise RefusedError(f"the server offers {total} bytes, expected {most} at most")
        if total - have > shutil.disk_usage(part.parent).free:
            raise OSError(errno.ENOSPC, f"No space left on device for {total - have} bytes more")
        with open(part, "ab" if have else "wb") as file:
            began, before = time.monotonic(), have
            while (not total or have < total) and (chunk := answer.read1(CHUNK)):
                file.write(chunk)
                have += len(chunk)
                if have > most:
                    break
                report("downloading", have, total)
                if time.monotonic() - began > TIMEOUT:
                    if have - before < SLOWEST:
                        raise TimeoutError(f"only {have - before} bytes came in {TIMEOUT} seconds")
                    began, before = time.monotonic(), have
    if have > most:
        part.unlink()
        raise RefusedError(f"the server sends more than the {most} bytes expected")
    if have < total:
        raise OSError(f"the connection broke after {have} of {total} bytes")


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"Range": f"bytes={start}-"} if start else {}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _length(headers: http.client.HTTPMessage) -> int:
    """Bytes that the server says it sends; 0 where it does not say, or says no number."""
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else 0


def _starts_at(headers: http.client.HTTPMessage, start: int) -> bool:
    return re.match(rf"bytes {start}-\d", headers.get("Content-Range", "")) is not None


def _total(headers: http.client.HTTPMessage) -> int | None:
    found = re.fullmatch(r"bytes \*/([0-9]{1,18})", headers.get("Content-Range", ""))
    return int(found[1]) if found else None

"""A server on this machine that sends one file, well or badly, and archives for it to send."""

import io
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def packed(files: dict[str, bytes], kind: str = "gz", extra: list[tarfile.TarInfo] = ()) -> bytes:
    """An archive of these files, and of further tar members without content."""
    held = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return held.getvalue()
    with tarfile.open(fileobj=held, mode=f"w:{kind}") as tar:
        for member in extra:
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return held.getvalue()


class Server:
    """Serves `body`.

    Attributes:
        raw: answers given byte by byte instead, one for each request.
        cuts: after how many bytes the connection breaks, for each request.
        ranges: whether it knows of ranges.
        content_range: the range that it claims to send; the true one if empty, none if None.
        pause, trickle: seconds before the answer, and between its bytes.
        gate: awaited before the answer, if any; asked: set by a request.
        seen: the Range of each request.
    """

    def __init__(self):
        self.body, self.raw, self.cuts, self.seen = b"", [], [], []
        self.ranges, self.content_range, self.pause, self.trickle = True, "", 0, 0
        self.gate, self.asked = None, threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.seen.append(self.headers.get("Range"))
                outer.asked.set()
                if outer.gate:
                    outer.gate.wait(10)
                time.sleep(outer.pause)
                try:
                    if outer.raw:
                        return self.wfile.write(outer.raw.pop(0))
                    outer.send(self)
                except OSError:  # the other side has gone
                    pass

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/archive.tar.gz"

    def send(self, request: BaseHTTPRequestHandler) -> None:
        wanted, size = request.headers.get("Range"), len(self.body)
        part = bool(wanted and self.ranges)
        start = int(wanted[6:-1]) if part else 0
        if part and start >= size:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{size}")
            return request.end_headers()
        request.send_response(206 if part else 200)
        request.send_header("Content-Length", str(size - start))
        said = (
            f"bytes {start}-{size - 1}/{size}" if self.content_range == "" else self.content_range
        )
        if part and said:
            request.send_header("Content-Range", said)
        request.end_headers()
        body = self.body[start:]
        body = body[: self.cuts.pop(0)] if self.cuts else body
        if not self.trickle:
            return request.wfile.write(body)
        for byte in body:
            request.wfile.write(bytes([byte]))
            time.sleep(self.trickle)

    def __enter__(self) -> "Server":
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

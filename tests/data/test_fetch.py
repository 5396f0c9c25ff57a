"""Fetching from a server on this machine that breaks, lies and goes on."""

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity.data.fetch import Archive, fetch
from plasticity.errors import UserError

FOLDER = "cifar-10-batches-bin"


def archive(names=(f"{FOLDER}/data_batch_1.bin",), content=bytes(range(256)) * 4000):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Server:
    """Serves one file; may break off after some bytes, or know nothing of ranges."""

    def __init__(self):
        self.body, self.break_after, self.ranges, self.seen, self.status = b"", None, True, [], 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.seen.append(wanted)
                if outer.status != 200:
                    return self.send_error(outer.status)
                start = int(wanted[6:-1]) if wanted and outer.ranges else 0
                if start >= len(outer.body):
                    return self.send_error(416)
                body = outer.body[start:]
                self.send_response(206 if wanted and outer.ranges else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: outer.break_after])

            def log_message(self, *args):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/archive.tar.gz"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    served = Server()
    yield served
    served.http.shutdown()
    served.http.server_close()


def get(server, where, md5=None):
    md5 = md5 or hashlib.md5(server.body).hexdigest()
    return fetch("cifar10", where, Archive(server.url, md5, FOLDER), lambda *a: None)


def test_an_archive_is_downloaded_checked_and_unpacked(server, tmp_path):
    server.body = archive()
    goal = get(server, tmp_path)
    assert (goal / "data_batch_1.bin").read_bytes() == bytes(range(256)) * 4000
    assert [p.name for p in tmp_path.iterdir()] == [FOLDER]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(server, tmp_path, ranges):
    server.body, server.break_after, server.ranges = archive(), 2000, ranges
    with pytest.raises(UserError, match="goes on from what has arrived"):
        get(server, tmp_path)
    assert (tmp_path / "cifar10.tar.gz.part").stat().st_size == 2000
    server.break_after = None
    assert (get(server, tmp_path) / "data_batch_1.bin").exists()
    assert server.seen == [None, "bytes=2000-"]


def test_a_complete_part_needs_no_byte_more(server, tmp_path):
    server.body = archive()
    (tmp_path / "cifar10.tar.gz.part").write_bytes(server.body)
    assert get(server, tmp_path).is_dir()


def test_a_wrong_checksum_is_refused_and_removed(server, tmp_path):
    server.body = archive()
    with pytest.raises(UserError, match="expected 0123"):
        get(server, tmp_path, md5="0123")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../outside.bin", "/tmp/outside-of-it.bin"])
def test_a_path_outside_the_folder_is_never_written(server, tmp_path, name):
    where = tmp_path / "data"
    server.body = archive([f"{FOLDER}/a.bin", name])
    with pytest.raises(UserError, match="is refused"):
        get(server, where)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_no_file_is_written_through_a_link(server, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        link = tarfile.TarInfo(f"{FOLDER}/away")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "elsewhere")
        tar.addfile(link)
        member = tarfile.TarInfo(f"{FOLDER}/away/a.bin")
        tar.addfile(member)
    server.body = packed.getvalue()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UserError, match="no plain file"):
        get(server, tmp_path / "data")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_no_such_file_and_no_server_are_one_sentence(server, tmp_path):
    server.status = 404
    with pytest.raises(UserError, match="404"):
        get(server, tmp_path)
    gone = Archive("http://127.0.0.1:9/none.tar.gz", "0", FOLDER)
    with pytest.raises(UserError, match="could not be fetched"):
        fetch("cifar10", tmp_path, gone, lambda *a: None)


def test_the_command_fetches_and_then_finds(server, tmp_path):
    record = bytes([3]) + bytes(3072)
    server.body = archive([f"{FOLDER}/data_batch_1.bin", f"{FOLDER}/test_batch.bin"], record * 4)
    md5 = hashlib.md5(server.body).hexdigest()
    run = CliRunner().invoke
    where = ["data", "--data-dir", str(tmp_path)]
    done = run(main, [*where, "fetch", "cifar10", "--url", server.url, "--md5", md5])
    assert done.exit_code == 0, done.output
    listed = run(main, where, env={"COLUMNS": "200"})
    assert listed.exit_code == 0 and "plasticity data fetch stl10" in listed.output
    assert "data_batch_1.bin" in listed.output
    failed = run(main, ["data", "--data-dir", str(tmp_path / "x"), "fetch", "cifar10",
                        "--url", "http://127.0.0.1:9/x"])  # fmt: skip
    assert failed.exit_code == 2 and "Traceback" not in failed.output

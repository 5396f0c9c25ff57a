"""Fetching from a server on this machine that breaks, lies and goes on."""

import hashlib
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import pytest
from click.testing import CliRunner
from plasticity.cli import main

from plasticity.data import download
from plasticity.data.fetch import Archive, fetch
from plasticity.errors import UserError
from tests.data.server import Server, packed

FOLDER = "cifar-10-batches-bin"
CONTENT = bytes(range(256)) * 4000
PART = f"{FOLDER}.part/archive"


@pytest.fixture
def server():
    with Server() as served:
        served.body = packed({f"{FOLDER}/data_batch_1.bin": CONTENT})
        yield served


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(download, "WAITS", (0, 0))
    monkeypatch.setattr(download, "TIMEOUT", 0.3)


def archive(server, digest=None, goal=FOLDER, **limits):
    digest = digest or f"md5:{hashlib.md5(server.body).hexdigest()}"
    limits = {"packed": 10**6, "unpacked": 2 * 10**6, "files": 10} | limits
    return Archive(server.url, digest, goal, **limits)


def get(server, where, report=lambda *a: None, **options):
    return fetch(where, (archive(server, **options),), report)[0]


def there(goal):
    return (goal / "data_batch_1.bin").read_bytes() == CONTENT


def test_an_archive_is_downloaded_checked_and_unpacked(server, tmp_path):
    told = []
    goal = get(server, tmp_path, lambda *told_of: told.append(told_of))
    assert there(goal)
    assert [p.name for p in tmp_path.iterdir()] == [FOLDER]
    last = {what.split()[0]: (done, total) for what, done, total in told}
    size = len(server.body)
    assert last == {"downloading": (size, size), "checking": (size, size),
                    "unpacking": (size, size)}  # fmt: skip


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    get(server, tmp_path)
    get(server, tmp_path)
    assert len(server.seen) == 1


def test_a_set_of_several_archives_goes_on_with_those_that_lack(server, tmp_path):
    with Server() as second:
        second.body = packed({"labels.txt": b"1 2 3"}, kind="zip")
        both = (
            archive(server, goal=f"set/{FOLDER}"),
            archive(second, "md5:0", goal="set/labels.txt"),
        )
        with pytest.raises(UserError, match="expected 0"):
            fetch(tmp_path, both, lambda *a: None)
        both = (both[0], archive(second, goal="set/labels.txt"))
        audio, labels = fetch(tmp_path, both, lambda *a: None)
    assert there(audio) and labels.read_bytes() == b"1 2 3"
    assert len(server.seen) == 1 and len(second.seen) == 2
    assert {p.name for p in (tmp_path / "set").iterdir()} == {FOLDER, "labels.txt"}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_taken_up_at_once(server, tmp_path, ranges):
    server.ranges, server.cuts = ranges, [2000, 1000]
    assert there(get(server, tmp_path))
    second = 3000 if ranges else 1000
    assert server.seen == [None, "bytes=2000-", f"bytes={second}-"]


def test_a_download_that_stays_broken_goes_on_with_the_next_command(server, tmp_path):
    server.cuts = [2000, 0, 0, 0]
    with pytest.raises(UserError, match=r"broke after 2000 of \d+ bytes; the same command goes on"):
        get(server, tmp_path)
    assert (tmp_path / PART).read_bytes() == server.body[:2000]
    server.cuts = []
    assert there(get(server, tmp_path))
    assert server.seen[-1] == "bytes=2000-"


@pytest.mark.parametrize("said", ["bytes 0-9/{n}", "bytes 1999-{n}/{n}", "words", None])
def test_a_range_that_was_not_asked_for_is_not_appended(server, tmp_path, said):
    (tmp_path / PART).parent.mkdir()
    (tmp_path / PART).write_bytes(server.body[:2000])
    server.content_range = said and said.format(n=len(server.body))
    assert there(get(server, tmp_path))
    assert server.seen == ["bytes=2000-", None]


def test_a_complete_part_needs_no_byte_more(server, tmp_path):
    (tmp_path / PART).parent.mkdir()
    (tmp_path / PART).write_bytes(server.body)
    assert get(server, tmp_path).is_dir()
    assert server.seen == [f"bytes={len(server.body)}-"]


def test_a_part_longer_than_the_file_is_fetched_anew(server, tmp_path):
    (tmp_path / PART).parent.mkdir()
    (tmp_path / PART).write_bytes(server.body + b"more")
    assert there(get(server, tmp_path))


def test_a_wrong_checksum_is_refused_and_removed(server, tmp_path):
    with pytest.raises(UserError, match="expected 0123"):
        get(server, tmp_path, digest="sha256:0123")
    assert not (tmp_path / PART).exists() and not (tmp_path / FOLDER).exists()


BAD = {
    "no status line": b"",
    "a bad status line": b"HELLO\r\n\r\n",
    "a bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "an endless status line": b"HTTP/1.1 200 " + b"x" * 70000,
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    "an endless header": b"HTTP/1.1 200 OK\r\na: " + b"b" * 70000 + b"\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a part unasked": b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-6/7\r\n\r\nab",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "a negative chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    "a cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc",
    "a redirect to itself": b"HTTP/1.1 302 Found\r\nLocation: /archive.tar.gz\r\n\r\n",
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\n\r\n",
    "a redirect to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "a redirect to a bad address": b"HTTP/1.1 302 Found\r\nLocation: http://[x\r\n\r\n",
    "an error": b"HTTP/1.1 503 Busy \x1b[31m\r\n\r\n",
    "not found": b"HTTP/1.1 404 Not Found\r\n\r\n",
    "too much": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
    "too much unsaid": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_100,
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_a_bad_answer_is_one_sentence(server, tmp_path, answer):
    server.raw = [answer.replace(b"abc", server.body[:3])] * 30
    with pytest.raises(UserError, match="could not be fetched") as told:
        get(server, tmp_path)
    assert str(told.value).isprintable()
    server.raw = []
    assert there(get(server, tmp_path))


@pytest.mark.parametrize("length", ["many", "-1", "1e3", "", "9" * 30])
def test_a_length_that_is_no_number_is_as_none(server, tmp_path, length):
    server.raw = [b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n" % length.encode() + server.body]
    assert there(get(server, tmp_path))


def test_chunks_and_redirects_are_followed(server, tmp_path):
    body = server.body
    chunks = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    server.raw = [
        b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
    ]
    assert there(get(server, tmp_path))


def test_a_server_that_hangs_or_trickles_is_left(server, tmp_path, monkeypatch):
    server.pause = 0.5
    with pytest.raises(UserError, match="timed out"):
        get(server, tmp_path)
    server.pause, server.trickle = 0, 0.05
    monkeypatch.setattr(download, "WAITS", ())
    with pytest.raises(UserError, match=r"only \d+ bytes came in 0.3 seconds"):
        get(server, tmp_path)


def test_what_cannot_pass_is_not_tried_again(server, tmp_path):
    server.raw = [BAD["not found"]] * 5
    with pytest.raises(UserError, match="404: Not Found"):
        get(server, tmp_path)
    assert len(server.seen) == 1
    for url in ("http://127.0.0.1:9/x", "nonsense", "http://[x", "http://a b/", "http://h:x/"):
        server.url = url
        with pytest.raises(UserError, match="could not be fetched"):
            get(server, tmp_path)


def test_a_full_disk_is_told_before_and_while_writing(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10))
    with pytest.raises(UserError, match="No space left on device for"):
        get(server, tmp_path)
    assert len(server.seen) == 1
    monkeypatch.undo()
    full = Path("/dev/full")  # every write to it fails so
    if full.exists():
        (tmp_path / PART).symlink_to(full)
        with pytest.raises(UserError, match="No space left on device; the same command"):
            get(server, tmp_path)
        assert len(server.seen) == 2


def test_a_place_that_cannot_be_written_to(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"could not be fetched into .*file"):
        get(server, tmp_path / "file")
    assert server.seen == []


def test_a_second_fetch_at_once_says_so(server, tmp_path):
    server.gate = threading.Event()
    first = threading.Thread(target=get, args=(server, tmp_path))
    first.start()
    server.asked.wait(10)
    with pytest.raises(UserError, match="another fetch is at work"):
        get(server, tmp_path)
    server.gate.set()
    first.join()
    assert there(tmp_path / FOLDER) and len(server.seen) == 1


def test_an_interruption_leaves_what_has_arrived(server, tmp_path):
    def stop(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path, stop)
    assert there(get(server, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == [FOLDER]


def test_an_archive_without_its_folder_is_refused(server, tmp_path):
    server.body = packed({"other/a.bin": b""})
    with pytest.raises(UserError, match=f"does not hold '{FOLDER}'"):
        get(server, tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_the_command_fetches_and_then_finds(server, tmp_path):
    record = (bytes([3]) + bytes(3072)) * 4
    server.body = packed({f"{FOLDER}/data_batch_1.bin": record, f"{FOLDER}/test_batch.bin": record})
    md5 = hashlib.md5(server.body).hexdigest()
    run = CliRunner().invoke
    where = ["data", "--data-dir", str(tmp_path)]
    server.cuts = [100]
    done = run(main, [*where, "fetch", "cifar10", "--url", server.url, "--md5", md5])
    assert done.exit_code == 0, done.output
    assert "trying again: the connection broke after 100 of" in done.output
    listed = run(main, where, env={"COLUMNS": "200"})
    assert listed.exit_code == 0 and "plasticity data fetch stl10" in listed.output
    assert "data_batch_1.bin" in listed.output
    failed = run(main, ["data", "--data-dir", str(tmp_path / "x"), "fetch", "cifar10",
                        "--url", "http://127.0.0.1:9/x"])  # fmt: skip
    assert failed.exit_code == 2 and "Traceback" not in failed.output
    failed = run(main, [*where, "fetch", "cifar10", "--url", "a", "--url", "b"])
    assert failed.exit_code == 2 and "2 given, cifar10 has 1" in failed.output

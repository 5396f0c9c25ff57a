"""Archives that lie, swell or reach out are refused; what they hold else arrives as it is."""

import io
import tarfile
import zipfile
from random import Random

import pytest

from plasticity.data.unpack import unpack
from plasticity.errors import UserError
from tests.data.server import packed

FILES = {"set/a.bin": b"a" * 1000, "set/deep/b.txt": b"b"}


def unpacked(body, where, most=5000, files=10):
    where.mkdir(exist_ok=True)
    archive = where.parent / "archive"
    archive.write_bytes(body)
    unpack(archive, where, most, files, lambda *told: None)
    return {str(p.relative_to(where)): p.read_bytes() for p in where.rglob("*") if p.is_file()}


def special(kind, name="set/away", **fields):
    member = tarfile.TarInfo(name)
    member.type = kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zip"])
def test_every_kind_of_archive(kind, tmp_path):
    assert unpacked(packed(FILES, kind), tmp_path / "x") == FILES


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside-of-it", "set/../../outside", "."])
@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_no_path_leads_out(name, kind, tmp_path):
    with pytest.raises(UserError, match="is refused"):
        unpacked(packed({**FILES, name: b"x"}, kind), tmp_path / "x")
    assert {p.name for p in tmp_path.iterdir()} == {"x", "archive"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_no_link_or_device(kind, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = special(kind, linkname=str(elsewhere))
    with pytest.raises(UserError, match="no plain file"):
        unpacked(packed({"set/away/a.bin": b"x"}, extra=[link]), tmp_path / "x")
    assert not any(elsewhere.iterdir())


def test_no_link_in_a_zip(tmp_path):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        link = zipfile.ZipInfo("set/away")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    with pytest.raises(UserError, match="no plain file"):
        unpacked(held.getvalue(), tmp_path / "x")


@pytest.mark.parametrize("kind", ["gz", "xz", "zip"])
def test_a_bomb_is_not_unpacked(kind, tmp_path):
    body = packed({"set/zeros": bytes(10**7)}, kind)
    assert len(body) < 12_000
    with pytest.raises(UserError, match="more than 5000 bytes"):
        unpacked(body, tmp_path / "x")
    assert not any((tmp_path / "x").iterdir())


@pytest.mark.parametrize("kind", ["gz", "zip"])
def test_many_members_are_not_unpacked(kind, tmp_path):
    with pytest.raises(UserError, match="more than 10 files"):
        unpacked(packed({f"set/{n}": b"" for n in range(11)}, kind), tmp_path / "x")
    folders = [special(tarfile.DIRTYPE, f"set/{n}") for n in range(11)]
    with pytest.raises(UserError, match="more than 10 files"):
        unpacked(packed({}, extra=folders), tmp_path / "x")


def test_a_header_that_swells_is_not_read(tmp_path):
    member = tarfile.TarInfo("set/a")
    member.pax_headers = {"comment": "x" * 10**7}
    with pytest.raises(UserError, match="a header of"):
        unpacked(packed({}, extra=[member]), tmp_path / "x", most=10**9)


def test_a_zip_that_declares_less_than_it_holds(tmp_path):
    body = packed({"set/a": b"a" * 4000}, "zip")
    small, large = (500).to_bytes(4, "little"), (4000).to_bytes(4, "little")
    assert body.count(large) == 2
    with pytest.raises(UserError, match="is refused"):
        unpacked(body.replace(large, small), tmp_path / "x")


def test_the_same_name_twice(tmp_path):
    member = tarfile.TarInfo("set/a.bin")
    with pytest.raises(UserError, match="twice"):
        unpacked(packed(FILES, extra=[member]), tmp_path / "x")


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zip"])
def test_a_cut_or_damaged_archive(kind, tmp_path):
    body = packed({"set/a": Random(0).randbytes(3000)}, kind)
    damaged = body[:1500] + bytes(b ^ 0x55 for b in body[1500:1600]) + body[1600:]
    bad = [body[: len(body) // 3], b"", b"PK", b"hello" * 200]
    for number, wrong in enumerate(bad if kind == "" else [*bad, damaged]):
        with pytest.raises(UserError, match="is refused"):
            unpacked(wrong, tmp_path / str(number))


def test_a_zip_with_a_password(tmp_path):
    body = bytearray(packed(FILES, "zip"))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(mark) + place] |= 1
    with pytest.raises(UserError, match=r"is refused: .*password"):
        unpacked(bytes(body), tmp_path / "x")


def test_a_name_that_would_move_the_cursor_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError) as told:
        unpacked(packed({"../\x1b[2J\n": b"x"}), tmp_path / "x")
    assert str(told.value).isprintable()

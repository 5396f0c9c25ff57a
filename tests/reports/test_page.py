"""`plasticity report`: one page with all of a run, complete without a network."""

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from PIL import Image
from plasticity.cli import main

from plasticity.reports import page
from tests import browser

SMALL = ["--width", "0.04", "--layers", "2", "--batch", "4", "--steps", "3", "--device", "cpu"]
ALL = [
    "losses",
    "probe",
    "measures",
    "hinge",
    "gates",
    "history",
    "predictions",
    "kernels",
    "patches",
    "spectrum",
    "tsne",
]


def call(*args):
    return CliRunner().invoke(main, list(map(str, args)))


class Page(HTMLParser):
    """The elements of a page: tags with their attributes, and the text under each section."""

    def __init__(self, text):
        super().__init__()
        self.open, self.all, self.sections, self.section = [], [], {}, ""
        self.feed(text)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["id"]
            self.sections[self.section] = ""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.section:
            self.sections[self.section] += data

    def those(self, tag):
        return [attrs for name, attrs in self.all if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with a probe and its report, and a run of random weights without any."""
    folder, pages = tmp_path_factory.mktemp("runs"), {}
    for name, more in {
        "clapp": ("--probe-train", "30", "--probe-test", "20", "--record", "layer=2,random=1"),
        "random": ("--rule", "random", "--no-probe"),
    }.items():
        done = call("run", *SMALL, "--out", folder / name, *more)
        assert done.exit_code == 0, done.output
        done = call("report", folder / name, "--images", "8")
        assert done.exit_code == 0, done.output
        text = (folder / name / "report.html").read_text(encoding="utf-8")
        pages[name] = folder / name, text, done.output
    return pages


def test_the_page_holds_every_part_of_the_run(made):
    folder, text, _ = made["clapp"]
    page = Page(text)
    assert list(page.sections) == ["rule", *ALL, "settings"]
    assert "gamma = y H" in page.sections["rule"] and "NeurIPS 2021" in page.sections["rule"]
    summary = json.loads((folder / "summary.json").read_text())
    assert f"{summary['loss_last'][1]:.3f}" in page.sections["losses"]
    assert f"{summary['images_per_second']:.3g} images/s" in page.sections["losses"]
    assert f"{100 * summary['probe']['trained'][1]:.1f}" in page.sections["probe"]
    for word in ("width", "0.04", "conv2", "numpy", summary["versions"]["numpy"], "Adam", "0.0002"):
        assert word in page.sections["settings"]


def test_every_picture_is_in_the_page_and_told_in_words(made):
    pictures = Page(made["clapp"][1]).those("img")
    assert len(pictures) == len(ALL)
    for attrs in pictures:
        kind, _, content = attrs["src"].partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            image.load()
            assert image.width > int(attrs["width"])  # sharp on fine screens
            assert image.width / image.height == pytest.approx(
                int(attrs["width"]) / int(attrs["height"]), rel=0.02
            )
        assert len(attrs["alt"]) > 40


def test_nothing_is_fetched(made):
    for _, text, _ in made.values():
        page = Page(text)
        assert not page.those("script") and not page.those("link")
        addresses = [
            value
            for _, attrs in page.all
            for name, value in attrs.items()
            if name in ("src", "href", "srcset", "action", "data")
        ]
        assert all(value.startswith(("data:", "#")) for value in addresses)
        without = re.sub(r"base64,[^\"]*", "", text)
        assert not re.search(r"https?:|@import|url\(", without)
        (policy,) = [a["content"] for a in page.those("meta") if "http-equiv" in a]
        assert policy.startswith("default-src 'none'")


def test_every_link_of_the_contents_leads_to_a_section(made):
    page = Page(made["clapp"][1])
    assert {a["href"][1:] for a in page.those("a")} == set(page.sections) - {"rule"}


def test_what_a_run_does_not_have_is_left_out_with_a_word(made):
    _, text, told = made["random"]
    page = Page(text)
    assert list(page.sections) == [
        "rule",
        "measures",
        "kernels",
        "patches",
        "spectrum",
        "tsne",
        "settings",
        "left-out",
    ]
    for word in (
        "no loss",
        "no probe was taken",
        "nothing was recorded",
        "compares nothing",
        "keeps no W_pred",
    ):
        assert word in page.sections["left-out"] and word in told


def test_names_of_files_and_data_do_not_become_markup(tmp_path):
    folder = tmp_path / "<b>run</b> & more"
    done = call("run", *SMALL, "--rule", "random", "--no-probe", "--out", folder)
    assert done.exit_code == 0, done.output
    done = call("report", folder, "--images", "4", "--data-dir", "<script>alert(1)</script>")
    assert done.exit_code == 0, done.output
    text = (folder / "report.html").read_text()
    assert not Page(text).those("script")
    assert "&lt;script&gt;alert(1)" in text and "&lt;b&gt;run&lt;/b&gt; &amp; more" in text


def test_a_damaged_probe_or_missing_data_do_not_cost_the_page(made, tmp_path):
    import shutil

    run = shutil.copytree(made["clapp"][0], tmp_path / "run")
    (run / "probe-regularised-sample.json").write_text('{"layers": 3}')
    done = call("report", run, "--images", "8", "--out", tmp_path / "new" / "page.html")
    assert done.exit_code == 0, done.output
    assert "probe-regularised-sample.json holds no probe: expected" in done.output
    assert "losses" in Page((tmp_path / "new" / "page.html").read_text()).sections


def test_what_is_missing_is_told_in_a_sentence(made, monkeypatch, tmp_path):
    done = call("report", tmp_path / "none")
    assert done.exit_code == 2 and "is no run folder" in done.output
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = call("report", made["clapp"][0], "--out", tmp_path / "page.html")
    assert done.exit_code == 2 and "pip install '.[plot]'" in done.output
    assert not (tmp_path / "page.html").exists()


def test_columns_of_numbers_stand_to_the_right():
    first = {"a": 3, "b": "1,024", "c": "-1.5", "d": 1e-7, "e": "3x3", "f": 2, "g": True}
    second = {"a": 0.5, "b": "7", "c": "+12.0", "d": 2.0, "e": "3", "f": "", "g": False}
    assert page.numeric_columns([first, second]) == {"a", "b", "c", "d"}
    assert page.told({}) == "" and page.told({"rate": "0.5"}) == "rate = 0.5"


@pytest.mark.parametrize("width", [1200, 360])
def test_a_browser_shows_the_page_whole_in_a_wide_and_a_narrow_window(made, tmp_path, width):
    found = browser.look(tmp_path, made["clapp"][1], width)
    assert found["title"] == "clapp on vgg6, sample"
    assert found["console"] == "" and all(f.startswith("data:") for f in found["fetched"])
    assert len(found["images"]) == len(ALL)
    for complete, natural, shown in found["images"]:
        assert complete and natural >= 600 and 0 < shown <= width  # decoded, and inside
    assert found["width"] <= width  # nothing to scroll sideways
    assert found["height"] > 2000


def test_a_browser_opens_the_file_itself_without_a_complaint(made, tmp_path):
    path = tmp_path / "page.png"
    flags = ("--window-size=1000,3000", f"--screenshot={path}")
    _, console = browser.run(tmp_path, made["clapp"][0] / "report.html", *flags)
    assert console == ""
    with Image.open(path) as image:
        assert image.size == (1000, 3000)
        colours = image.convert("RGB").getcolors(1 << 24)
        assert max(colours)[1] == (255, 255, 255) and len(colours) > 500  # figures, on white

"""What is installed: every folder of the package, under a name of its own, with hints that work."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import plasticity
from plasticity.errors import EXTRAS, installs

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_folder_with_modules_is_a_package_that_is_installed():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "plasticity").glob("**/__init__.py")
    }
    assert listed == found | {"plasticity.rules", "plasticity.networks", "plasticity.cli"} | {
        f"plasticity.{path.parent.relative_to(ROOT).as_posix().replace('/', '.')}"
        for path in (ROOT / "cli").glob("**/__init__.py")
    }


def test_files_that_are_no_modules_are_installed_with_their_package():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for path in (ROOT / "plasticity").glob("**/*"):
        if path.suffix in (".cu", ".cuh", ".npz", ".html", ".typed", ".toml"):
            package = ".".join(path.parent.relative_to(ROOT).parts)
            assert any(path.match(pattern) for pattern in data[package]), path


def test_the_version_is_that_of_the_project_file():
    assert plasticity.__version__ == PROJECT["project"]["version"]


@pytest.mark.parametrize(
    "path, line", [("CITATION.cff", "\nversion: {}\n"), ("docs/cite.md", "version = {{{}}},")]
)
def test_what_is_cited_is_this_version(path, line):
    cited = (ROOT / path).read_text(encoding="utf-8")
    assert line.format(PROJECT["project"]["version"]) in cited


def test_the_distribution_has_a_name_of_its_own():
    """`plasticity` on the package index is another project."""
    assert PROJECT["project"]["name"] == "plasticity-rules"
    sources = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    for folder in ("plasticity", "cli", "rules"):
        sources += ROOT.glob(f"{folder}/**/*.py")
    assert not [path for path in sources if "plasticity[" in path.read_text("utf-8")]


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_hint_names_the_packages_of_its_extra(extra):
    wanted = PROJECT["project"]["optional-dependencies"][extra]
    names = [requirement.split(">=")[0].split("==")[0] for requirement in wanted]
    assert EXTRAS[extra].replace("'", "").split() == names
    assert f"pip install '.[{extra}]'" in installs(extra)


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", ""])
def test_the_environment_does_not_decide_how_figures_are_drawn(backend, tmp_path):
    """In a process of its own, and for everything that draws."""
    code = (
        "import os, plasticity.reports.page, plasticity.reports.plots, plasticity.figures as f;"
        "f.save(f.Figure(), 'x.png');"
        f"assert os.environ['MPLBACKEND'] == {backend!r}"
    )
    environment = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").stat().st_size > 100


@pytest.mark.parametrize("first", ["rules", "networks", "cli", "learning", "kernels", "figures"])
def test_a_plain_checkout_imports_without_an_installation(first, tmp_path):
    """Any part first, from another folder."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import plasticity.{first}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

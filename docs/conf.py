"""The documentation as a site: `python -m sphinx -W --keep-going -c docs . build/site`.

The sources are the Markdown files that a code host shows, README.md and CONTRIBUTING.md among them,
so the source folder is the project's. Nothing that the site needs lies outside of it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_sphinx"))

import ziamath

import plasticity

project = "plasticity"
author = "the authors of plasticity"
release = plasticity.__version__
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
exclude_patterns = ["docs/_sphinx"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "docstrings",
    "excerpts",
    "mathml",
    "navigation",
    "reference",
    "sources",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
highlight_language = "text"  # of blocks that name no language, such as equations

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
default_role = "py:obj"  # what backticks are in docstrings

html_theme = "furo"
html_title = f"plasticity {release}"
MATH_FONT = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"  # by the OFL
html_static_path = ["_sphinx/static", str(MATH_FONT)]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False  # the search finds names, too
html_domain_indices = False
html_show_copyright = False
html_math_renderer = "mathml"
html_theme_options = {"top_of_page_buttons": []}

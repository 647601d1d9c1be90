"""Sphinx configuration: `sphinx-build -W -b html docs build/docs`."""

import importlib.util
import sys
from pathlib import Path

from docutils import nodes
from numpydoc.xref import DEFAULT_LINKS

import cython_sparseops

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "cython_sparseops"
author = "the cython_sparseops authors"
version = release = cython_sparseops.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",  # the role "autolink" below
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "cpp_headers",
    "program_output",
]
exclude_patterns = ["_ext", "conftest.py", "guide/fasttext_transcript.md"]
autodoc_mock_imports = [] if importlib.util.find_spec("torch") else ["torch"]
nitpicky = True  # a reference without a target is an error under -W

highlight_language = "none"  # of blocks that do not name theirs

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

default_role = "autolink"  # `name` in a docstring is a link if the package has that name
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # types and shapes stand in the docstrings
autodoc_inherit_docstrings = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = True  # types of the package are links, other words are not
numpydoc_xref_ignore = "all"
DEFAULT_LINKS.clear()
numpydoc_xref_aliases = {name: f"{project}.{name}" for name in cython_sparseops.__all__}
python_use_unqualified_type_names = True


def skip_fields(app, what, name, obj, skip, options):
    """Fields of named tuples: the Attributes of the class describe them."""
    return True if type(obj).__name__ == "_tuplegetter" else skip


def find_public(app, env, node, contnode):
    """A docstring of a submodule names what the package exports as it is."""
    if node.get("refdomain") != "py" or node.get("py:module") == project:
        return None
    name = f"{project}.{node['reftarget']}"
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)


def strip_blocks(app, doctree):
    """The blank line that ends an example is for doctest, not for the reader."""
    for node in doctree.findall(nodes.literal_block):
        text = node.astext().rstrip()
        node.rawsource, node.children = text, [nodes.Text(text)]


def setup(app):
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("missing-reference", find_public)
    app.connect("doctree-read", strip_blocks)

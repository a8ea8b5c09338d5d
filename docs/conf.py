"""Settings of the manual. `bash scripts/docs.sh` builds it, with warnings as errors."""

import sys
import zlib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "scripts"), str(ROOT)]

import tables  # noqa: E402

import vkd_pyro  # noqa: E402

project = "vkd_pyro"
author = "The vkd_pyro developers"
copyright = author
release = version = vkd_pyro.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "myst_nb",
    "docstrings",
]
exclude_patterns = ["_build", "generated"]

html_theme = "furo"
html_title = f"vkd_pyro {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]

# The tables of results are made from results/*.json before each build.
tables.write(HERE / "generated")

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Tutorials are run in temporary folders; a cell that fails is an error of the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars, and warnings that the text speaks of

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False
default_role = "py:obj"  # a name in `backticks` of a docstring is a link where it can be one

# Links to torch and Pyro. Their inventories are not fetched, since a build must not need the network, and a link that
# fails would be a warning: the few names that our docstrings and pages use are listed here, by page of their manuals.
INVENTORIES = {
    "torch": ("https://docs.pytorch.org/docs/stable/", HERE / "inventories" / "torch.txt"),
    "pyro": ("https://docs.pyro.ai/en/stable/", HERE / "inventories" / "pyro.txt"),
}


def inventory(project: str, listed: Path) -> str:
    """Writes Sphinx's form of a list of names, one a line: name, kind, address. Returns the file's path."""
    head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    names = [
        line.split() for line in listed.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    body = "".join(f"{name} py:{kind} 1 {address} -\n" for name, kind, address in names)
    made = HERE / "generated" / f"{project}.inv"
    made.write_bytes(head.encode() + zlib.compress(body.encode()))
    return str(made)


intersphinx_mapping = {name: (url, inventory(name, listed)) for name, (url, listed) in INVENTORIES.items()}

"""The documentation site: `make docs` builds it strictly into build/docs."""

project = "BindChat"
author = "the BindChat authors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "BindChat"
exclude_patterns = ["samples/README.md", "examples"]
myst_heading_anchors = 4
suppress_warnings = ["myst.xref_missing"]  # links out of docs/ lead to the repository; a test checks their targets

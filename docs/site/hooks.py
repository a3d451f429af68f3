"""Hooks of mkdocs: reference pages from the code, pages from the top of the repository, links that fit the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import reference
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "findings/README.md": "findings.md",
}
"""Pages at the top of the repository, and where they lie in the site."""

INDEX, SCENES = "index.md", "scene-index.md"
"""``docs/index.md`` is the page of scene indexes; a site needs that name for its front page."""

MERMAID = re.compile(r"```mermaid\n.*?```", re.DOTALL)


ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source)[^>]+src=["'](?:https?:)?//[^>]*>"""
    r"""|<link[^>]+rel=["'](?:stylesheet|preload|preconnect|icon)["'][^>]+href=["'](?:https?:)?//[^>]*>"""
)

ROLE = re.compile(r":(?:func|class|meth|data|mod|attr):(?=<code>)")


def on_files(files: Files, config: Any) -> Files:
    """Add what does not lie in ``docs/``."""
    texts = {OUTSIDE[name]: _from_top((ROOT / name).read_text()) for name in OUTSIDE}
    texts[SCENES] = (ROOT / "docs" / INDEX).read_text()
    for path, text in {**texts, **reference.pages()}.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of ``docs/`` and to its ``index.md`` lead to where these pages lie in the site."""
    up = "../" * page.file.src_uri.count("/")
    for name, target in OUTSIDE.items():
        markdown = re.sub(rf"\]\({up}\.\./{re.escape(name)}(?=[)#])", f"]({up}{target}", markdown)
    markdown = re.sub(r"\]\(((?:\.\./)*)index\.md(?=[)#])", rf"](\1{SCENES}", markdown)
    # The diagram of imports is for forges: to draw it, a browser would load a library from elsewhere.
    return MERMAID.sub("", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Roles of docstrings, which Sphinx would read, go."""
    return ROLE.sub("", html)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that loads something from elsewhere.

    Raises:
        PluginError: It names a script, style, picture or frame of another host.
    """
    if found := ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from elsewhere: {found[0]}")
    return output


def _from_top(text: str) -> str:
    """A page of the repository's top as it reads from within ``docs/``."""
    text = re.sub(r"\]\(docs/", "](", text)
    for name, target in OUTSIDE.items():
        text = re.sub(rf"\]\({re.escape(name)}(?=[)#])", f"]({target}", text)
    return text

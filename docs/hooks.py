"""Pages of the site that lie elsewhere in the repository: none is copied, and every link works in both places.

On a disk, documents link to files outside of this folder by their paths, such as ``../examples/train_tiny_sr.py``. In
the site each of these files has a page: Markdown as it is, anything else as a block of code. MkDocs calls all this.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NAMED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "ssl_data/store/FORMAT.md": "format.md",
}
"""Pages with a place in the navigation; the path in the repository, and in the site."""
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)")
_LEXERS = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the named pages, and a page for each file that some page links to."""
    waiting = [DOCS / file.src_uri for file in files.documentation_pages()] + [ROOT / name for name in NAMED]
    seen = set(waiting)
    while waiting:
        source = waiting.pop()
        if not _is_in_docs(source):
            files.append(_page(source, config))
        linked = _links(source) if source.suffix == ".md" else []
        new = [target for target in linked if target not in seen and not _is_in_docs(target)]
        seen.update(new)
        waiting += new
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - their names
    """Point links to files of the repository at their pages."""
    source = _source(page.file.src_uri)
    if source.suffix != ".md":
        return markdown
    if source == DOCS / "decisions" / "README.md":
        markdown += "\n" + "\n".join(f"* [{_title(note)}]({note.name})" for note in sorted(source.parent.glob("0*.md")))
    folder = posixpath.dirname(page.file.src_uri) or "."

    def in_site(link: re.Match[str]) -> str:
        target = _target(source, link[0])
        return link[0] if target is None else posixpath.relpath(_uri(target), folder)

    return _LINK.sub(in_site, markdown)


def _title(document: Path) -> str:
    return document.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _page(source: Path, config: MkDocsConfig) -> File:
    if source.suffix == ".md":
        return File.generated(config, _uri(source), abs_src_path=str(source))
    name, text = source.relative_to(ROOT).as_posix(), source.read_text(encoding="utf-8")
    return File.generated(
        config, _uri(source), content=f"# {name}\n\n````{_LEXERS.get(source.suffix, 'text')}\n{text}````\n"
    )


def _links(source: Path) -> list[Path]:
    """The files of the repository that a document links to."""
    targets = (_target(source, link) for link in _LINK.findall(source.read_text(encoding="utf-8")))
    return [target for target in targets if target is not None]


def _target(source: Path, link: str) -> Path | None:
    """The file behind a link, or None where it leads out of the repository."""
    if ":" in link:
        return None
    target = (source.parent / unquote(link)).resolve()
    return target if target.is_file() and target.is_relative_to(ROOT) else None


def _is_in_docs(source: Path) -> bool:
    """Whether MkDocs knows the file anyway; programs are left out there."""
    return source.is_relative_to(DOCS) and source.suffix != ".py"


def _uri(source: Path) -> str:
    """Where a file of the repository is in the site's sources."""
    if _is_in_docs(source):
        return source.relative_to(DOCS).as_posix()
    name = source.relative_to(ROOT).as_posix()
    return NAMED.get(name) or f"files/{name}" + ("" if source.suffix == ".md" else ".md")


def _source(uri: str) -> Path:
    """The inverse of `_uri`."""
    named = {site: name for name, site in NAMED.items()}
    if uri in named:
        return ROOT / named[uri]
    if uri.startswith("files/"):
        path = ROOT / uri.removeprefix("files/")
        return path if path.is_file() else path.with_suffix("")
    return DOCS / uri

"""The commands and the Python code in the documents run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = Path(sys.executable).with_name("ssl-data")
BY_LIGHTNING = [
    "ignore:`isinstance(treespec, LeafSpec)` is deprecated",  # used by Lightning 2.6, deprecated by PyTorch 2.13
    "ignore:The 'train_dataloader' does not have many workers",
]
"""What Lightning warns of in a program that has no fault."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document, language):
    text = document.read_text(encoding="utf-8")
    return [block.group(2) for block in _BLOCK.finditer(text) if block.group(1) == language]


def commands(document):
    """The calls of ssl-data in the shell blocks; installing and testing is left out."""
    parts = [part.strip() for block in blocks(document, "bash") for part in re.split(r"&&|\n", block)]
    return [part.split() for part in parts if part.startswith("ssl-data ")]


def run(arguments, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        arguments, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "document", [document for document in DOCUMENTS if blocks(document, "python")], ids=lambda path: path.name
)
def test_code_runs(document, tmp_path):
    for _, *arguments in commands(document):
        run([COMMAND, *arguments], tmp_path)
    script = tmp_path / "blocks.py"
    script.write_text("\n".join(blocks(document, "python")), encoding="utf-8")
    warnings = [option for rule in ("error", *BY_LIGHTNING) for option in ("-W", rule)]
    assert run([sys.executable, *warnings, script], tmp_path)


def test_a_wrong_block_is_noticed(tmp_path):
    document = tmp_path / "wrong.md"
    document.write_text("text\n\n```python\nimport ssl_data\nassert ssl_data.no_such_name\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="no_such_name"):
        test_code_runs(document, tmp_path)


def test_the_readme_lists_every_command_and_no_other():
    from ssl_data.cli.app import app

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `ssl-data (\w[\w-]*)", readme, re.MULTILINE)
    assert sorted(listed) == sorted(entry.name for entry in (*app.registered_commands, *app.registered_groups))


def anchor(heading):
    """What GitHub and the site call a heading: no punctuation, a hyphen for each space."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"], ids=str)
def test_links_between_files_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    for target in targets:
        path, _, section = target.partition("#")
        linked = document.parent / path if path else document
        assert linked.exists(), f"{document.name} links to {target}"
        headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE) if section else []
        assert not section or section in map(anchor, headings), target

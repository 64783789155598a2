"""Every message quoted on the page about troubleshooting is one that the package can give."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"


def normal(message):
    """One line, in which every run of varying parts is one ellipsis."""
    return re.sub(r"…(?:\s?…)*", "…", " ".join(message.split()))


def text_of(node):
    """The text of a string in the source; a part that varies is an ellipsis."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    return "…"


def strings(tree):
    """All strings of a module, f-strings as a whole; its docstrings are none of them."""
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    skipped = {id(node.body[0].value) for node in documented if isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in skipped:
            yield normal(text_of(node))


@pytest.fixture(scope="module")
def said():
    """Everything that the library and the command line can say."""
    sources = [*(ROOT / "ssl_data").rglob("*.py"), *(ROOT / "cli").glob("*.py")]
    return {text for source in sources for text in strings(ast.parse(source.read_text(encoding="utf-8")))}


def quoted():
    blocks = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_one_of_the_source(message, said):
    assert any(normal(message) in text for text in said)


def test_a_message_that_nothing_says_would_be_noticed(said):
    assert not any("the store … is too beautiful" in text for text in said)
    assert any("is being built by …; wait for it" in text for text in said)


def test_many_messages_are_quoted():
    assert len(quoted()) > 80

"""What a store, a dataset file or an image from elsewhere cannot do."""

import ast
import dataclasses
import shutil
from pathlib import Path

import pytest
from PIL import Image

import ssl_data
from ssl_data import cli, open_store, verify_store
from ssl_data.errors import DatasetError, SourceError, StoreCorruptError
from ssl_data.pipeline.decode import decode_image, image_size
from ssl_data.pipeline.descriptions import parse_description
from ssl_data.store.files import write_atomic
from ssl_data.store.layout import FILES_PATH, record_path
from ssl_data.store.local import LocalSource
from ssl_data.store.manifest import FILE_SCHEMA, encode_table, read_record, read_table

SOURCES = [path for package in (ssl_data, cli) for path in Path(package.__file__).parent.rglob("*.py")]

UNPICKLERS = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
RUNNERS = {"eval", "exec", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "numpy.load", "np.load"}


def misdeeds(tree):
    """Lines of a module that load what can run code, run text as code, or start a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(module.partition(".")[0] in UNPICKLERS for module in modules):
                yield node.lineno
        if isinstance(node, ast.Call):
            name, options = ast.unparse(node.func), {option.arg: option.value for option in node.keywords}
            shell = options.get("shell")
            if name in SHELLS | RUNNERS or (shell is not None and ast.unparse(shell) != "False"):
                yield node.lineno
            if name == "torch.load" and ast.unparse(options.get("weights_only", ast.Constant(None))) != "True":
                yield node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_is_unpickled_nor_run_nor_given_to_a_shell(path):
    assert list(misdeeds(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "eval(text)",
        "yaml.load(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "torch.load(file)",
        "np.load(file, allow_pickle=True)",
    ],
)
def test_the_search_for_misdeeds_finds_them(code):
    assert list(misdeeds(ast.parse(code))) == [1]


OUTSIDE = ["../outside", "/etc/passwd", "gt/../../outside"]


@pytest.fixture
def altered(store, tmp_path):
    return shutil.copytree(store.root, tmp_path / "store")


@pytest.mark.parametrize("path", OUTSIDE)
def test_the_table_of_files_names_none_outside_of_the_store(path, altered):
    rows = read_table(LocalSource(altered), FILES_PATH, FILE_SCHEMA).to_pylist()
    rows[0]["path"] = path
    write_atomic(altered / FILES_PATH, encode_table(FILE_SCHEMA, rows), altered)
    with pytest.raises(StoreCorruptError, match="names a file outside of the store"):
        read_table(LocalSource(altered), FILES_PATH, FILE_SCHEMA)
    assert [problem.where for problem in verify_store(altered)] == [FILES_PATH]


@pytest.mark.parametrize("path", OUTSIDE)
def test_the_record_of_a_shard_names_none_outside_of_the_store(path, altered):
    record = read_record(LocalSource(altered), 0)
    file = dataclasses.replace(record.files[0], path=path)
    write_atomic(altered / record_path(0), dataclasses.replace(record, files=(file,)).encode(), altered)
    with pytest.raises(StoreCorruptError, match="names a file outside of the store"):
        read_record(LocalSource(altered), 0)


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_dataset_file_lists_no_image_outside_of_its_folders(path):
    text = f"folders: [{{path: images, files: [{path}]}}]"
    with pytest.raises(DatasetError, match="files must be a non-empty list of paths that stay in the folder"):
        parse_description(text, "mine.yaml")


def test_a_yaml_tag_that_makes_objects_is_refused():
    with pytest.raises(DatasetError, match="is not YAML"):
        parse_description("name: !!python/object/apply:os.getcwd []", "mine.yaml")


def test_an_image_that_announces_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    Image.new("1", (3000, 3000)).save(tmp_path / "bomb.png")
    content = (tmp_path / "bomb.png").read_bytes()
    assert len(content) < 20_000
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were decoded"))
    for read in (image_size, decode_image):
        with pytest.raises(SourceError, match="more than") as caught:
            read(content, "bomb.png", max_pixels=3000 * 3000 - 1)
        assert caught.value.reason_code == "too_large"


def test_formats_that_refer_to_other_files_are_not_read(tmp_path):
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    for content in (svg.encode(), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/etc/passwd) (r) file"):
        with pytest.raises(SourceError):
            decode_image(content, "image.png", max_pixels=10**6)


def test_a_store_is_opened_by_the_same_code(altered):
    """The copies that the tests above alter are whole before."""
    assert len(open_store(altered)) > 0

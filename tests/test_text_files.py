"""Files of labels, templates and prompts: lines or a JSON list; another format is refused with file and line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import children
import pytest
from conftest import EXAMPLE

from clipworks.cli import main
from clipworks.errors import ClipworksError, TextError, UsageError
from clipworks.text.files import read_lines
from clipworks.text.prompts import read_labels, read_templates
from clipworks.vendor_sample import clip_sample, make_input_npz

GOOD: dict[str, tuple[str | bytes, list[str]]] = {
    "lines": ("cat\n\n  dog  \r\n", ["cat", "dog"]),
    "byte order mark": ("\ufeffcat\ndog", ["cat", "dog"]),
    "old line ends": ("cat\rdog\r", ["cat", "dog"]),
    "JSON on one line": ('["cat", "dog"]\n', ["cat", "dog"]),
    "JSON over lines": ('[\n  "cat",\n  "dog"\n]\n', ["cat", "dog"]),
    "JSON of what lines may not be": (
        json.dumps(["# 1", '"quoted"', "[x]", "a\tb", "label", "1. one"]),
        ["# 1", '"quoted"', "[x]", "a\tb", "label", "1. one"],
    ),
    "JSON of other scripts": ('["گربه", "\\u732b", "👩\u200d🚀"]', ["گربه", "猫", "👩\u200d🚀"]),
    "brackets": ("[red] car\n{b} c\n<3 hearts\n", ["[red] car", "{b} c", "<3 hearts"]),
    "apostrophes": ("'90s fashion\nrock 'n' roll\ndogs'\n", ["'90s fashion", "rock 'n' roll", "dogs'"]),
    "numbers": ("1 dog\n2 dogs\n3.5 mm jack\n", ["1 dog", "2 dogs", "3.5 mm jack"]),
    "commas": ("crane, machine\ncrane, bird\n", ["crane, machine", "crane, bird"]),
    "one heading alone": ("text\n", ["text"]),
    "a hash within": ("C# code\nnumber #1\n", ["C# code", "number #1"]),
    "a dash": ("- a\nb\n", ["- a", "b"]),
    "WordNet ids": ("n01440764\ttench\n", ["n01440764\ttench"]),
    "UTF-16": ("cat\r\n猫\n".encode("utf-16"), ["cat", "猫"]),
    "UTF-16, big end first": (b"\xfe\xff" + "cat\n猫".encode("utf-16-be"), ["cat", "猫"]),
    "JSON of numbers and names": ('{"1": "dog", "0": "cat", "2": " cow "}', ["cat", "dog", "cow"]),
    "JSON of WordNet ids": ('{"n01440764": "tench", "n02012849": "crane"}', ["n01440764 tench", "n02012849 crane"]),
    "JSON of other ids": ('{"felis": "cat", "canis": "dog"}', ["cat", "dog"]),
}
WRONG: dict[str, tuple[str | bytes, int | None, str]] = {
    "NUL": ("cat\nd\0g\n", 2, r"control character '\\x00'"),
    "escape": ("\x1b[31mcat\n", 1, r"control character '\\x1b'"),
    "UTF-16 cut short": ("cat\ndog\n".encode("utf-16")[:-1], 2, "is not UTF-16 text: byte"),
    "Latin-1": (b"cat\nni\xf1o\n", 2, "not UTF-8 text: byte 6 is 0xf1"),
    "comment": ("cat\n# animals\ndog\n", 2, "'# animals' looks like a comment"),
    "quotes": ('"cat"\n"dog"\n', 1, "looks like a quoted text"),
    "quoted CSV": ('cat\n"dog, brown",2\n', 2, "looks like a quoted text"),
    "Python": ("'cat',\n'dog',\n", 1, "looks like a quoted text"),
    "CSV header": ("id,label\n0,cat\n1,dog\n", 1, "looks like the header of a table"),
    "one column with a header": ("label\ncat\ndog\n", 1, "looks like the header of a table"),
    "table": ("cat\t0\ndog\t1\n", 1, "looks like the row of a table"),
    "numbered": ("0: cat\n1: dog\n", 1, "begins with its number"),
    "numbered CSV": ("1,cat\n2,dog\n", 1, "begins with its number"),
    "YAML": ("- cat\n- dog\n", 1, "looks like an entry of a list in YAML"),
    "XML": ('<?xml version="1.0"?>\n<a/>', 1, "looks like HTML or XML"),
    "LFS": ("version https://git-lfs.github.com/spec/v1\noid 1\n", 1, "Git LFS pointer"),
    "JSON of numbers from 1 on": (
        '{"1": "cat", "2": "dog"}',
        None,
        "its ids go from 1 to 2 for 2 names; allowed: each",
    ),
    "JSON of an id twice": ('{"0": "cat", "0": "dog"}', None, "the id '0' stands twice; allowed: each id once"),
    "JSON of objects": ('{"0": {"name": "cat"}}', None, "the name of '0' is an object; allowed: texts"),
    "JSON of lists of objects": ('[{"name": "cat"}]', None, "entry 0 of its JSON list is an object; allowed: texts"),
    "JSON lines": ('{"label": "cat"}\n{"label": "dog"}\n', 2, "looks like JSON, but is damaged"),
    "damaged JSON": ('[\n"cat"\n"dog"\n]', 3, "looks like JSON, but is damaged"),
    "brackets alone": ("[\ncat\n]\n", 2, "looks like JSON, but is damaged"),
    "JSON of numbers": ("[1, 2]", None, "entry 0 of its JSON list is '1'; allowed: texts"),
    "JSON of lists": ('["a", ["n01", "b"]]', None, "entry 1 of its JSON list is"),
    "JSON of null": ('["a", null]', None, "entry 1 of its JSON list is 'null'"),
    "JSON of blanks": ('["a", " "]', None, "entry 1 of its JSON list is ' '; allowed: a text"),
    "JSON of lines": ('["a\\nb"]', None, "allowed: a text without line ends"),
    "JSON of NULs": ('["a\\u0000"]', None, "allowed: a text without line ends, control characters"),
    "empty JSON": ("[]", None, "holds no text"),
    "nested JSON": ("[" * 100_000, 1, "nested too deeply|damaged"),
    "empty": (" \n", None, "holds no text"),
}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", GOOD)
def test_lines_and_json_lists_are_read(name: str, tmp_path: Path) -> None:
    content, texts = GOOD[name]
    assert read_lines(write(tmp_path / "texts.txt", content)) == texts


@pytest.mark.parametrize("name", WRONG)
def test_what_looks_like_another_format_is_refused_with_its_line(name: str, tmp_path: Path) -> None:
    content, line, message = WRONG[name]
    path = write(tmp_path / "texts.txt", content)
    place = f"{path}, line {line}: " if line else str(path)
    with pytest.raises(TextError, match=message) as caught:
        read_lines(path)
    assert caught.value.message.startswith(place)
    assert "\n" not in caught.value.message


TABLES: dict[str, tuple[str, str, list[str]]] = {
    "commas": ("id,name\n0,cat\n1,dog\n", "t.csv:name", ["cat", "dog"]),
    "quotes": ('id,name\n0,"crane, bird"\n\n1,"a ""b"""\n', "t.csv:name", ["crane, bird", 'a "b"']),
    "tabs": ("id\tname\n0\tcat\n", "t.tsv:name", ["cat"]),
    "semicolons": ("id;the name\n0;cat\n", "t.csv:the name", ["cat"]),
    "one column": ("name\ncat\n# dog\n", "t.csv:name", ["cat", "# dog"]),
    "one column that is not named": ("cat\ndog\n", "t.csv", ["cat", "dog"]),
    "another ending": ("id,name\n0,cat\n", "t.txt:name", ["cat"]),
    "a colon in the file's name": ("cat\n", "t:name", ["cat"]),
}
WRONG_TABLES: dict[str, tuple[str, str, str]] = {
    "no column": (
        "id,name\n0,cat\n",
        "t.csv",
        r"t\.csv, line 1: a table with the columns id, name; allowed: one, as in",
    ),
    "a typo": ("id,name\n0,cat\n", "t.csv:nam", r"unknown column of .*t\.csv 'nam': did you mean 'name'\?"),
    "a cell too few": ("id,name\n0,cat\n1\n", "t.csv:name", "t.csv, line 3: the column name holds no text"),
    "a cell too many": (
        "id,name\n0,dog,\n1,cat, domestic\n",
        "t.csv:name",
        "t.csv, line 3: 3 cells, where the header has",
    ),
    "nothing": ("", "t.csv:name", r"t\.csv is empty; allowed: a table whose first line names the columns"),
    "an empty cell": ("id,name\n0,\n", "t.csv:name", "t.csv, line 2: the column name holds no text"),
    "a line within a cell": (
        'id,name\n0,"a\nb"\n',
        "t.csv:name",
        r"line 3: the column name is 'a\\nb'; allowed: one line",
    ),
    "no row": ("id,name\n", "t.csv:name", "holds no text below its header"),
    "a name twice": ("name,name\n0,cat\n", "t.csv:name", "line 1: 2 columns have the name name"),
    "JSON": ('["cat"]', "t.json:name", "is JSON, which has no column name"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_column_of_a_table_is_named_behind_the_file(name: str, tmp_path: Path) -> None:
    content, source, texts = TABLES[name]
    file = source if name.startswith("a colon") else source.partition(":")[0]
    write(tmp_path / file, content)
    assert read_lines(tmp_path / source) == texts
    assert read_labels(str(tmp_path / source)).names == tuple(texts)


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_what_a_table_lacks_is_said_with_its_line(name: str, tmp_path: Path) -> None:
    content, source, said = WRONG_TABLES[name]
    write(tmp_path / source.partition(":")[0], content)
    with pytest.raises(ClipworksError, match=said):
        read_lines(tmp_path / source)


def test_another_encoding_is_told_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.txt", "猫\n狗\n".encode("gbk"))
    assert read_labels(str(path), encoding="gbk").names == ("猫", "狗")
    with pytest.raises(TextError, match=r"labels\.txt, line 2: is not UTF-8 text") as caught:
        read_lines(path)
    assert caught.value.hint == "save it as UTF-8, or say what it is: --encoding gbk, or another"
    write(path, b"cat\n\xff\xff\n")
    with pytest.raises(TextError, match=r"labels\.txt, line 2: is not gbk text: byte 4 is 0xff"):
        read_lines(path, encoding="gbk")
    for encoding in ("utf-16-le", "utf-16-be"):
        for content in ("cat\ndog\n", "猫\n狗\n"):
            with pytest.raises(TextError, match="is not") as caught:
                read_lines(write(path, content.encode(encoding)))
            assert caught.value.hint == f"save it as UTF-8, or say what it is: --encoding {encoding}"
    with pytest.raises(UsageError, match=r"gone\.csv does not exist"):
        read_lines(f"{tmp_path}/gone.csv:name")
    for encoding in ("klingon", "base64"):
        with pytest.raises(UsageError, match=f"unknown encoding '{encoding}'; allowed: those of Python, as utf-8"):
            read_lines(path, encoding=encoding)


def test_texts_come_on_standard_input() -> None:
    command = [sys.executable, "-m", "clipworks", "match", str(EXAMPLE), "--texts-file", "-", "--runtime", "fake"]
    done = children.run(command, input="a cat\na dog\n", capture_output=True, text=True, check=False)
    assert {line.split("\t")[2] for line in done.stdout.splitlines()} == {"a cat", "a dog"}
    done = children.run(command, input="\n", capture_output=True, text=True, check=False)
    assert (done.returncode, "standard input holds no text" in done.stderr) == (1, True)
    command[4] = "-"
    done = children.run(command, input="", capture_output=True, text=True, check=False)
    assert (done.returncode, "- is SOURCE and --texts-file" in done.stderr) == (2, True)


def test_labels_and_templates_come_from_json_too(tmp_path: Path) -> None:
    path = str(write(tmp_path / "list.json", '["n01440764 tench", "n02012849 crane"]'))
    assert read_labels(path).ids == ("n01440764", "n02012849")
    path = str(write(tmp_path / "templates.json", '["# {}", "\\"{}\\""]'))
    assert read_templates(path) == ("# {}", '"{}"')


def commands(path: Path, folder: Path) -> dict[str, list[Any]]:
    """Every command that takes a file of texts, given this one."""
    good, model = write(folder / "good.txt", "cat\ndog\n"), ["--runtime", "fake"]
    results = write(folder / "r.jsonl", '{"index":0,"path":"cat/a.png","top":[{"id":0,"score":1.0,"name":"cat"}]}\n')
    classify = ["classify", folder, *model, "-o", folder / "out.jsonl"]
    compare = ["compare", *model, EXAMPLE.parent, "-o", folder / "compared"]
    return {
        "match": ["match", EXAMPLE, *model, "--texts-file", path],
        "classify labels": [*classify, "--labels", path],
        "classify templates": [*classify, "--labels", good, "--templates", path],
        "compare": [*compare, "--labels", path],
        "doctor": ["doctor", *model, "--texts-file", path],
        "profile": ["profile", "text", *model, "--texts", path],
        "evaluate": ["evaluate", results, "--labels", path],
    }


@pytest.mark.parametrize(
    "name", ["match", "classify labels", "classify templates", "compare", "doctor", "profile", "evaluate"]
)
def test_every_command_refuses_another_format(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "texts.txt", "label\ncat {}\ndog {}\n")
    words = commands(path, tmp_path)[name]
    assert main([str(word) for word in words]) == 1
    assert f"{path}, line 1: 'label' looks like the header of a table" in capsys.readouterr().err


def test_the_vendors_commands_refuse_another_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "labels.txt", "# classes\ncat\n")
    said = f"{path}, line 1: '# classes' looks like a comment"
    assert make_input_npz.main(["--label_file", str(path), "--npz_files_path", str(tmp_path / "npz")]) == 1
    assert said in capsys.readouterr().err
    assert clip_sample.main(["--input_file", str(EXAMPLE), "--label_file", str(path)]) == 1
    assert said in capsys.readouterr().err


def test_a_json_list_gives_match_its_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "texts.json", '["cat", "# dog"]')
    assert main(["match", str(EXAMPLE), "--texts-file", str(path), "--runtime", "fake", "--json"]) == 0
    assert {score["text"] for score in json.loads(capsys.readouterr().out)["scores"]} == {"cat", "# dog"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (r'["\ud83d cat", "a dog"]', "entry 0 of its JSON list is .*; allowed: a text without"),
        (f"[{'1' * 5000}]", "holds a number that is too long"),
    ],
)
def test_json_that_python_reads_and_nobody_wants_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TextError, match=said):
        read_lines(path)

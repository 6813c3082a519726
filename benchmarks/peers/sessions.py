"""Workers seen from the driver: started, asked and ended."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from peers.environments import HOME, describe_surroundings
from peers.rows import Row

INPUTS = HOME / "inputs"
LOGS = HOME / "logs"


class Session:
    """One worker process, ready to be asked; ``offers`` says for what, and ``error`` why it could not be opened."""

    def __init__(self, row: Row, *, alone: bool = False) -> None:
        self.row = row
        surroundings = describe_surroundings() | ({"PEERS_ALONE": "1"} if alone else {})
        LOGS.mkdir(parents=True, exist_ok=True)
        with (LOGS / f"{row.key}.txt").open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                list_words(row),
                env=surroundings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        opened = self._read()
        self.error: str | None = opened.get("error")
        self.offers: list[str] = opened.get("offers", [])

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": do, **details}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            return {"error": f"the process ended without an answer (status {self._process.wait()})"}
        answer: dict[str, Any] = json.loads(line)
        return answer


def list_words(row: Row) -> list[str]:
    """The command line of a row's worker."""
    python = HOME / row.peer / "bin" / "python"
    return [str(python), "-m", "peers.worker", row.peer, row.precision, row.variant, str(INPUTS)]


def match_cold(row: Row, photograph: str, texts: list[str]) -> tuple[float, dict[str, Any]]:
    """Seconds from the start of a new process to its first scores, and the scores."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{row.key}-cold.txt").open("w", encoding="utf-8") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*list_words(row), "--match", photograph, *texts],
            env=describe_surroundings(),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        process.wait()
    return seconds, json.loads(line) if line else {"error": "the process ended without an answer"}


def save_list(path: Path, items: list[str]) -> str:
    """Write a JSON list and return its path."""
    path.write_text(json.dumps(items), encoding="utf-8")
    return str(path)

"""A small sample of ``make test-faults``: a server as a process, bad images, clients that go, idle connections."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("starlette")  # of the extra serve
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a process has open is read from /proc")


def test_a_server_among_faults_fails_nobody_else(capsys: pytest.CaptureFixture[str]) -> None:
    from serve_fault_runs import main

    words = ["--images", "16", "--connections", "50", "--clients", "3", "--timeout-s", "60"]
    assert main(["mutated", "vanishing", "idle", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["mutated", "vanishing", "idle"]
    assert "50 connections took" in lines[2]

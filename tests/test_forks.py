"""A process that is forked from one with a model ends by itself, and cannot use that model; it never hangs."""

from __future__ import annotations

import multiprocessing
import os
import sys

import children
import pytest

from clipworks import runtimes

ENDS_S = 30.0  # not 5, since the machine may be busy with others: who hangs never ends
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# Prints how each child ended: its status, or that it did not end in time.
PROGRAM = """
import multiprocessing, os, signal, sys, time, warnings
from concurrent.futures import ProcessPoolExecutor
import numpy as np
import clipworks

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of a fork beside threads
runtime, ends_s = sys.argv[1], float(sys.argv[2])
bundle = sys.argv[3]
model = clipworks.load(bundle, clipworks.RuntimeOptions(runtime=runtime))
image = np.zeros((64, 48, 3), np.uint8)
expected = model.embed_images([image])

def use():
    try:
        model.embed_images([image])
    except clipworks.ClipworksError as error:
        print("images:", error.message, flush=True)
    try:
        model.embed_texts(["a dog"])
    except clipworks.ClipworksError as error:
        print("texts:", error.message, flush=True)
    model.close()

def load():
    try:
        with clipworks.load(bundle, clipworks.RuntimeOptions(runtime=runtime)) as other:
            same = np.abs(other.embed_images([image]) - expected).max() < 1e-4
        print("load:", "same" if same else "other", flush=True)
    except clipworks.ClipworksError as error:
        print("load:", error.message, flush=True)

def drop():
    global model
    del model

def stop():
    raise SystemExit(9)

for name, work in (("exit", lambda: None), ("use", use), ("load", load), ("drop", drop), ("stop", stop)):
    child = os.fork()
    if not child:
        work()
        sys.exit(7)
    end = time.monotonic() + ends_s
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    print(f"{name}: status {os.waitstatus_to_exitcode(ended[1])}", flush=True)

fork = multiprocessing.get_context("fork")
process = fork.Process(target=use)
process.start()
process.join(ends_s)
print("Process:", process.exitcode, flush=True)

def embed(text):
    return model.embed_texts([text]).shape

with ProcessPoolExecutor(1, mp_context=fork) as pool:
    try:
        print(pool.submit(embed, "a dog").result(ends_s), flush=True)
    except clipworks.ClipworksError as error:
        print("pool:", error.message, flush=True)
print("parent:", bool((model.embed_images([image]) == expected).all()), flush=True)
"""


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime", "torch"])
def test_a_forked_process_ends_and_is_told_not_to_use_the_model(runtime: str, request: pytest.FixtureRequest) -> None:
    if not runtimes.list_installed([runtime]):
        pytest.skip(f"{runtime} is not installed")
    assert "fork" in multiprocessing.get_all_start_methods()
    # torch runs towers of our converter alone.
    model = str(request.getfixturevalue("clip_bundle")) if runtime == "torch" else "starter"
    words = [runtime, str(ENDS_S), model]
    done = children.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = (
        f"this model was loaded before a fork, and {runtime} does not run in the forked process: start processes with "
        "multiprocessing's spawn, and load a model in each"
    )
    shared = f"{runtime} was in use before a fork, and does not run in the forked process: start processes with "
    loaded = "same" if runtime == "onnxruntime" else f"{shared}multiprocessing's spawn"
    assert done.stdout.splitlines() == [
        "exit: status 7",
        f"images: {told}",
        f"texts: {told}",
        "use: status 7",
        f"load: {loaded}",
        "load: status 7",
        "drop: status 7",
        "stop: status 9",
        f"images: {told}",
        f"texts: {told}",
        "Process: 0",
        f"pool: {told}",
        "parent: True",
    ]

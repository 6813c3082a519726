# `make demo` and `make test` need Python 3.11 or newer and nothing else: they build their own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test test-modes test-user sanitize test-matrix test-torch test-ray test-faults test-signals lint format wheel bench bench-peers bench-families parity clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The compiled modules are optional, so a machine without a C compiler passes too.
BUILT := pyproject.toml setup.py src/clipworks/images/_resampling.c $(wildcard src/clipworks/runtimes/native/compiled/*.[ch])

.venv/installed: $(BUILT)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "clipworks needs Python 3.11 or newer; try: make PYTHON=python3.12 demo" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: .venv/installed  ## match the example image with three texts
	$(BIN)/clipworks match examples/CLIP.png "a diagram" "a dog" "a cat"

test: .venv/installed  ## run the tests (offline)
	$(BIN)/python -m pytest -n 2 --dist worksteal

kernels: .venv/installed  ## plant a fault in each kernel's remainder and see that the kernels' tests find it
	$(BIN)/python tools/plant_kernels.py

sanitize: .venv/installed  ## run the compiled code's tests under gcc's sanitizers (address, undefined behaviour, threads)
	$(BIN)/python tools/sanitize.py

test-modes: .venv/installed  ## run the tests that touch runtimes on less: no compiled code, AVX2, no BF16, one core
	$(BIN)/python tests/run_modes.py

test-user: .venv/installed  ## run the tests as a user who is not root, with a read-only home
	$(BIN)/python tests/run_modes.py --user

# Interpreters by name, which PATH finds, or by path: make test-matrix PYTHONS="python3.12 /opt/python3.13/bin/python"
PYTHONS ?= python3.11 python3.12 python3.13
DEPENDENCIES ?= lowest newest
TESTS ?=

test-matrix: .venv/installed  ## run the tests on 3.11 to 3.13, lowest and newest dependencies (PYTHONS=... DEPENDENCIES=... TESTS=...)
	$(BIN)/python tests/run_matrix.py $(PYTHONS:%=--python %) --dependencies $(DEPENDENCIES) -- $(TESTS)

test-torch: .venv-reference/installed  ## run the tests that need PyTorch
	.venv-reference/bin/python -m pytest tests/test_torch.py tests/test_torch_cuda.py tests/test_torch_decoding.py tests/test_convert_checkpoint.py tests/test_siglip_towers.py

lint: .venv/installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed  ## bring the code to the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: .venv/installed  ## build the wheel, install it into an empty environment and use it from another folder
	rm -rf dist build .venv/wheel
	@# what an earlier build left behind must not come into the wheel: a module that is gone, an old compiled file
	for folder in build/lib "build/lib.$$($(BIN)/python -c 'import sys, sysconfig; print(sysconfig.get_platform() + "-" + sys.implementation.cache_tag)')"; do \
	  mkdir -p "$$folder/clipworks" && touch "$$folder/clipworks/stale.py" "$$folder/clipworks/_stale.abi3.so" "$$folder/clipworks/_towers.abi3.so"; done
	$(BIN)/python -m build --wheel --outdir dist . >/dev/null
	$(BIN)/python -c 'import sys, zipfile; found = [item.filename for item in zipfile.ZipFile(sys.argv[1]).infolist() if "stale" in item.filename or (item.filename.endswith(".so") and not item.file_size)]; sys.exit(f"stale files in the wheel: {found}" if found else 0)' dist/*.whl
	rm -rf build
	$(PYTHON) -m venv .venv/wheel
	.venv/wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd / && "$(CURDIR)/.venv/wheel/bin/clipworks" match "$(CURDIR)/examples/CLIP.png" "a diagram" "a dog" "a cat" --json
	@# an engine that is an extra is asked for by its name, and works once it is there
	! .venv/wheel/bin/clipworks match examples/CLIP.png "a dog" --runtime onnxruntime
	.venv/wheel/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[onnxruntime]"
	.venv/wheel/bin/clipworks match examples/CLIP.png "a diagram" "a dog" "a cat" --runtime onnxruntime
	rm -rf .venv/wheel

# The reference needs PyTorch, so it has an environment of its own.
.venv-reference/installed: $(BUILT)
	$(PYTHON) -m venv .venv-reference
	.venv-reference/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-reference/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[onnxruntime]' transformers==5.23.0 scikit-image==0.26.0 'pytest>=9,<10'
	@# their model code runs without torchvision, which does not import beside this PyTorch
	.venv-reference/bin/python -m pip install --quiet --disable-pip-version-check --no-deps open_clip_torch==3.3.0 timm==1.0.31
	@# NVIDIA publishes it for 64-bit Linux and Windows; without it its tests are left out
	-.venv-reference/bin/python -m pip install --quiet --disable-pip-version-check nvidia-nvimgcodec-cu12==0.9.0.20
	@touch $@

parity: .venv-reference/installed  ## compare converted towers with transformers (SHAPES="B/32" for one only; FAMILY=siglip2, pe-core or chinese-clip), or pixels (PHOTOGRAPHS=FOLDER)
	.venv-reference/bin/python benchmarks/$(if $(PHOTOGRAPHS),preprocessing_parity.py "$(PHOTOGRAPHS)",$(if $(filter pe-core chinese-clip,$(FAMILY)),$(subst -,_,$(FAMILY))_parity.py,$(if $(FAMILY),siglip_parity.py --family $(FAMILY),parity.py))) $(if $(SHAPES),--shapes $(SHAPES)) $(if $(TORCHVISION),--torchvision "$(TORCHVISION)")

# Ray is large and only the engine needs it, so its tests have an environment of their own.
.venv-ray/installed: $(BUILT)
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[ray-test]'
	@touch $@

test-ray: .venv-ray/installed  ## test classify and embed on a real Ray (about five minutes)
	.venv-ray/bin/python -m pytest -m ray

# What Ctrl-C finds in the midst of an import differs between Pythons, so two are tried.
PYTHON312 ?= python3.12
MOMENTS ?= 50

.venv-312/installed: $(BUILT)
	$(PYTHON312) -m venv .venv-312
	.venv-312/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[onnxruntime,serve]' 'pytest>=9,<10'
	@touch $@

test-faults: .venv/installed  ## run a server among bad images, slow, vanishing and idle clients, kills, a full disk (FAULTS="kill soak")
	$(BIN)/python tests/serve_fault_runs.py $(FAULTS)

test-signals: .venv/installed  ## press Ctrl-C at 50 random moments of every command, on two Pythons (MOMENTS=N; PYTHON312=...)
	@status=0; $(BIN)/python tests/signal_runs.py --moments $(MOMENTS) || status=1; \
	if $(PYTHON312) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then \
	  $(MAKE) .venv-312/installed && .venv-312/bin/python tests/signal_runs.py --moments $(MOMENTS) || status=1; \
	else echo "SKIPPED on Python 3.12: $(PYTHON312) is none; PYTHON312=... names one"; fi; \
	exit $$status

bench: .venv/installed  ## measure start-up time and memory
	$(BIN)/python benchmarks/startup.py

bench-peers: .venv/installed .venv-reference/installed  ## compare with other libraries (PHOTOGRAPHS=FOLDER; WORK="a,b" for some)
	@test -n "$(PHOTOGRAPHS)" || { echo "give a folder of at least 320 JPEG files: make bench-peers PHOTOGRAPHS=FOLDER" >&2; exit 2; }
	PYTHONPATH=benchmarks $(BIN)/python -m peers --photographs "$(PHOTOGRAPHS)" --prepare
	PYTHONPATH=benchmarks $(BIN)/python -m peers --photographs "$(PHOTOGRAPHS)" --check $(if $(WORK),--work $(WORK))
	PYTHONPATH=benchmarks $(BIN)/python -m peers --photographs "$(PHOTOGRAPHS)" --limits
	PYTHONPATH=benchmarks $(BIN)/python -m peers --photographs "$(PHOTOGRAPHS)" $(if $(WORK),--work $(WORK)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-families: .venv-reference/installed  ## compare encoders with transformers (MODELS="clip-b-32"; ROUNDS=N; INT8=1)
	PYTHONPATH=benchmarks .venv-reference/bin/python -m peers.families $(if $(MODELS),--models $(MODELS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(INT8),--int8)

clean:  ## remove the environment and caches
	rm -rf .venv .venv-reference .venv-ray .venv-312 .venv-matrix .venv-peers dist build .pytest_cache .mypy_cache .ruff_cache .sanitize

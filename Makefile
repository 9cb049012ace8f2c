# One target for each thing that a user or a developer does. It needs Python >= 3.11 with venv and
# pip.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
RUN := $(VENV)/bin/python -m

.PHONY: help mnist figure3 table3 table4 benchmark peers store test test-faults test-long \
	test-portable test-gpu benchmark-gpu check constraints clean

help:
	@echo "make mnist    the full grid of Figure 3, one seed, one epoch, into ./results"
	@echo "make figure3  the paper's whole sweep: 3 seeds, 64 epochs (about 40 minutes, 2 cores)"
	@echo "make table3   how often phi of Fa-Z-IL finds the step t = l, and what makes it fail"
	@echo "make table4   what a weight update costs beside backpropagation's, on AlexNet and others"
	@echo "make benchmark   the speed of a core, beside plain torch and, after make peers, other libraries"
	@echo "make store    an S3 server on this machine, for trying things by hand"
	@echo "make test     the tests        make check   format, lint, types, import rules"
	@echo "make test-faults   what is lost when workers, nodes, drivers and stores fail (nothing)"
	@echo "make test-long     proofs, full lengths, other builds: what CI does not run"
	@echo "make test-gpu      the bits of this machine's GPU    make benchmark-gpu   its speed"
	@echo "make test-portable the defined bits on other processors, in the emulator QEMU"

mnist: $(VENV)/installed
	$(RUN) jobs.mnist_ablation --store results --sweep mnist

figure3: $(VENV)/installed
	$(RUN) jobs.mnist_ablation --store results --sweep figure3 --epochs 64 \
		--seeds 1482555873,698841058,2283198659

table3: $(VENV)/installed
	$(RUN) jobs.detection_rate --store results --sweep table3

table4: $(VENV)/installed
	$(RUN) jobs.imagenet_timing --store results --sweep table4 --updates 10

benchmark: $(VENV)/installed
	$(RUN) jobs.benchmark

# Other libraries of predictive coding. Only the benchmark uses them. They get an environment of
# their own, because they need other versions of libraries than this project.
peers: $(PEERS)/installed

$(PEERS)/installed: infra/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r infra/peers.txt
	touch $@

store: $(VENV)/installed
	$(VENV)/bin/python tests/support/seaweed.py

test: $(VENV)/installed
	$(RUN) pytest

test-faults: $(VENV)/installed
	$(RUN) pytest -m 'faults and not long'

# not run by CI: before an issue is resolved
test-long: $(VENV)/installed
	$(RUN) pytest -m long

# On any machine with an NVIDIA GPU, with its own Python: torch, NumPy and pytest are enough.
GPU_TESTS = $(PYTHON) -m pytest -c /dev/null --rootdir=. --noconftest -p no:cacheprovider -q -rs

test-gpu:
	PYTHONPATH=. $(GPU_TESTS) -W ignore tests/gpu

benchmark-gpu:
	$(PYTHON) -m jobs.gpu_speed

# not run by CI: it needs qemu-user and, for one of its builds, gcc-aarch64-linux-gnu
test-portable: $(VENV)/installed
	$(RUN) pytest -m portable

check: $(VENV)/installed
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python >= 3.11 is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Writes constraints.txt: the versions that a fresh environment gets today. They are then the
# versions that are tested together.
constraints:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check -e '.[dev,browser]'
	{ echo "# the versions that were tried together; made by: make constraints"; \
		$(RUN) pip freeze --exclude-editable; } > constraints.txt

clean:
	rm -rf $(VENV) $(PEERS)

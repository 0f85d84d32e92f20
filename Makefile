# make run          run the default study (scikit-learn's digits) and draw its figures
# make report       run it and write report.html and report.zip into the folder of the study
# make draft        draw what exists of a study that is not finished
# make test         run the fast tests
# make test-all     run all tests
# make test-gpu     run the tests that need a GPU
# make test-slurm   run the tests on a Slurm cluster that is emulated on this machine
# make lint         check the style
# make reference    write the schema of configs and docs/config.md again, from their source
# make fuzz         read 100,000 hostile inputs
# make faults       disturb trainings in many ways, and print how each ended
# make images       run the default study and copy its figures to docs/images
# make slurm        install what profiles/slurm needs
# make clean        delete .venv and caches; results stay
#
# Each target sets up .venv first, if needed. Other studies: make run CONFIG=config/mine.yaml
# (also report and draft). Another Python: make setup PYTHON=python3.12

# The version of a Python, such as 3.11. $(1): its command.
version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
quoted = '$(subst ','\'',$(1))'

# .venv is made again if PYTHON is given and has another version, if its own Python no longer has
# the version that it was made with, or if the checkout moved (scripts in .venv hold its path).
ASKED := $(PYTHON)
PYTHON ?= python3
MADE_FOR := $(CURDIR) with Python $(call version,$(or $(ASKED),.venv/bin/python))
BIN = .venv/bin

# nproc counts the cores that this process may use. OMP_NUM_THREADS would change its answer.
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
STUDY = $(if $(CONFIG),--configfile $(call quoted,$(CONFIG)))

.PHONY: setup slurm run report draft test test-all test-gpu test-slurm fuzz faults lint images
.PHONY: reference clean again given

setup: .venv/done

ifneq ($(shell cat .venv/made-for 2>/dev/null),$(MADE_FOR))
.venv/made-for: again
endif

.venv/made-for:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) must be Python 3.11 or newer. Install one, and name it:" \
			"make setup PYTHON=python3.11"; exit 1; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	echo $(call quoted,$(CURDIR)) with Python $(call version,$(PYTHON)) > $@

# Bytecode is compiled once, here: it halves the start of every job.
.venv/done: .venv/made-for requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.txt
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

slurm: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.txt -e '.[slurm]'

run: given
	$(BIN)/snakemake --cores $(CORES) $(STUDY)

# Snakemake has a traceback, or a line without a place, for a config that cannot be read.
READ = import sys; from wa.errors import program; from wa.study.config_file import read_config; \
	program(lambda: read_config(sys.argv[1]))
given: setup
	@$(if $(CONFIG),$(BIN)/python -c '$(READ)' $(call quoted,$(CONFIG)),:)

# The report lies in the folder of the study.
EXPERIMENT = $(shell $(BIN)/python -c 'import sys; from wa.study.config_file import read_config; \
	print(read_config(sys.argv[1])["experiment"])' $(call quoted,$(or $(CONFIG),config/config.yaml)))
REPORT = $(BIN)/snakemake $(STUDY) --report-stylesheet workflow/report/report.css --report

report: run
	$(REPORT) $(call quoted,results/$(EXPERIMENT)/report.html)
	$(REPORT) $(call quoted,results/$(EXPERIMENT)/report.zip)

draft: given
	$(BIN)/snakemake --cores $(CORES) $(STUDY) --config draft=True

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -q -m 'not slow'

test-all: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

test-gpu: setup
	$(BIN)/python -m pytest -q -m gpu

# As root, on a machine without a Slurm of its own, after `apt-get install slurm-wlm munge`.
test-slurm: slurm
	$(BIN)/python -m pytest tests/slurm -q

fuzz: setup
	$(BIN)/python tests/fuzz/hostile.py

faults: setup
	$(BIN)/python tests/faults.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

reference: setup
	$(BIN)/python -m wa.study.reference

# The names of some figures end in the protocol.
images: run
	for figure in accuracy matrix new_share norms gamma; do \
		cp results/digits/figures/$$figure*.svg docs/images/digits-$$figure.svg || exit 1; done

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info
	find wa tests -name __pycache__ -prune -exec rm -rf {} +
	@echo "results/ and .snakemake/ stay: they are your work. Delete them yourself to begin anew."

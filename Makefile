# make run    set up, run the default study (scikit-learn's digits) and draw its figures
# make report run it and write its report, report.html and report.zip
# make draft  draw what is there of it when it is not finished
#             (run, report and draft take another study by CONFIG=config/mine.yaml)
# make test   set up and run the tests
# make slurm  set up what profiles/slurm needs in addition
# make test-slurm   set up and test it, on a Slurm cluster that is emulated on this machine
# make fuzz   set up and read 100,000 hostile inputs
# make faults set up, hinder trainings in many ways, and print how each ended
# make lint   set up and check the style
# make reference   write the schema of configs and docs/config.md anew from their source
# make images   set up, run the default study and copy the figures that README.md and docs/tutorial.md show to docs/images
PYTHON ?= python3
BIN = .venv/bin
CORES ?= $(shell nproc)
STUDY = $(if $(CONFIG),--configfile $(CONFIG))

.PHONY: setup slurm run report draft test test-slurm fuzz faults lint reference images clean

setup: .venv/done

# Bytecode is compiled once, here: it halves the start of every job.
.venv/done: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

slurm: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.txt -e '.[slurm]'

run: setup
	$(BIN)/snakemake --cores $(CORES) $(STUDY)

report: run
	$(BIN)/snakemake --report report.html $(STUDY)
	$(BIN)/snakemake --report report.zip $(STUDY)

draft: setup
	$(BIN)/snakemake --cores $(CORES) $(STUDY) --config draft=True

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

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

# Some figures are one a protocol, with its name behind theirs.
images: run
	for figure in accuracy matrix new_share norms gamma; do \
		cp results/digits/figures/$$figure*.svg docs/images/digits-$$figure.svg || exit 1; done

clean:
	rm -rf .venv results .snakemake

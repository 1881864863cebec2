# What people and CI call. Both `make demo` and `make test` set up .venv when it is missing.
PYTHON ?= python3
# The newest versions the tests have run with; the package itself asks for no upper bound.
TORCH ?= "torch>=2.9,<2.15" "torchvision>=0.24,<0.30"
VENV := .venv
BIN := $(VENV)/bin
# Two threads on a busy two-core machine can be many times slower than one.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check test-browser docs bench bench-losses build clean

$(VENV)/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

demo: $(VENV)/.ready           ## the main job on bundled data, offline
	$(BIN)/tutelage demo --out $${OUT:-runs/demo-$$(date +%Y%m%d-%H%M%S)}

test: $(VENV)/.ready           ## all tests but those in a browser
	$(BIN)/python -m pytest -q

check: $(VENV)/.ready          ## lint, format, types, import arrows, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

test-browser: $(VENV)/.ready   ## the report in headless Chromium
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { echo "test-browser needs chromium and chromedriver: apt-get install chromium chromium-driver"; exit 1; }
	$(BIN)/python -m pytest -q -m browser tests/browser

docs: $(VENV)/.ready           ## the documentation, served while you write
	$(BIN)/mkdocs serve

bench: $(VENV)/.ready          ## what teachers cost, as ratios within one run
	$(BIN)/python benchmarks/throughput.py

# Pictures for the second table, of ten losses and two combinations; null for all 50,000.
PICTURES ?= 10000
SECOND := kl,dkd,dist,srrl,mse,similarity,rkd_distance,crd,attention,reviewkd,default,comparative_attention

bench-losses: $(VENV)/.ready   ## every loss alone against plain training: hours; resumes
	$(BIN)/tutelage cache benchmarks/losses.yaml --store caches/losses --maps --set 'paths=[logits,srrl,similarity,ofd,fsp,attention]'
	$(BIN)/tutelage bench benchmarks/losses.yaml --out benchmarks/results/losses --skip-refused
	$(BIN)/tutelage cache benchmarks/losses.yaml --store caches/ten-$(PICTURES) --maps --limit 60 \
	  --set data.limit=$(PICTURES) --set 'paths=[logits,srrl,similarity,fsp,attention]'
	$(BIN)/tutelage bench benchmarks/losses.yaml --out benchmarks/results/ten-$(PICTURES) --methods $(SECOND) \
	  --set data.limit=$(PICTURES) --set train.cache=caches/ten-$(PICTURES)

build: $(VENV)/.ready          ## wheel and sdist
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build

clean:
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache

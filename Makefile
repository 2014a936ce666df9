# `make check` is what the build server runs; docs/ and CONTRIBUTING.md say more of each target.

PYTHON ?= python3
VENV ?= target/reference-venv

.PHONY: check check-gpu check-references references check-metrics metrics bench bench-kernels bench-evaluation deny

# Format, lints, tests, documentation, and that the graphics-card build compiles.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	cargo check -p vermeer-cli --features wgpu

# What every model family promises, computed by a graphics card or a software Vulkan driver.
check-gpu:
	VERMEER_TEST_DEVICE=wgpu cargo test -p vermeer --features wgpu --test it conformance

# Writes testdata/twins anew with the PyTorch twins.
references: $(VENV)/installed
	$(VENV)/bin/python tools/reference/generate.py

# Computes them again and compares with what is stored.
check-references: $(VENV)/installed
	$(VENV)/bin/python tools/reference/generate.py --check

# Writes testdata/metrics anew with the reference packages of the metrics.
metrics: $(VENV)/metrics
	for case in pairs sets networks; do $(VENV)/bin/python tools/reference/cases_$$case.py || exit 1; done

# Computes them again and compares with what is stored.
check-metrics: $(VENV)/metrics
	for case in pairs sets networks; do $(VENV)/bin/python tools/reference/cases_$$case.py --check || exit 1; done

$(VENV)/metrics: tools/reference/requirements-metrics.txt $(VENV)/installed
	$(VENV)/bin/pip install --requirement tools/reference/requirements-metrics.txt
	touch $@

$(VENV)/installed: tools/reference/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --requirement tools/reference/requirements.txt
	touch $@

# Training steps and sampling beside the PyTorch twins on this machine.
bench:
	tools/bench/steps

# The workloads of the kernels beside PyTorch, ONNX Runtime and OpenVINO (tools/bench/requirements.txt).
bench-kernels:
	tools/bench/compare

# FID of two folders beside torch-fidelity and pytorch-fid (tools/bench/requirements.txt).
bench-evaluation:
	tools/bench/evaluation

# Licences, advisories and sources of the dependencies (cargo install cargo-deny).
deny:
	cargo deny check

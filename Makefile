# make demo    the main job, shown in under a minute once built
# make demo-ratelock    two replicas of ratelock on one PostgreSQL, one killed under load (ARGS=--stay: they stay)
# make test    the tests, on this machine's kernel, in namespaces of their own
# make check   formatting, lints, types, import contracts, file sizes
# make bench   against haproxy and plaintext (ONLY=name for a part, ARGS="--congestion reno")
# make setup   all that the above need: .venv, the Rust programs, Go programs that tests call, system packages
# make lock    resolve the dependencies anew, after a change in pyproject.toml
# make clean   removes what the above made in this folder
#
# Everything works as root and as an ordinary user. What is built is built as the caller; sudo is asked for only
# where root is needed (dev/as-root). A toolchain in the caller's home need not be on PATH.

SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(HOME)/.cargo/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin
# Nothing that runs as root may leave a file of root's in the checkout.
export PYTHONDONTWRITEBYTECODE := 1

# The fuzz targets are a workspace of their own. To see whether they compile takes neither a nightly compiler nor the C++
# of libFuzzer, which is not built where another is named; nothing is linked, so it need not be there.
FUZZ := env CUSTOM_LIBFUZZER_PATH=unused/libfuzzer.a

PYTHON_SOURCES := jfe_cni tests dev $(wildcard bench)

.PHONY: help setup demo demo-ratelock test check bench lock clean build go-programs
.PHONY: packages-demo packages-ratelock packages-test packages-bench

help:
	@sed -n '/^# make/s/^# //p' Makefile

setup: packages-demo packages-test packages-bench build go-programs

demo: packages-demo build
	@dev/as-root .venv/bin/jfe demo $(ARGS)

demo-ratelock: packages-ratelock .venv/stamp
	@dev/as-caller .venv/bin/ratelock demo $(ARGS)

test: packages-demo packages-test build go-programs
	# Built as the caller, the broker's tests' worker too, and run as root: they make namespaces.
	dev/as-caller cargo build --locked --package jfe-worker
	dev/as-caller cargo test --workspace --locked --config "target.'cfg(unix)'.runner = ['$(CURDIR)/dev/as-root']"
	dev/as-root .venv/bin/python -m pytest $(ARGS)

check: .venv/stamp
	ruff check $(PYTHON_SOURCES)
	ruff format --check $(PYTHON_SOURCES)
	dev/as-caller mypy
	lint-imports --no-cache
	dev/as-caller cargo fmt --all --check
	dev/as-caller cargo clippy --workspace --all-targets --locked -- -D warnings
	dev/as-caller $(FUZZ) cargo check --quiet --locked --manifest-path upgrader/fuzz/Cargo.toml --target-dir target/fuzz
	python dev/file_size.py

bench: packages-demo packages-bench build go-programs
	dev/as-caller cargo build --release --locked --package jfe-load
	dev/as-root .venv/bin/python -m bench $(if $(ONLY),--only $(ONLY)) $(ARGS)

build: .venv/stamp
	dev/as-caller cargo build --release --locked --package jfe-broker --package jfe-worker
	dev/as-caller dev/build-plugin

# Python's half; the upgrader's programs lie in target/release, the plugin's in target/cni, and .venv/bin points there.
.venv/stamp: requirements/dev.txt pyproject.toml dev/make-venv | packages-demo
	dev/as-caller dev/make-venv

packages-demo packages-ratelock packages-test packages-bench: packages-%:
	@dev/system-packages $*

go-programs: .venv/stamp
	@dev/as-caller dev/go-programs

lock:
	dev/lock

clean:
	rm -rf .venv target build dist *.egg-info .mypy_cache .ruff_cache .hypothesis bench/results.json
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

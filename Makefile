# A thin front of CMake.
#   make demo     installs what is missing, builds, trains a small model for two minutes, evaluates it, writes text
#   make test     builds and runs all tests            make test-long   what takes longer
#   make build    leaves the program at build/aft      make install     PREFIX=/usr/local
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
PRESET ?= release
CONFIGURE = cmake --preset $(PRESET) $(FLAGS)

.PHONY: build test test-long demo install setup clean
setup:
	@scripts/setup.sh

build: setup
	@$(CONFIGURE) --log-level=WARNING -DAFT_BUILD_TESTS=OFF
	@cmake --build build -j $(JOBS)

test: setup
	@$(CONFIGURE) --log-level=WARNING -DAFT_BUILD_TESTS=ON
	@cmake --build build -j $(JOBS)
	@ctest --test-dir build --output-on-failure -LE long -j $(JOBS)

test-long: setup
	@$(CONFIGURE) --log-level=WARNING -DAFT_BUILD_TESTS=ON
	@cmake --build build -j $(JOBS)
	@ctest --test-dir build --output-on-failure -L long

demo: build
	@DATA="$(DATA)" scripts/demo.sh

install: build
	@cmake --install build --prefix $(PREFIX)

clean:
	rm -rf build

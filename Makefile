# A thin front of CMake.
#   make demo     installs what is missing, builds, trains a small model for two minutes, evaluates it, writes text
#   make test     builds and runs all tests            make test-long   what takes longer
#   make build    leaves the program at build/aft      make install     PREFIX=/usr/local
# PRESET=debug, asan or tsan (CMakePresets.json) does the same in build-debug, build-asan or build-tsan, BUILD=FOLDER in that one.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
PRESET ?= release
BUILD = build$(if $(filter-out release,$(PRESET)),-$(PRESET))
CONFIGURE = cmake --preset $(PRESET) -B $(BUILD) $(FLAGS)

.PHONY: build test test-long demo install setup clean
setup:
	@scripts/setup.sh

build: setup
	@$(CONFIGURE) --log-level=WARNING -DAFT_BUILD_TESTS=OFF
	@cmake --build $(BUILD) -j $(JOBS)

test: setup
	@$(CONFIGURE) --log-level=WARNING -DAFT_BUILD_TESTS=ON
	@cmake --build $(BUILD) -j $(JOBS)
	@ctest --test-dir $(BUILD) --output-on-failure -LE long -j $(JOBS)

test-long: setup
	@$(CONFIGURE) --log-level=WARNING -DAFT_BUILD_TESTS=ON
	@cmake --build $(BUILD) -j $(JOBS)
	@ctest --test-dir $(BUILD) --output-on-failure -L long

demo: build
	@BUILD="$(BUILD)" DATA="$(DATA)" scripts/demo.sh

install: build
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf $(BUILD)

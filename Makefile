# The front door. Everything it does is done by meson or by a script in tools/.
#
#   make            builds the programs in build/
#   make demo       the story of a mapping that survives, in network namespaces (root)
#   make check      everything the CI checks (root)
#   make install    to PREFIX (/usr/local), below DESTDIR
#   make fuzz       every fuzz target for TIME seconds (60)
#   make bench      measures, and writes the tables of docs/performance.md (root; under three minutes)
#   make kill-loop  KILLS (200) times SIGKILL under load, with the state compared after each (root)
#   make format, lint, clean

PREFIX ?= /usr/local
TIME ?= 60
KILLS ?= 200

.PHONY: all deps demo check bench install fuzz kill-loop format lint clean
.NOTPARALLEL:

all: deps build/build.ninja
	@ninja -C build

deps:
	@tools/deps

build/build.ninja:
	@meson setup build --prefix=$(PREFIX) --sysconfdir=/etc --localstatedir=/var

demo: root all
	@tools/demo

check: root deps
	@tools/check

bench: root all
	@bench/run --write

kill-loop: root all
	@HOLDFAST_KILLS=$(KILLS) /usr/bin/python3 -m pytest -q -s tests/lab/test_kill_loop.py

install: all
	@meson configure build --prefix=$(PREFIX)
	@meson install -C build

fuzz: deps
	@tools/fuzz $(TIME)

format: deps
	@tools/format

lint: deps
	@tools/lint

clean:
	@rm -rf build build-check build-asan build-clang build-fuzz

.PHONY: root
root:
	@[ "$$(id -u)" -eq 0 ] || { echo "make $(MAKECMDGOALS) needs root: it makes network namespaces" >&2; exit 1; }

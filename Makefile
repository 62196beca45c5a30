# Entry points; what they do is in scripts/. `make demo` and `make test` need nothing but root, Debian and a Rust
# toolchain: they install what is missing.

PREFIX ?= /usr/local
export PROFILE ?= release

.PHONY: help demo test soak fuzz build run dev generate oapi-generate lint bench install install-tools ci

help:
	@echo 'make demo           the whole story once: image to virtual machine and back'
	@echo 'make test           every test that can run here (scripts/test.sh 1 runs one tier)'
	@echo 'make soak           1,000 kills, 50 power cuts, long runs of guests (scripts/soak.sh)'
	@echo 'make fuzz           both sides of the agent protocol, and tar archives, against random bytes (FUZZ_SECONDS=30 each)'
	@echo 'make build          bin/: dataplane, fake-ch, vmlinux, initrd.img (PROFILE=release|dev)'
	@echo 'make run            build, then the daemon in the foreground'
	@echo 'make dev            rebuild and restart on every change; virtual machines keep running'
	@echo 'make generate       server stubs from openapi.yaml'
	@echo 'make lint           format, clippy, licences, shellcheck'
	@echo 'make bench          sizes and times of what was built, each beside a baseline'
	@echo 'make install        PREFIX=$(PREFIX), DESTDIR=$(DESTDIR)'
	@echo 'make install-tools  everything the above need'

demo:
	scripts/install-tools.sh packages demo
	scripts/build.sh
	scripts/demo.sh

test:
	scripts/test.sh

soak:
	scripts/soak.sh

fuzz:
	scripts/install-tools.sh packages fuzz
	scripts/fuzz.sh

build:
	scripts/build.sh

run: build
	bin/dataplane serve

dev:
	scripts/dev.sh

generate oapi-generate:
	cargo run --quiet -p dataplane-codegen

lint:
	scripts/lint.sh

bench: build
	scripts/bench.sh

# The daemon looks for kernel and initramfs beside its own program; the link leads there.
install: build
	install -d $(DESTDIR)$(PREFIX)/lib/dataplane $(DESTDIR)$(PREFIX)/bin
	install -m 0755 bin/dataplane $(DESTDIR)$(PREFIX)/lib/dataplane/dataplane
	install -m 0644 bin/vmlinux bin/initrd.img $(DESTDIR)$(PREFIX)/lib/dataplane
	ln -sfn ../lib/dataplane/dataplane $(DESTDIR)$(PREFIX)/bin/dataplane

install-tools:
	scripts/install-tools.sh

ci:
	.ci/run

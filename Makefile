# certmill. `make` builds; see README.md.
GO         ?= go
BIN        := bin
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ZLINT      := github.com/zmap/zlint/v3/cmd/zlint@v3.7.3
export PATH := $(CURDIR)/$(BIN)/tools:$(PATH)
PACKAGES   := ./...

.PHONY: build demo test test-long tools check scorecard bench clean

build:
	@.ci/install demo
	$(GO) build -o $(BIN)/ ./cmd/...

# Everything on this machine: an HSM-backed CA, a simulated AWS, devices that connect. Leaves ./demo.
demo: build
	$(BIN)/certmill quickstart --dir demo

# All tests, in 12 minutes or less on 2 cores.
test: tools
	@$(MAKE) --no-print-directory check
	$(GO) build -o $(BIN)/ ./cmd/...
	$(GO) test -timeout 11m $(PACKAGES)

# The full counts, and the race detector over everything.
test-long: tools
	CERTMILL_TEST_LONG=1 $(GO) test -race -timeout 120m $(PACKAGES)

# What the tests need: Debian packages, and zlint's own command.
tools:
	@.ci/install test
	@test -x $(BIN)/tools/zlint || { echo "certmill: installing $(ZLINT) into $(BIN)/tools"; GOBIN=$(CURDIR)/$(BIN)/tools $(GO) install $(ZLINT); }

# What the scorecard in README.md quotes.
scorecard: tools
	@.ci/scorecard

# Form, vet, staticcheck and the import rules.
check:
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet $(PACKAGES)
	$(GO) run $(STATICCHECK) $(PACKAGES)
	$(GO) test ./internal/archtest

# Certificates per second beside what the raw token can sign, in one run.
bench:
	@.ci/install demo
	$(GO) test -run '^$$' -bench Token -benchtime 1x -timeout 10m ./hsm
	$(GO) test -run '^$$' -bench Service -benchtime 1x -timeout 30m ./cmd/certmill

clean:
	rm -rf $(BIN) demo
	$(GO) clean -testcache

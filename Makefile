# make test    everything that must hold before a change is taken
# make build   bin/allspark
# make fmt     format the code
# make bench   all Go benchmarks; BENCH=REGEXP and PKG=./path narrow it
# make peers   install the other servers of the bench, and test their drivers against them
# make fuzz    each fuzz target for FUZZTIME
#
# Needed: Go (the version in go.mod; an older one from 1.21 on fetches it).
# The rest is installed on Debian when it is missing.

SHELL    := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PKG      ?= ./...
BENCH    ?= .
FUZZTIME ?= 10s
# Of one package. The first test that needs the stand-in may have to wait for others.
TIMEOUT  ?= 8m

TOOL     := go tool -modfile=$(CURDIR)/internal/tools/go.mod
STANDIN  := internal/standin
# The document of the HTTP API against a public validator; a module of its own.
APICHECK := internal/apicheck

.PHONY: test need tidy format vet standin unit build fmt bench peers fuzz clean

# One after the other, whatever -j says: cheap and likely to fail comes first.
test:
	$(MAKE) need
	$(MAKE) format
	$(MAKE) tidy
	$(MAKE) vet
	$(MAKE) standin
	$(MAKE) unit

need:
	@command -v go >/dev/null || { echo "make: Go is missing: see https://go.dev/dl/" >&2; exit 1; }
	@go version
	internal/tools/need cc:gcc,libc6-dev! nginx:nginx

format:
	@unformatted=$$($(TOOL) gofumpt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; fi

tidy:
	go mod tidy -diff
	go -C $(STANDIN) mod tidy -diff
	go -C $(APICHECK) mod tidy -diff

vet:
	go vet ./...
	$(TOOL) staticcheck ./...
	go vet -tags=peers ./bench/peer/...
	go -C $(STANDIN) vet ./...
	cd $(STANDIN) && $(TOOL) staticcheck ./...
	go -C $(APICHECK) vet ./...
	cd $(APICHECK) && $(TOOL) staticcheck ./...

# The stand-in for MongoDB, which the tests of the store start.
standin:
	go -C $(STANDIN) build -o $(CURDIR)/bin/standin .

# Lists the packages with synctest bubbles. When two threads run timers of one bubble, the
# race detector crashes or finds races that are none (golang/go#78156): under it these
# packages have one processor. The heart of all is tested once more without it, on all
# processors: only there count all tests of what is allocated.
BUBBLES  := go list -f '{{define "of"}}{{range .}}{{if eq . "testing/synctest"}}bubbles{{end}}{{end}}{{end}}{{template "of" .TestImports}}{{template "of" .XTestImports}} {{.ImportPath}}' ./... | sed -n 's/^bubbles.* //p'

# Fuzz targets run here too, with the inputs that are kept.
unit:
	bubbles=$$($(BUBBLES)); others=$$(go list ./... | grep -vxF "$$bubbles"); \
	go test -race -shuffle=on -timeout=$(TIMEOUT) $$others; \
	go test -race -shuffle=on -timeout=$(TIMEOUT) -cpu=1 $$bubbles
	go test -shuffle=on -timeout=$(TIMEOUT) ./envelope ./gateway/native ./graph ./inbox ./node ./session ./store/embedded
	go -C $(STANDIN) test -race -shuffle=on -timeout=$(TIMEOUT) ./...
	go -C $(APICHECK) test -timeout=$(TIMEOUT) ./...

build:
	go build -trimpath -buildvcs=auto -o bin/allspark ./cmd/allspark
	bin/allspark version

fmt:
	$(TOOL) gofumpt -w .

bench:
	go test -run='^$$' -bench='$(BENCH)' -benchmem -count=6 -timeout=1h $(PKG)

peers:
	bench/peers.sh
	PATH="$$(go env GOPATH)/bin:$$PATH" go test -tags=peers -run='^TestTarget$$' -timeout=$(TIMEOUT) ./bench/peer/...

# go test -fuzz takes one target of one package at a time.
fuzz:
	@go list -f '{{range .TestGoFiles}}{{$$.ImportPath}} {{$$.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$$.ImportPath}} {{$$.Dir}}/{{.}}{{"\n"}}{{end}}' $(PKG) \
	| while read -r package file; do \
		[ -n "$$file" ] || continue; \
		{ grep -oE '^func Fuzz[A-Za-z0-9_]*' "$$file" || true; } | while read -r _ target; do \
			echo "fuzz: $$package $$target"; \
			go test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) "$$package" </dev/null; \
		done; \
	done

clean:
	rm -rf bin

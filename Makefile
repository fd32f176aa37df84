# Weft. `make up` and `make test` are all that a newcomer needs; `make help` lists the rest.

.DEFAULT_GOAL := help
.PHONY: help build up down test lint conformance bench-build bench-engine bench-up bench-kcl bench-level bench-log bench-dedup bench-image bench-pod bench-lazy test-lazy-kills test-guest test-arm64 clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## build all programs into bin/
	@.ci/build

up: build ## build, start the embedded Kubernetes, run the example, print its address
	@bin/weft up examples/guestbook/dev

down: ## stop the embedded Kubernetes; its data stays
	@bin/weft down

test: build ## run the tests
	@.ci/test

lint: ## run the linters
	@.ci/lint

conformance: ## run upstream's own cases (UPSTREAM=folder with their checkouts, LIFECYCLE, NYDUS_IMAGE, NYDUSIFY and FLUENT_BIT=their programs to compare with)
	@[ -n "$(UPSTREAM)$(LIFECYCLE)$(FLUENT_BIT)$(NYDUSIFY)" ] || { echo "nothing to compare with: give UPSTREAM=FOLDER, LIFECYCLE=PROGRAM, FLUENT_BIT=PROGRAM, NYDUSIFY=PROGRAM or several" >&2; exit 2; }
ifneq ($(UPSTREAM),)
	UPSTREAM="$(abspath $(UPSTREAM))" go test -count=1 -run TestUpstream ./kcl/... ./cmd/internal/kcltool ./cmd/internal/kusion ./test/stack ./logging ./manager ./network
	UPSTREAM="$(abspath $(UPSTREAM))" go test -count=1 -timeout 60m -run TestUpstream ./buildpack ./test/project ./test/cluster
	UPSTREAM_NYDUS="$(abspath $(UPSTREAM))/nydus" UPSTREAM_NYDUS_IMAGE="$(NYDUS_IMAGE)" go test -count=1 -run Upstream ./image/...
endif
ifneq ($(LIFECYCLE),)
	UPSTREAM_LIFECYCLE="$(abspath $(LIFECYCLE))" go test -count=1 -run TestSame ./cmd/lifecycle
endif
ifneq ($(NYDUSIFY),)
	UPSTREAM_NYDUSIFY="$(abspath $(NYDUSIFY))" go test -count=1 -run TestUpstreamNydusify ./cmd/weft
endif
ifneq ($(FLUENT_BIT),)
	UPSTREAM_FLUENT_BIT="$(abspath $(FLUENT_BIT))" go test -count=1 -timeout 20m -run TestUpstream ./cmd/logagent
endif

bench-kcl: ## compare kcl with CUE and Jsonnet (K8S=folder of the KCL package k8s for its cases)
	go build -o bin/kcl ./cmd/kcl
	cd test/benchkcl && go run . -kcl ../../bin/kcl -k8s "$(K8S)"

bench-build: ## measure builds (RIVAL=program of upstream's lifecycle to measure beside)
	@go run ./test/bench-build -rival "$(RIVAL)"

bench-engine: build ## compare plan and apply with kubectl (RIVAL=another kubectl); the engine's own cost for 10,000 resources
	@go run ./test/bench-engine -rival "$(RIVAL)"
	@go test -run XXX -bench 'Overhead|PlanNothing' -benchtime 3x ./engine

bench-up: build ## measure the start of the embedded Kubernetes
	@go run ./test/bench-up

bench-image: ## compare building and mounting images with mkfs.erofs
	CGO_ENABLED=0 go build -o bin/weft ./cmd/weft
	go run ./test/bench-image -weft bin/weft

bench-dedup: ## show what versions of an image share, stored as layers, EROFS and RAFS (FORM=json)
	@go run ./test/bench-dedup -o "$(or $(FORM),text)"

bench-pod: build ## measure the start of pods on emptied nodes (RIVAL=containerd-stargz-grpc to measure beside)
	go run ./test/bench-pod -rival "$(if $(RIVAL),$(abspath $(RIVAL)))"

bench-level: ## measure what levels cost, beside the aims (on an idle machine, as root for the kernel's part)
	@go run ./test/bench-level

bench-log: ## measure log pipelines: speed, memory, records lost and doubled (RIVAL=program of Fluent Bit to measure beside)
	CGO_ENABLED=0 go build -o bin/logagent ./cmd/logagent
	@go run ./test/bench-log -rival "$(if $(RIVAL),$(abspath $(RIVAL)))"

bench-lazy: ## measure reads of images on demand beside the disk's own file system, and mounts (best on an idle machine)
	@echo "aims: first touch 250 µs, cached and marked 30 µs, unmarked 8 µs, warm 1.10 of the disk's file system, mount 2 ms"
	go test -run XXX -bench . -benchtime 1x -count 5 ./lazy

.PHONY: bench-lazy-memory
bench-lazy-memory: ## measure the memory behind 100 containers of 20 images on demand
	CGO_ENABLED=0 go build -o bin/lazyd ./cmd/lazyd
	go run ./test/bench-lazy-memory

test-lazy-kills: ## kill workers, keepers and stand-bys 1,000 times (KILLS=N) while images are read, compare every byte, and tell who waited for how long
	WEFT_KILLS=$(or $(KILLS),1000) go test -count 1 -timeout 30m -run 'TestKills$$' -v ./lazy

test-guest: build ## run the tests that need a virtual machine (control groups of version 2)
	@.ci/guest

test-arm64: ## build the programs for arm64 and run some of them emulated
	@.ci/arm64

clean: ## remove what was built
	rm -rf bin

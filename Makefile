# Every verb of this repository. CI calls only these. `make` alone lists them.
.DEFAULT_GOAL := help

# The disposable stack: a project, images, networks and a volume of its own. The name is given here too, because a
# COMPOSE_PROJECT_NAME in the shell or in .env is stronger than `name:` in the file.
CI_COMPOSE := docker compose --project-name nexus-ci -f compose.yml -f compose.ci.yml
# What the images are labelled with: revision and source.
LABELS := $(shell dev/labels)
export NEXUS_REVISION := $(word 1,$(LABELS))
export NEXUS_SOURCE := $(word 2,$(LABELS))
# Tools run in the test image, and directly where we are inside it (devcontainer, test-runner).
IN_TEST_IMAGE := $(if $(NEXUS_TEST_IMAGE),,$(CI_COMPOSE) run --rm --no-deps -T tests)

##@ The stack

.PHONY: up
up: docker base-images ## Start everything, migrated and healthy.
	@dev/up

.PHONY: down
down: docker ## Stop everything; the data stay.
	docker compose --profile test down --remove-orphans

.PHONY: reset
reset: docker ## Stop everything and remove the data, after asking.
	@dev/reset

.PHONY: logs
logs: docker ## Follow the logs of all services.
	docker compose logs --follow

.PHONY: ps
ps: docker ## Show what runs.
	docker compose ps --all

.PHONY: seed
seed: docker secret-files base-images ## Put two public-domain texts into the local database; safe to repeat.
	docker compose run --rm api nexus seed

# A machine reads `dev/doctor --json` itself: make has an exit code of its own.
.PHONY: doctor
doctor: ## Look for faults and say what to do; changes nothing (JSON=1: for machines).
	@dev/doctor $(if $(JSON),--json)

.PHONY: watch
watch: docker secret-files base-images ## Rebuild and restart the API when its code is edited, until Ctrl-C.
	docker compose watch

.PHONY: secrets
secrets: docker base-images ## Make the secrets of a deployment, in files that .env names; what is there stays.
	@dev/secrets

# Where the images are, which ones, and how many of each.
IMAGES ?=
TAG ?= latest
API_REPLICAS ?= 2
WORKER_REPLICAS ?= 2
.PHONY: stack-file
stack-file: docker venv ## Write stack.yml for a swarm: IMAGES=registry.example.org/nexus TAG=1.2.3.
	@dev/stack-file '$(IMAGES)' '$(TAG)' '$(API_REPLICAS)' '$(WORKER_REPLICAS)'

##@ Database

.PHONY: migrate
migrate: docker secret-files base-images ## Upgrade the database to the newest revision.
	docker compose run --rm migrator upgrade

.PHONY: migrate-down
migrate-down: docker secret-files base-images ## Take the database one revision back; no row of that revision is lost.
	docker compose run --rm migrator downgrade -1

# A path, and REPLACE=yes; both travel as variables, as they were typed, so that any character may be in them, $ too.
override FILE := $(value FILE)
export FILE REPLACE
.PHONY: backup
backup: docker secret-files base-images ## Write everything in the database into one file, by default below backups/ (FILE=…).
	@dev/backup "$${FILE-}"

.PHONY: restore
restore: docker secret-files base-images ## Put a backup (FILE=…) into the database; REPLACE=yes where that is not empty.
	@dev/restore "$${FILE-}"

.PHONY: schema
schema: docker base-images ## Write db/schema anew from the revisions; for whoever writes one.
	@dev/schema

##@ On the host: app processes here, Postgres and Redis in compose

.PHONY: infra-up
infra-up: docker base-images ## Start only Postgres and Redis.
	@dev/up postgres redis

.PHONY: infra-down
infra-down: docker ## Stop what infra-up started; the data stay.
	docker compose down

.PHONY: infra-logs
infra-logs: docker ## Follow the logs of Postgres and Redis.
	docker compose logs --follow postgres redis

.PHONY: dev-api
dev-api: venv ## Run the API on the host, reloading on edits.
	dev/host-env sh -c 'exec .venv/bin/uvicorn services.api.main:app --reload --reload-dir services --reload-dir shared --port "$$API_PORT"'

.PHONY: worker
worker: venv ## Run the worker on the host; Ctrl-C stops it.
	dev/host-env .venv/bin/celery -A services.worker.main worker --loglevel=info

##@ Tests

.PHONY: test
test: docker base-images venv ## Run the tests in the test-runner container, then those that need the compose command.
	@dev/test

.PHONY: test-long
test-long: docker base-images venv ## Run those that take long and are left out of make test, in both places.
	@dev/test long

.PHONY: test-ci
test-ci: docker base-images venv ## make test, with every test named.
	@dev/test -v --tb=short

.PHONY: drill
drill: docker base-images ## Kill, freeze and cut off services of the disposable stack.
	@dev/drill

.PHONY: soak
soak: docker base-images ## Put ten minutes of mixed load (SOAK_SECONDS=600) on the disposable stack.
	@dev/soak

.PHONY: verify
verify: docker base-images venv ## Everything, also what takes long; what CI runs.
	@dev/verify

.PHONY: lint
lint: docker-unless-inside ## Check style, Dockerfiles, shell scripts and workflow.
	$(IN_TEST_IMAGE) dev/lint

.PHONY: types
types: docker-unless-inside ## Check types, strictly.
	$(IN_TEST_IMAGE) mypy --cache-dir /tmp/mypy

.PHONY: format
format: venv ## Rewrite the code in our style.
	.venv/bin/ruff check --fix-only --quiet .
	.venv/bin/ruff format .

.PHONY: bench
bench: bench-stack bench-api bench-migration ## Run every benchmark.

.PHONY: bench-stack
bench-stack: docker base-images venv ## Measure start, rebuild, sizes, memory and probes; writes .bench/stack.json.
	.venv/bin/python -m bench.stack

.PHONY: bench-api
bench-api: docker base-images venv ## Measure the API against a plain application and Postgres alone; writes .bench/api.json.
	.venv/bin/python -m bench.api

# How many media.
ROWS ?= 1000000
.PHONY: bench-migration
bench-migration: docker base-images venv ## Measure revision 0002 on ROWS=1000000 media against VACUUM FULL; writes .bench/migration.json.
	.venv/bin/python -m bench.migration '$(ROWS)'

##@ Upkeep

.PHONY: lock
lock: venv ## Renew requirements/*.txt and prove that they install on Python 3.11 to 3.13, x86_64 and aarch64.
	dev/lock

.PHONY: pictures
pictures: docker venv ## Draw the pictures of README.md and ARCHITECTURE.md anew, from compose.yml and db/schema.
	@.venv/bin/python -m dev.pictures

.PHONY: audit
audit: venv-supply ## Fail for a known vulnerability of a locked package; say so where nobody could be asked.
	@.venv-supply/bin/python -m dev.supply.audit || test $$? -eq 75

.PHONY: sbom
sbom: docker base-images venv-supply ## Write what each image holds, .sbom/api.cdx.json and .sbom/worker.cdx.json (CycloneDX).
	@.venv-supply/bin/python -m dev.supply.sbom

.PHONY: licences
licences: sbom ## List the licences of what the images hold; fail for one of Python that nobody has agreed to.
	@.venv-supply/bin/python -m dev.supply.licences

.PHONY: help
help: ## This list.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile

# What the verbs above stand on; silent when all is there.
.PHONY: docker docker-unless-inside secret-files base-images venv venv-supply
docker:
	@dev/prerequisites make $(MAKE_VERSION) docker
secret-files: docker
	@dev/prerequisites secrets
docker-unless-inside:
	@$(if $(NEXUS_TEST_IMAGE),true,$(MAKE) --no-print-directory docker base-images)
base-images: docker
	@dev/base-images
venv:
	@dev/prerequisites host
	@dev/venv
venv-supply:
	@dev/prerequisites host
	@dev/venv supply

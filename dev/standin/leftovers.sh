#!/usr/bin/env bash
# What building stand-ins makes on the way, and how to be rid of it: after a build, and after one that was killed.

# remove_leftovers MARK: MARK belongs to one checkout. Containers go by name, never by label: a container has the labels of
# its image, so a label would also find the database that runs on a stand-in.
remove_leftovers() {
  docker rm -f -v "$1-builder" "$1-commit" >/dev/null 2>&1 || true
  docker image prune -f --filter "label=nexus.standin=$1" >/dev/null 2>&1 || true
}

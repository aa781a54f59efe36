#!/bin/sh
# Shows that the simulations can fail: plants each fault of tests/planted in a copy of the tree, and
# expects that one of SEEDS seeds (1000 unless set) finds it: of the simulation of replicas, if its name
# begins so, of the other otherwise.
set -eu
cd "$(dirname "$0")/.."
target="$PWD/target/planted"
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT

found=0
missed=0
for fault in tests/planted/*.patch; do
    rm -rf "$copy/tree"
    mkdir "$copy/tree"
    git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$copy/tree"
    here="$PWD"
    (cd "$copy/tree" && git apply "$here/$fault")
    name="$(basename "$fault" .patch)"
    case "$name" in
        replicas-*) simulation=credential::replicas::replicas ;;
        *) simulation=credential::simulation::simulation ;;
    esac
    # Built before it is judged: a fault that does not compile is no fault that was found.
    (cd "$copy/tree" && CARGO_TARGET_DIR="$target" "${CARGO:-cargo}" test --quiet --lib --no-run)
    if (cd "$copy/tree" && BEARERD_SEEDS="${SEEDS:-1000}" CARGO_TARGET_DIR="$target" \
        "${CARGO:-cargo}" test --quiet --lib "$simulation" >"$copy/out" 2>&1); then
        echo "$name: not found"
        missed=$((missed + 1))
    else
        echo "$name: $(grep -m 1 -E '^seed [0-9]+: ' "$copy/out")"
        found=$((found + 1))
    fi
done
echo "$found found, $missed missed"
[ "$missed" -eq 0 ] && [ "$found" -gt 0 ]

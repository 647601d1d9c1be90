# Read by the findings: a temporary folder of its own with the packages that are named.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
install() { # NAME==VERSION ...; without their dependencies, which are named too
  "${PYTHON:-python3}" -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --no-deps "$@"
  cd "$folder"
}
python() { OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$@"; }

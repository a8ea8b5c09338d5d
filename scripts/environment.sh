# Sourced by the other scripts: goes to the repository, makes .venv there, installs the package once.
# Usage: source environment.sh EXTRAS, e.g. "[test]" or "".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=$1

python=""
for candidate in python3 python3.13 python3.12 python3.11 python; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "Python 3.11.4 or newer is needed and was not found on PATH" >&2; exit 2; }

# The stamp holds what the environment was made from; the same again installs nothing.
stamp=".venv/installed$extras"
wanted=$(cat setup.cfg pyproject.toml)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    echo "installing into .venv: PyTorch, then the package; some minutes" >&2
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    # torch and torchvision first and together, so that their versions match.
    .venv/bin/python -m pip install --quiet torch torchvision
    .venv/bin/python -m pip install --quiet --editable ".$extras"
    printf '%s\n' "$wanted" >"$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"  # threads that wait spin else, and a busy machine crawls

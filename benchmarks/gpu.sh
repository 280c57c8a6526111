#!/bin/sh
# Scores and costs on one CUDA GPU, nothing downloaded: `sh benchmarks/gpu.sh`; benchmarks/gpu.py says the rest.
# PYTHON names another interpreter that has ckdiff's requirements and transformers.
here=$(cd "$(dirname "$0")/.." && pwd) || exit 2
PYTHONPATH="$here:$here/benchmarks" HF_HUB_OFFLINE=1 exec "${PYTHON:-python}" "$here/benchmarks/gpu.py" "$@"

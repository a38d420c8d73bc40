"""Runs exported networks in ONNX Runtime and compares with what Equiscale computed.

    EQ_ONNX_FOLDER=somewhere build/test_onnx     # an existing, empty folder: writes <name>.onnx and <name>.safetensors
    python tools/check_onnx.py somewhere         # needs onnx, onnxruntime, safetensors, numpy

Prints the largest difference of each, scaled by the largest value of the output; exit status 1 where one is above 1e-4 or cannot run.
"""
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

LIMIT = 1e-4


def difference(model, arrays):
    onnx.checker.check_model(onnx.load(model), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: arrays["input"]})
    expected = arrays["output"]
    if result.shape != expected.shape:
        raise ValueError(f"shape {result.shape}, expected {expected.shape}")
    if expected.dtype.kind in "iu":
        return float((result != expected).mean())
    return float(np.abs(result - expected).max() / max(1, np.abs(expected).max()))


def main():
    failed = 0
    models = sorted(pathlib.Path(sys.argv[1]).glob("*.onnx"))
    for path in models:
        try:
            found = difference(str(path), load_file(path.with_suffix(".safetensors")))
            verdict = f"{found:.1e}"
            wrong = not found <= LIMIT
        except Exception as error:  # whatever it is, the others run
            verdict, wrong = str(error).splitlines()[0], True
        failed += wrong
        print(f"{path.stem:36} {verdict}{'  WRONG' if wrong else ''}")
    print(f"{len(models) - failed} of {len(models)} agree, onnxruntime {onnxruntime.__version__}")
    sys.exit(failed > 0 or not models)


if __name__ == "__main__":
    main()

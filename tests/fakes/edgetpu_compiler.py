"""A FAKE of the Edge TPU compiler 16.0: it says what the real one is documented to say, and compiles nothing.

The real one is published by its vendor alone. Called as `edgetpu_compiler.py BEHAVIOUR COMPILED options... MODEL`:
COMPILED is the file that it passes off as its result.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VERSION = "Edge TPU Compiler version 16.0.384591198"
STARTED = "Started a compilation timeout timer of 180 seconds."
FAILED = "Compilation child process completed within timeout period.\nCompilation failed! "
SUMMARY = """
Model compiled successfully in 1524 ms.

Input model: {model}
Input size: 450.12KiB
Output model: {output}
Output size: 512.34KiB
On-chip memory used for caching model parameters: 434.00KiB
On-chip memory remaining for caching model parameters: 7.14MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 12
Operation log: {log}
"""
PARTLY = """
Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will \
instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported \
by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: {on_chip}
Number of operations that will run on CPU: {on_cpu}
"""
HEAD = "\nOperator                       Count      Status\n\n"
ROWS = {
    "success": (("CONV_2D", 9, "Mapped to Edge TPU"), ("ADD", 3, "Mapped to Edge TPU")),
    "partial": (
        ("CONV_2D", 9, "Mapped to Edge TPU"),
        ("RESIZE_BILINEAR", 1, "Operation is otherwise supported, but not mapped due to some unspecified limitation"),
        ("ADD", 2, "More than one subgraph is not supported"),
    ),
    "none": (("CONV_2D", 12, "Operation is working on an unsupported data type"),),
}
REFUSALS = {
    "float": "Invalid model: {model}\nModel not quantized",
    "version": "ERROR: Didn't find op for builtin opcode 'TRANSPOSE_CONV' version '4'\n\nInvalid model: {model}\n"
    "Model could not be parsed",
    "large": f"{STARTED}\nERROR: Restored original execution plan after delegate application failure.\n"
    f"Compilation failed: Compilation failed due to large activation tensors in model.\n{FAILED}",
    "silent": f"{STARTED}\n{FAILED}",
}


def main() -> None:
    behaviour, compiled, *rest = sys.argv[1:]
    print(VERSION, flush=True)
    folder = Path(rest[rest.index("--out_dir") + 1])
    model = Path(rest[-1])
    if behaviour in REFUSALS:
        print(REFUSALS[behaviour].format(model=model.name))
        sys.exit(1)
    if behaviour == "crash":
        print("\nInternal compiler error. Aborting! ", flush=True)
        os.abort()
    if behaviour == "hang":
        subprocess.run([sys.executable, "-c", "import time; time.sleep(600)", compiled], check=False)
    write_result(behaviour, Path(compiled), folder, model.stem)


def write_result(behaviour: str, compiled: Path, folder: Path, stem: str) -> None:
    """Leave the compiled file and the log, and print the summary."""
    output, log = f"{stem}_edgetpu.tflite", f"{stem}_edgetpu.log"
    data = compiled.read_bytes()
    (folder / output).write_bytes(data[: len(data) // 2] if behaviour == "half" else data)
    rows = ROWS.get(behaviour, ROWS["success"])
    table = HEAD + "\n".join(f"{name:<30} {count:<10} {status}" for name, count, status in rows) + "\n"
    on_chip = sum(count for _, count, status in rows if status == "Mapped to Edge TPU")
    said = SUMMARY.format(model=f"{stem}.tflite", output=output, log=log)
    if on_chip < 12:
        said += PARTLY.format(on_chip=on_chip, on_cpu=12 - on_chip)
    (folder / log).write_text(f"{VERSION}\nInput: {stem}.tflite\nOutput: {output}\n{table}", encoding="utf-8")
    print(
        f"{STARTED}\n{said}{table}\nCompilation child process completed within timeout period.\nCompilation succeeded! "
    )


if __name__ == "__main__":
    main()

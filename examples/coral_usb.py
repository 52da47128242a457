"""Run a file that was compiled for the Edge TPU on a Coral USB Accelerator: python coral_usb.py MODEL [SOURCE] [FRAMES]

MODEL is what `edgeseg export --to edgetpu` wrote. Not verified on hardware.
"""

import sys

import edgeseg

model = sys.argv[1]
source = sys.argv[2] if len(sys.argv) > 2 else "0"
options = edgeseg.StreamOptions(budget_ms=33.0, frames=int(sys.argv[3]) if len(sys.argv) > 3 else None)

try:
    stream = edgeseg.stream(model, source, backend="edgetpu:usb", options=options)
except edgeseg.EdgesegError as error:
    sys.exit(f"{error.message}\n{error.hint}\nWhat is plugged in and may be opened: edgeseg doctor --device coral-usb")

with stream:
    for result in stream:
        found = result.segmentation
        marked = (found.labels > 0).mean()
        print(f"frame {result.frame.number}: {marked:.1%} marked, {found.times.invoke:.2f} ms on the chip")

report = stream.report()
steady = report.latency_ms["invoke"]
print(f"{report.backend.detail}: first inference {report.first_inference_ms:.1f} ms, then {steady.p50:.2f} ms")
for incident in report.incidents:  # a chip that resets, by too little power or heat, is loaded again once
    print(incident)

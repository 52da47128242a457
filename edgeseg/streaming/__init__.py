"""Live segmentation: sources, the frame grabber, the pipeline, latency figures and sinks.

A frame from source to page, thread by thread:

1. Capture thread: `Grabber` reads images from a `Source` and keeps the newest as a `Frame`; older ones are dropped.
   Every sink sees the frame (`Sink.on_frame`).
2. Main thread: `StreamPipeline` takes the newest frame, calls `Segmenter.segment`, records the times in a
   `LatencyRecorder` and publishes a `Result` to every sink (`Sink.publish`, which must not block).
3. Sink threads: a `LatestResultSink` passes the newest result to its `Writer` (a `Recording`, JSON lines). `WebViewer`
   passes it to a `MaskTracker`, which warps the mask onto the newest frame and shows the picture in `LiveState`.
4. Client threads: each browser waits in `LiveState.wait_newer` and gets the picture as one part of an MJPEG stream.
"""

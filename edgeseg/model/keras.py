"""Import TensorFlow and Keras once, with the settings that edgeseg relies on.

tfmot only takes Keras 2 models, so Keras is tf_keras throughout, and TensorFlow must be told before it is imported.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edgeseg.core.quiet import quiet_native_output

with quiet_native_output():
    import tensorflow as tf
    import tf_keras as keras

tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf"]

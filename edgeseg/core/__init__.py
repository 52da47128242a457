"""The base of workstation and device: card, model file, errors, limits, files, child processes and statistics."""

import logging

# A library leaves it to the program what is shown. This stands here and not in edgeseg/__init__.py because every module
# that logs loads edgeseg.core first, and `import edgeseg` alone then takes half the time.
logging.getLogger("edgeseg").addHandler(logging.NullHandler())

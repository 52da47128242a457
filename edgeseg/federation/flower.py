"""Import Flower with the settings that edgeseg relies on: nothing goes to its makers, and nothing into the user's home.

Flower's newer way to run (SuperLink and SuperNode) sends the program to the sites, and takes new programs from whoever
reaches the port. Here a site only ever runs its own edgeseg, so the older one-port transport is used, which Flower
keeps under `flwr.compat` (docs/decisions/0072).
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile

from edgeseg.core.install import need_extra

need_extra("federated")
# read when Flower is imported: no telemetry, no look for updates
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
# Flower leaves a random name of the installation there, ~/.flwr otherwise; the folder goes when the process ends
os.environ["FLWR_HOME"] = tempfile.mkdtemp(prefix="edgeseg-flower-")
atexit.register(shutil.rmtree, os.environ["FLWR_HOME"], ignore_errors=True)
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from flwr.client import Client, start_client  # noqa: E402 - after the settings
from flwr.common import (  # noqa: E402
    Code,
    DisconnectRes,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Parameters,
    ReconnectIns,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server.client_manager import SimpleClientManager  # noqa: E402
from flwr.server.client_proxy import ClientProxy  # noqa: E402
from flwr.server.strategy import FedAvg, FedProx  # noqa: E402
from flwr.server.superlink.fleet.grpc_bidi.grpc_server import start_grpc_server  # noqa: E402

__all__ = [
    "Client",
    "ClientProxy",
    "Code",
    "DisconnectRes",
    "EvaluateIns",
    "EvaluateRes",
    "FedAvg",
    "FedProx",
    "FitIns",
    "FitRes",
    "GetParametersIns",
    "GetParametersRes",
    "GetPropertiesIns",
    "GetPropertiesRes",
    "Parameters",
    "ReconnectIns",
    "SimpleClientManager",
    "Status",
    "ndarrays_to_parameters",
    "parameters_to_ndarrays",
    "start_client",
    "start_grpc_server",
]
# its lines would stand between edgeseg's own; what goes wrong is raised as well
logging.getLogger("flwr").setLevel(logging.CRITICAL + 1)

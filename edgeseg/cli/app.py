"""The command line's entry point: registers the commands, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import traceback
from typing import Annotated

import typer

import edgeseg
from edgeseg.cli import (
    bench,
    compress,
    data,
    demo,
    deploy,
    devices,
    doctor,
    evaluate,
    explain,
    export,
    federate,
    inspect,
    model,
    predict,
    pretrain,
    register,
    search,
    stream,
    train,
)
from edgeseg.cli import search as tune
from edgeseg.cli.arguments import SecretlessGroup, watch_numbers
from edgeseg.cli.terminal import (
    INTERRUPTED,
    be_quiet,
    be_verbose,
    discard_unwritable,
    notices_on_stderr,
    standard_streams,
)
from edgeseg.core.errors import EdgesegError
from edgeseg.core.redact import make_printable, redact

app = typer.Typer(
    name="edgeseg",
    cls=SecretlessGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Train, compress and stream ultrasound segmentation on small boards.\n\n"
    "The usual way: `edgeseg train DATA --out RUN`, `edgeseg compress RUN --out DIR`, copy the chosen .tflite to the "
    "board, `edgeseg stream MODEL --source 0`. Without data of your own: `edgeseg demo`.\n\n"
    "Exit codes: 0 done; 1 failed, with a sentence; 2 wrong usage; 3 it ran, and a gate did not hold; "
    "130 interrupted; 141 the reader of the output has left.\n\n"
    "Research software, no medical device: not for diagnosis or treatment.",
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(model.app, name="model")
app.command("train")(train.train)
app.command("pretrain")(pretrain.pretrain)
app.add_typer(federate.app, name="federate")
app.command("tune")(tune.tune)
app.command("compress")(compress.compress)
app.command("search")(search.search)
app.command("predict")(predict.predict)
app.command("register")(register.register)
app.command("evaluate")(evaluate.evaluate)
app.command("explain")(explain.explain)
app.command("inspect")(inspect.inspect)
app.command("bench")(bench.bench)
app.command("stream")(stream.stream)
app.command("export")(export.export)
app.command("deploy")(deploy.deploy)
app.command("fleet")(deploy.fleet)
app.command("devices")(devices.devices)
app.command("doctor")(doctor.doctor)
watch_numbers(app)

FAILED = 1


def _print_version(asked: bool) -> None:
    if asked:
        print(f"edgeseg {edgeseg.__version__}")
        raise typer.Exit


@app.callback()
def take_version(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            callback=be_verbose,
            is_eager=True,
            expose_value=False,
            help="Print debug messages and what native libraries write, too.",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            callback=be_quiet,
            is_eager=True,
            expose_value=False,
            help="Print results and errors only: no notices, no progress.",
        ),
    ] = False,
) -> None:
    """Define the options of the program; their callbacks do the work."""


def main() -> None:
    """Run the command line; EDGESEG_DEBUG=1 or --verbose shows the traceback of what went wrong."""
    try:
        with notices_on_stderr():
            _run()
    except SystemExit as end:
        leave_hanging_threads(end.code)
        raise


def leave_hanging_threads(code: object) -> None:
    """End the process at once where a camera's driver still hangs in a thread: Python's own end would crash in it.

    Args:
        code: The exit code, as `SystemExit` has it.
    """
    if any(thread.daemon and thread.name.startswith("edgeseg-") for thread in threading.enumerate()):
        # the thread is ended within native code, and C++ answers with std::terminate
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else FAILED if code else 0)


def _run() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        with standard_streams():
            app()
    except EdgesegError as error:
        _fail(error, error.message, error.hint)
    except KeyboardInterrupt:  # before a command runs: within one, typer ends the process alike
        sys.exit(INTERRUPTED)
    except OSError as error:
        discard_unwritable()
        _fail(error, f"The operating system refused: {error}.", "Check the path, its rights and the room on the disk.")
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence for the user, the traceback on request
        _fail(error, f"Unexpected {type(error).__name__}: {error}", "This is a defect; EDGESEG_DEBUG=1 shows where.")


def _fail(error: Exception, message: str, hint: str) -> None:
    if os.environ.get("EDGESEG_DEBUG") or logging.getLogger("edgeseg").isEnabledFor(logging.DEBUG):
        print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    print(f"edgeseg: {make_printable(redact(message))}", file=sys.stderr)
    if hint:
        print(f"  {make_printable(redact(hint))}", file=sys.stderr)
    sys.exit(FAILED)

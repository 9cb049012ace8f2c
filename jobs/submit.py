"""Submits a job to a Ray cluster: it makes some checks that Ray does not make, then calls
`ray job submit`.

    python -m jobs.submit -- jobs.mnist_ablation --store s3://bucket/results --seeds 1,2,3

The job's driver runs on the cluster and keeps nothing there. Submit the same job again to continue.
"""

import os
import sys
from pathlib import Path

import click

from cluster.nodes.resources import ray_token
from cluster.nodes.shipping import require_fits, shipped
from jobs.options import console, help_text, main
from pcworker.errors import InputError
from pcworker.machine.provenance import ROOT


@click.command(
    help=help_text(__doc__),
    context_settings={"max_content_width": 100, "allow_interspersed_args": False},
)
@click.option(
    "--address",
    help="Address of the cluster's dashboard.  [default: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS]",
)
@click.option("--no-wait", is_flag=True, help="Do not follow the job's output.")
@click.argument("job", nargs=-1, required=True, metavar="JOB [OPTIONS]...")
def command(address: str | None, no_wait: bool, job: tuple[str, ...]) -> None:
    """The command line: see the module's docstring."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token" and ray_token() is None:
        raise InputError(
            "there is no token for the cluster: put the cluster's into ~/.ray/auth_token, or into "
            "RAY_AUTH_TOKEN (on the cluster's head: ray get-auth-token --generate); a cluster "
            "without token authentication needs RAY_AUTH_MODE=disabled"
        )
    module = ROOT / Path(*job[0].split("."))
    found = module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()
    if not (job[0].startswith("jobs.") and found):
        raise InputError(f"there is no job {job[0]!r}; give a module such as jobs.mnist_ablation")
    files = shipped(ROOT)
    console.print(f"Shipping {len(files)} files, {require_fits(files) / 1000:,.0f} kB.")
    ray = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
    options = ["--working-dir", str(ROOT)]
    options += ["--address", address] if address else []
    options += ["--no-wait"] if no_wait else []
    sys.stdout.flush()
    os.execv(sys.executable, [*ray, *options, "--", "python", "-m", *job])


if __name__ == "__main__":
    main(command)

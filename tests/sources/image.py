"""The container image, built from this checkout."""

import shutil
import subprocess
from pathlib import Path

from tests.sources.origin import Unavailable

ROOT = Path(__file__).parents[2]

# Half a minute when nothing is cached, one or two seconds when nothing has changed.
BUILD_DEADLINE_S = 600


def docker(*arguments: str, check: bool = True, timeout_s: float = 60) -> str:
    """What the command prints on both streams. Raises `subprocess.CalledProcessError`, with it as `output`."""
    done = subprocess.run(
        ["docker", *arguments],
        check=check,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
        cwd=ROOT,
    )
    return done.stdout


def build_image(name: str) -> str:
    """Builds it under `name` and returns that. Raises `Unavailable`."""
    if shutil.which("docker") is None:
        raise Unavailable("there is no docker command to build the image with")
    try:
        docker("version")
        docker("build", "--tag", name, "--build-arg", "VERSION=test", ".", timeout_s=BUILD_DEADLINE_S)
    except subprocess.CalledProcessError as error:
        said = str(error.output).strip().splitlines()
        raise Unavailable(f"the image can't be built: {' '.join(said[-3:])}") from None
    return name

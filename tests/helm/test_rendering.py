"""The chart as both Helms render it: for every file of values in ci/, and what they refuse.

`RINGLOG_TEST_GOLDEN=write pytest tests/helm/test_rendering.py` writes the golden files anew: read the difference.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.helm.rendering import CHART, CI, KUBERNETES, Refused, Rendering, short
from tests.sources.cluster import Cluster, Tools
from tests.sources.origin import Unavailable

pytestmark = pytest.mark.helm

GOLDEN = Path(__file__).parent / "golden"
WRITES = os.environ.get("RINGLOG_TEST_GOLDEN") == "write"


@pytest.fixture(params=["4", "3"])
def rendering(request: pytest.FixtureRequest, tools: Tools) -> Rendering:
    try:
        tools.program(request.param)
    except Unavailable as error:
        pytest.skip(str(error))
    return Rendering(tools, request.param)


@pytest.mark.parametrize("values", CI, ids=short)
def test_it_passes_lint(rendering: Rendering, values: Path) -> None:
    assert "0 chart(s) failed" in rendering.lint(values)


@pytest.mark.parametrize("values", CI, ids=short)
def test_manifests_are_the_golden_ones(rendering: Rendering, values: Path) -> None:
    golden = GOLDEN / f"{short(values)}.yaml"
    rendered = rendering.template(values)
    if WRITES:
        golden.write_text(rendered)
    assert rendered == golden.read_text()


@pytest.mark.parametrize("kubernetes", ["1.29.0", KUBERNETES])
@pytest.mark.parametrize("values", CI, ids=short)
def test_manifests_are_what_kubernetes_knows(rendering: Rendering, values: Path, kubernetes: str) -> None:
    tools = rendering.tools
    if not tools.has("kubeconform") or "KUBECONFORM_SCHEMAS" not in tools.environment:
        pytest.skip("there is no kubeconform, or KUBECONFORM_SCHEMAS does not say where Kubernetes' schemas are")
    schemas = tools.environment["KUBECONFORM_SCHEMAS"] + "/{{.ResourceKind}}{{.KindSuffix}}.json"
    # Strict: a key that is misspelt is none. Kinds of others (Prometheus', KEDA's, the Gateway's) have no schema here.
    others = "ServiceMonitor,PodMonitor,PrometheusRule,ScaledObject,HTTPRoute"
    tools.run(
        *("kubeconform", "-strict", "-skip", others, "-schema-location", schemas, "-"),
        stdin=rendering.template(values, kubernetes=kubernetes),
    )


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("servce.replicas=2", "servce"),
        ("service.replica=2", "replica"),
        ("service.replicas=-1", "replicas"),
        ("pod.resource.limits.memory=1Gi", "resource"),
        ("consumers.billing.replica=2", "billing"),
        ("consumers.billing.scaling.mode=always", "mode"),
        ("consumers.Billing.replicas=2", "Billing"),
        ("consumers.service.args={a}", "propertyName .service"),
        ("kafka.sasl.mechanism=GSSAPI", "mechanism"),
        ("kafka.bootstrapServers=kafka", "bootstrapServers"),
        ("kafka.bootstrapServers=", "kafka.bootstrapServers is not set"),
        ("kafka.sasl.password=hush", "password"),
        ("secrets.webhookKeys=hush", "webhookKeys"),
        ("secrets.identityKey.value=hush", "value"),
        ("image.digest=latest", "digest"),
        ("service.persistence.accessModes={ReadWriteMany}", "accessModes"),
        ("callers.defaultRegion=Germany", "defaultRegion"),
        ("extraEnv.RINGLOG_PORT.secret=x", "extraEnv"),
        ("extraEnv.RINGLOG_IDENTITY_KEY=hush", "RINGLOG_IDENTITY_KEY"),
        ("service.builder.extraEnv.AWS_SECRET_ACCESS_KEY=hush", "AWS_SECRET_ACCESS_KEY"),
        ("consumers.billing.scaling.min=5,consumers.billing.scaling.max=2", "min is more than its max"),
        ("service.preStopSeconds=16", "terminationGracePeriodSeconds is 45: .* need 46"),
        ("ingress.enabled=true", "ingress.hosts is empty"),
        ("reconcile.every=500ms", "every"),
        ("snapshots.every=soon", "every"),
        ("snapshots.every=6h", "snapshots.url is empty"),
        ("nameOverride=A_b", "nameOverride"),
        ("secrets.identityKey.name=", "secrets.identityKey.name is empty"),
        ("image.tag=7", "tag"),
    ],
)
def test_what_is_wrong_is_refused(rendering: Rendering, said: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        rendering.template(CHART / "ci" / "minimal-values.yaml", "--set", said)


def test_what_every_subchart_may_get_is_allowed(rendering: Rendering) -> None:
    minimal = CHART / "ci" / "minimal-values.yaml"
    assert rendering.template(minimal, "--set", "global.imageRegistry=x,enabled=true") == rendering.template(minimal)


def test_an_older_kubernetes_is_refused(rendering: Rendering) -> None:
    with pytest.raises(Refused, match="is incompatible with Kubernetes v1"):
        rendering.template(CHART / "ci" / "minimal-values.yaml", kubernetes="1.28.9")


def test_cases_of_helm_unittest(tools: Tools) -> None:
    if "unittest" not in tools.run("helm", "plugin", "list"):
        pytest.skip("this Helm has no plugin unittest")
    try:
        tools.run("helm", "unittest", "--strict", str(CHART))
    except subprocess.CalledProcessError as error:
        raise AssertionError(error.stdout + error.stderr) from None


@pytest.mark.kubernetes
@pytest.mark.parametrize("values", CI, ids=short)
def test_a_real_server_takes_the_manifests(cluster: Cluster, values: Path) -> None:
    """A dry run on the server: its own defaults, its own validation. What it has no kinds for is left out."""
    others = ("ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute")
    documents = Rendering(cluster.tools).template(values, "--skip-tests").split("\n---\n")
    ours = [text for text in documents if not any(f"\nkind: {kind}\n" in text for kind in others)]
    applied = cluster.kubectl(
        *("apply", "--dry-run=server", "--namespace", "default", "--filename", "-"),
        stdin="\n---\n".join(ours).replace("namespace: voice", "namespace: default"),
    )
    assert applied.count("(server dry run)") == len([text for text in ours if "\nkind: " in text])

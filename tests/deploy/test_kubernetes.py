"""deploy/kubernetes: that its parts fit each other, the image and the overlay."""

from pathlib import Path

import pytest

from overlay.cli import worker
from overlay.config.loading import load
from overlay.config.tables import Config
from overlay.domain.errors import InvalidConfig
from tests.deploy.containerfile import stages
from tests.deploy.documents import DEPLOY, Value, at, documents, mapping, number, sequence, text, texts

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = documents(FOLDER / "kustomization.yaml")[0]
APART = {"kustomization.yaml", "secret.example.yaml", "secret.yaml"}
"""What `resources` does not name: itself, and secrets, one of which is the operator's own and not in git."""


def one(kind: str, name: str = "overlay") -> Value:
    """Find an object among all files."""
    found = [
        document
        for path in FOLDER.glob("*.yaml")
        if path.name != "secret.yaml"
        for document in documents(path)
        if at(document, "kind") == kind and text(document, "metadata", "name") == name
    ]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


POD = at(one("Deployment"), "spec", "template", "spec")
CONTAINER = at(POD, "containers", 0)


def configured(**more: str) -> Config:
    """Load the pods' configuration with what the Secret sets."""
    secret = mapping(one("Secret"), "stringData")
    environ = {name: str(value) for name, value in secret.items()}
    return load(FOLDER / "overlay.toml", environ | more)


def test_every_file_is_applied() -> None:
    """But for the secrets, which are not in git."""
    assert sorted(texts(KUSTOMIZATION, "resources")) == sorted(
        path.name for path in FOLDER.glob("*.yaml") if path.name not in APART
    )
    generated = mapping(KUSTOMIZATION, "configMapGenerator", 0)
    assert all((FOLDER / name).exists() for name in texts(generated, "files"))
    assert generated["name"] in {at(volume, "configMap", "name") for volume in volumes() if "configMap" in volume}
    assert text(KUSTOMIZATION, "images", 0, "name") == text(CONTAINER, "image")


def volumes() -> list[dict[str, Value]]:
    return [dict(mapping(volume)) for volume in sequence(POD, "volumes")]


def test_the_configuration_is_the_distributed_form() -> None:
    """With the Secret's variables; the example holds no secret."""
    config = configured(OVERLAY_ADMIN_TOKEN="ovl_" + "x" * 40)
    assert (config.store.kind, config.ledger.kind) == ("s3", "redis")
    assert config.ledger.url == text(one("Secret"), "stringData", "OVERLAY_LEDGER_URL")
    assert config.server.host == "0.0.0.0"
    assert config.public_url.removeprefix("https://") == text(one("Ingress"), "spec", "rules", 0, "host")
    for name in ("OVERLAY_ADMIN_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert text(one("Secret"), "stringData", name) == ""


def test_variables_that_kubernetes_makes_up_do_not_reach_it() -> None:
    """A Service called overlay would set OVERLAY_PORT, which is no setting, so the overlay would not start."""
    assert text(one("Service"), "metadata", "name") == "overlay"
    with pytest.raises(InvalidConfig, match="OVERLAY_PORT"):
        configured(OVERLAY_PORT="tcp://10.0.0.1:80")
    assert at(POD, "enableServiceLinks") is False


def test_the_command_and_the_mounts_fit() -> None:
    """The file that is named is mounted; /tmp and local_path are all that can be written."""
    mounts = {text(mount, "mountPath"): mapping(mount) for mount in sequence(CONTAINER, "volumeMounts")}
    command, option, path = texts(CONTAINER, "args")
    assert (command, option) == ("serve", "--config")
    assert str(Path(path).parent) in mounts
    assert Path(path).name in texts(KUSTOMIZATION, "configMapGenerator", 0, "files")
    assert {path for path, mount in mounts.items() if "readOnly" not in mount} == {
        "/tmp",
        configured().server.local_path,
    }
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in volumes()}


def test_the_pod_is_restricted() -> None:
    """As the image's user, with no privilege, which the namespace enforces."""
    uid, _ = stages(DEPLOY / "Containerfile")[1][-1].one("USER").split(":")
    assert number(POD, "securityContext", "runAsUser") == int(uid)
    assert at(POD, "securityContext", "runAsNonRoot") is True
    assert at(POD, "securityContext", "seccompProfile", "type") == "RuntimeDefault"
    own = mapping(CONTAINER, "securityContext")
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert texts(own, "capabilities", "drop") == ["ALL"]
    labels = mapping(one("Namespace"), "metadata", "labels")
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_probes_ask_the_right_thing() -> None:
    """Only readiness depends on Redis and S3: starting a pod again mends neither."""
    port = text(CONTAINER, "ports", 0, "name")
    for probe, path in {"startup": "/-/health", "readiness": "/-/ready", "liveness": "/-/health"}.items():
        asked = mapping(CONTAINER, f"{probe}Probe", "httpGet")
        assert asked == {"path": path, "port": port}
    assert number(CONTAINER, "ports", 0, "containerPort") == configured().server.port


def test_a_pod_has_time_to_end() -> None:
    """The pause before SIGTERM and what the overlay takes for uploads under way fit into its grace period."""
    pause = int(texts(CONTAINER, "lifecycle", "preStop", "exec", "command")[1])
    assert pause + worker._STOP_S < number(POD, "terminationGracePeriodSeconds")


def test_a_roll_out_leaves_nobody_without_an_overlay() -> None:
    """There are at least two pods on different hosts if possible; never fewer than there are; drains take one."""
    deployment = one("Deployment")
    assert number(deployment, "spec", "replicas") >= 2
    assert number(deployment, "spec", "strategy", "rollingUpdate", "maxUnavailable") == 0
    assert number(one("PodDisruptionBudget"), "spec", "maxUnavailable") == 1
    keys = [text(spread, "topologyKey") for spread in sequence(POD, "topologySpreadConstraints")]
    assert "kubernetes.io/hostname" in keys


def test_everything_selects_the_pods() -> None:
    """By one label; the Service without pods is where the ingress sends questions for metrics."""
    label = mapping(one("Deployment"), "spec", "template", "metadata", "labels")
    assert mapping(one("Deployment"), "spec", "selector", "matchLabels") == label
    assert mapping(one("Service"), "spec", "selector") == label
    assert mapping(one("PodDisruptionBudget"), "spec", "selector", "matchLabels") == label
    assert mapping(one("NetworkPolicy"), "spec", "podSelector", "matchLabels") == label
    for spread in sequence(POD, "topologySpreadConstraints"):
        assert mapping(spread, "labelSelector", "matchLabels") == label
    assert "selector" not in mapping(one("Service", "nowhere"), "spec")
    routed = {
        text(path, "path"): text(path, "backend", "service", "name")
        for path in sequence(one("Ingress"), "spec", "rules", 0, "http", "paths")
    }
    assert routed == {"/-/metrics": "nowhere", "/": "overlay"}
    annotations = mapping(one("Deployment"), "spec", "template", "metadata", "annotations")
    assert annotations["prometheus.io/path"] == "/-/metrics"
    assert annotations["prometheus.io/port"] == str(configured().server.port)

"""Checks the Kubernetes manifests offline: what kustomize and Helm make of them is valid, strictly, and the same.

Run by `cargo xtask lint`, which brings the tools: deploy/check.py KUSTOMIZED KUSTOMIZED-WITH-TPM CHART
"""

import copy
import sys

import helm_python
import kubernetes_validate
import yaml

# The oldest version that has every field in use, and the newest that there are schemas for.
VERSIONS = ["1.30.0", "1.37.0"]

# Values that a site may set, all of which end in the objects.
OTHER_VALUES = {
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "site"}],
    "extraArgs": ["--recheck=30"],
}


def kustomized(file):
    """What kustomize made, by kind and name. The namespace is left out: with Helm, whoever installs makes it."""
    with open(file, encoding="utf-8") as text:
        objects = by_name(yaml.safe_load_all(text))
    namespace = objects.pop(("Namespace", "enforcer"))
    validate(namespace)
    return objects


def helm(chart, values):
    """What Helm makes of the chart, by kind and name."""
    rendered = chart.render(values, name="enforcer", namespace="enforcer")
    documents = [text for name, text in rendered.items() if name.endswith(".yaml")]
    return by_name(found for text in documents for found in yaml.safe_load_all(text))


def by_name(objects):
    return {(one["kind"], one["metadata"]["name"]): one for one in objects if one}


def validate(one):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            sys.exit(f"{one['kind']} {one['metadata']['name']} in Kubernetes {version}: {path}: {error.message}")


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other)):
            yield from differences(left, right, f"{path}[{index}]")
    elif one != other:
        yield f"{path}: kustomize has {one!r}, Helm has {other!r}"


def same(base, chart, what):
    for key in sorted(base.keys() | chart.keys()):
        found = list(differences(base.get(key), chart.get(key), "/".join(key)))
        if found:
            sys.exit(f"kustomize and Helm differ {what}:\n  " + "\n  ".join(found))


def refuses(one, where, field):
    """The validation is worth something: an unknown field is refused, wherever it is."""
    spoiled = copy.deepcopy(one)
    inner = spoiled
    for key in where:
        inner = inner[key]
    inner[field] = True
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(spoiled, version, strict=True)
        except kubernetes_validate.ValidationError:
            continue
        sys.exit(f"{field} was taken for a field of {'.'.join(map(str, where))} in Kubernetes {version}")


def least_privilege(daemonset):
    """What nobody is to add in passing."""
    pod = daemonset["spec"]["template"]["spec"]
    [container] = pod["containers"]
    context = container["securityContext"]
    wrong = []
    if context["privileged"] or context["allowPrivilegeEscalation"] or not context["readOnlyRootFilesystem"]:
        wrong.append("the container is privileged, may become so, or can write to its root")
    if context["capabilities"]["drop"] != ["ALL"] or "SYS_ADMIN" in context["capabilities"]["add"]:
        wrong.append("capabilities are kept that are not needed")
    if pod.get("hostNetwork") or pod.get("hostIPC") or pod["automountServiceAccountToken"]:
        wrong.append("the pod has the host's network or IPC, or a token")
    if wrong:
        sys.exit("; ".join(wrong))


def main():
    base, with_tpm, chart = sys.argv[1:]
    base, with_tpm = kustomized(base), kustomized(with_tpm)
    with helm_python.Chart.load(chart) as chart:
        rendered, rendered_with_tpm = helm(chart, {}), helm(chart, {"tpm": {"enabled": True}})
        other = helm(chart, OTHER_VALUES)
        try:
            helm(chart, {"tmp": {"enabled": True}})
        except helm_python.HelmError:
            pass
        else:
            sys.exit("the chart takes values that it does not know")
    for objects in base, with_tpm, rendered, rendered_with_tpm, other:
        for one in objects.values():
            validate(one)
    same(base, rendered, "by default")
    same(with_tpm, rendered_with_tpm, "with a TPM")
    daemonset = base[("DaemonSet", "enforcer")]
    pod = ["spec", "template", "spec"]
    for where in [], ["spec"], pod, [*pod, "containers", 0], [*pod, "containers", 0, "securityContext"]:
        refuses(daemonset, where, "noSuchField")
    least_privilege(daemonset)
    [container] = other[("DaemonSet", "enforcer")]["spec"]["template"]["spec"]["containers"]
    if "@sha256:" not in container["image"] or container["args"][-1] != "--recheck=30":
        sys.exit("values of the chart have no effect")
    print(f"{len(base)} objects, the same from kustomize and Helm, valid in Kubernetes {' and '.join(VERSIONS)}")


main()
